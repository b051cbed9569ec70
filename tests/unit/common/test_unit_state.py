"""What systemd and a process have loaded is compared with the files of now."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import unit_state
from ansible_collections.katago.fleet.plugins.module_utils.common.unit_state import State

RUNS = State(active=True, enabled=True, needs_reload=False, started=1000.0, invocation="a")
SHOWN = {
    "ActiveState": "active",
    "ActiveEnterTimestamp": "@1001",
    "ExecMainStartTimestamp": "@1000",
    "InvocationID": "a",
    "NeedDaemonReload": "no",
    "UnitFileState": "enabled",
}


@pytest.mark.parametrize(
    ("shown", "state"),
    [
        (SHOWN, RUNS),
        ({**SHOWN, "NeedDaemonReload": "yes"}, replace(RUNS, needs_reload=True)),
        # A timer has no process.
        ({**SHOWN, "ExecMainStartTimestamp": ""}, replace(RUNS, started=1001.0)),
        ({"ActiveState": "inactive", "ActiveEnterTimestamp": ""}, State(False, False, False, 0.0, "")),
    ],
)
def test_state_is_read(monkeypatch: pytest.MonkeyPatch, shown: dict[str, str], state: State) -> None:
    monkeypatch.setattr(unit_state, "properties", lambda *_: shown)
    assert unit_state.read("x.service") == state


SERVICE = replace(RUNS, active=False, enabled=False)


@pytest.mark.parametrize(
    ("timer", "service", "is_current"),
    [
        (RUNS, SERVICE, True),
        (replace(RUNS, active=False), SERVICE, False),
        (replace(RUNS, enabled=False), SERVICE, False),
        (replace(RUNS, needs_reload=True), SERVICE, False),
        (RUNS, replace(SERVICE, needs_reload=True), False),
    ],
)
def test_timer_is_current_only_if_all_is_loaded(
    monkeypatch: pytest.MonkeyPatch, timer: State, service: State, is_current: bool
) -> None:
    monkeypatch.setattr(unit_state, "read", {"x.timer": timer, "x.service": service}.__getitem__)
    assert unit_state.is_timer_current("x.timer", "x.service") is is_current


def test_file_or_link_that_changed_after_the_start_is_seen(tmp_path: Path) -> None:
    directory, link = tmp_path / "1", tmp_path / "current"
    directory.mkdir()
    file = directory / "a.yml"
    file.touch()
    link.symlink_to(directory)
    os.utime(file, (900, 900))
    os.utime(link, (900, 900), follow_symlinks=False)
    assert not RUNS.is_older_than([link / "a.yml", tmp_path / "missing"])
    os.utime(link, (1001, 1001), follow_symlinks=False)
    assert RUNS.is_older_than([link / "a.yml"])
    os.utime(file, (1001, 1001))
    assert RUNS.is_older_than([file])
