"""A restart waits longer than systemd's own timeout, and reports the processes that still run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.service import control, restart, unit


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Replaces systemctl with one that has this stop timeout and records its other commands."""

    def make(patience: str) -> Path:
        orders = tmp_path / "orders"
        program = tmp_path / "systemctl"
        program.write_text(f"#!/bin/sh\ntest $1 = show && echo '{patience}' || echo $* >> {orders}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return orders

    return make


@pytest.mark.parametrize(
    ("patience", "seconds"),
    [
        ("35s", 35),
        ("1min 30s", 90),
        ("2h 250ms", 7200.25),
        ("1d 1us", 86400.000001),
        ("0", None),
        ("infinity", None),
    ],
)
def test_stop_timeout_of_systemd_is_parsed(
    systemd: Callable[[str], Path], patience: str, seconds: float | None
) -> None:
    systemd(patience)
    assert restart.stop_timeout() == seconds


@pytest.mark.parametrize(
    ("patience", "force", "expected"), [("35s", False, 50), ("infinity", False, 120), ("35s", True, 10)]
)
def test_stop_waits_longer_than_systemd_and_lists_running_processes(
    systemd: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    patience: str,
    force: bool,
    expected: int,
) -> None:
    orders = systemd(patience)
    clock = {"now": 0.0}
    time = SimpleNamespace(monotonic=lambda: clock["now"], sleep=lambda _: clock.update(now=clock["now"] + 1))
    monkeypatch.setattr(f"{control.__name__}.time", time)
    monkeypatch.setattr(unit, "state", lambda: unit.State("deactivating", 7))
    monkeypatch.setattr(unit, "processes", lambda _: [{"pid": 7, "name": "python3"}])
    killed: list[Any] = []
    monkeypatch.setattr(control, "kill", killed.append)
    message = f"the unit is deactivating after {expected} s; processes still running: python3 \\(7\\)"
    with pytest.raises(control.RestartError, match=message):
        control.stop("group", force=force)
    assert clock["now"] == expected + 1
    assert bool(killed) is force
    assert "stop --no-block katago-mcp.service" in orders.read_text()
