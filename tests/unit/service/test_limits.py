"""At any moment the old or the new limits are in force, and a timer or the server itself ends them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import disk
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files
from ansible_collections.katago.fleet.plugins.module_utils.service import limits, overlay_apply
from ansible_collections.katago.fleet.plugins.modules import service_limits

EARLIER, LATER = (datetime(2026, 11, 24, hour, tzinfo=UTC) for hour in (6, 7))


class KilledError(BaseException):
    """The module is killed here."""


@dataclass
class Host:
    """The override and its units below a directory, and the timer's state in systemd.

    `trouble` is called before every step that changes something; it raises to make the step fail.
    """

    root: Path
    armed: str | None = None
    enabled: bool = False
    trouble: Callable[[str], None] = lambda step: None
    steps: list[str] = field(default_factory=list)

    def at(self, step: str) -> None:
        self.steps.append(step)
        self.trouble(step)

    def systemctl(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        verb, units = command[1], command[2:]
        self.at(verb)
        timer = paths.SERVICE_UNIT_FILE.with_name(paths.OVERLAY_TIMER)
        due = next((line for line in self.lines(timer) if line.startswith("OnCalendar=")), None)
        if paths.OVERLAY_TIMER in units:
            self.enabled = {"enable": True, "disable": False}.get(verb, self.enabled)
            self.armed = {"restart": due, "stop": None}.get(verb, self.armed)
        if verb == "daemon-reload" and self.armed:
            self.armed = due
        return subprocess.CompletedProcess(command, 0, "", "")

    def lines(self, path: Path) -> list[str]:
        return path.read_text().splitlines() if path.exists() else []

    def state(self) -> tuple[dict[str, str], str | None, bool]:
        """Everything that a mitigation writes on a host."""
        files = (paths.OVERLAY, *limits.units(EARLIER))
        return {path.name: path.read_text() for path in files if path.exists()}, self.armed, self.enabled


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path)
    monkeypatch.setattr(paths, "SERVICE_UNIT_FILE", tmp_path / paths.SERVICE_UNIT)
    monkeypatch.setattr(paths, "OVERLAY", tmp_path / "overlay.json")
    monkeypatch.setattr(subprocess, "run", host.systemctl)
    write = common_files.write

    def writing(path: Path, content: bytes, *, mode: int) -> None:
        host.at(f"write {path.name}")
        write(path, content, mode=mode)
        host.at(f"sync {path.name}")

    monkeypatch.setattr(common_files, "write", writing)
    return host


def document(expires: datetime) -> limits.Document:
    return limits.document({"katago.maxVisits": 100}, expires, "load", "anna@control")


def due(expires: datetime) -> str:
    return f"OnCalendar={expires:%Y-%m-%d %H:%M:%S} UTC"


spans = pytest.mark.parametrize(
    ("old", "new"), [(None, EARLIER), (EARLIER, LATER), (LATER, EARLIER)], ids=["first", "longer", "shorter"]
)


def steps_of(host: Host, old: datetime | None, new: datetime) -> int:
    """The number of steps to replace the old override with the new one. Leaves the old one in place."""
    overlay_apply.apply(new, document(new))
    count = len(host.steps)
    overlay_apply.disarm()
    paths.OVERLAY.unlink()
    if old:
        overlay_apply.apply(old, document(old))
        host.steps.clear()
        state = host.state()
        overlay_apply.apply(new, document(new))
        count = len(host.steps)
        overlay_apply.apply(old, document(old))
        assert host.state() == state
    host.steps.clear()
    return count


def at_step(number: int, host: Host, error: BaseException) -> Callable[[str], None]:
    """Raise `error` at one step, once."""

    def trouble(_step: str) -> None:
        if len(host.steps) == number:
            raise error

    return trouble


@spans
def test_override_is_the_old_or_the_new_one_and_has_a_timer_wherever_the_module_is_killed(
    host: Host, old: datetime | None, new: datetime
) -> None:
    for number in range(1, steps_of(host, old, new) + 1):
        host.trouble = at_step(number, host, KilledError())
        with pytest.raises(KilledError):
            overlay_apply.apply(new, document(new))
        host.trouble = lambda step: None
        files, armed, enabled = host.state()
        if "overlay.json" in files:
            override = json.loads(files["overlay.json"])
            assert (override, armed) in (
                (document(old or new), due(old or new)),
                (document(old or new), due(new)),
                (document(new), due(new)),
            )
            assert enabled
        assert old is None or "overlay.json" in files
        overlay_apply.disarm()
        paths.OVERLAY.unlink(missing_ok=True)
        if old:
            overlay_apply.apply(old, document(old))
        host.steps.clear()


@spans
@pytest.mark.parametrize(
    "error",
    [
        OSError(28, os.strerror(28)),
        subprocess.CalledProcessError(1, "systemctl", stderr="No space left on device"),
    ],
    ids=["file", "systemd"],
)
def test_failure_at_any_step_is_undone_and_refused(
    host: Host, old: datetime | None, new: datetime, error: Exception
) -> None:
    count = steps_of(host, old, new)
    before = host.state()
    for number in range(1, count + 1):
        host.trouble = at_step(number, host, error)
        with pytest.raises(overlay_apply.RefusedError, match=r"cannot be written: .*No space left on device"):
            overlay_apply.apply(new, document(new))
        assert host.state() == before
        host.steps.clear()


def test_unwritable_disk_is_refused_and_nothing_is_touched(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"katago": {"maxVisits": 1000, "defaultVisits": 200}}
    monkeypatch.setattr(overlay_apply, "look", lambda: (config, None))
    monkeypatch.setattr(disk, "obstacles", lambda places: [f"{place} cannot be written" for place in places])
    parameters = {"limits": {"visits": 100}, "minutes": 5, "why": "load", "who": "anna"}
    with pytest.raises(
        overlay_apply.RefusedError, match=r"cannot be written; .* cannot be written\. Repair the disk"
    ):
        service_limits.lower(SimpleNamespace(params=parameters, check_mode=False))
    assert (host.steps, host.state()) == ([], ({}, None, False))
