"""Parallel checks: if one hangs, dies or raises, only its own entry is unknown."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import workers
from ansible_collections.katago.fleet.plugins.module_utils.common.workers import Measuring, reap

FORK = multiprocessing.get_context("fork")
PATIENCE = 60


def measured(**checks: Any) -> dict[str, dict[str, Any]]:
    running = Measuring()
    for name, check in checks.items():
        running.start(name, check, deadline=0.5 if name == "hangs" else PATIENCE)
    return running.results()


def test_values_of_checks_are_returned() -> None:
    entries = measured(one=lambda: {"a": [1]}, nothing=lambda: None, big=lambda: "x" * 300_000)
    assert entries["one"]["value"] == {"a": [1]}
    assert entries["nothing"]["value"] is None
    assert len(entries["big"]["value"]) == 300_000


def test_failed_check_is_unknown_with_the_reason_and_does_not_affect_others() -> None:
    def fails() -> None:
        raise PermissionError("no")

    def dies() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    entries = measured(
        fails=fails, dies=dies, hangs=lambda: time.sleep(60), nan=lambda: float("nan"), works=lambda: 1
    )
    assert entries["fails"]["unknown"] == "PermissionError: no"
    assert entries["dies"]["unknown"] == "the process of this check died"
    assert entries["hangs"]["unknown"] == "no answer within 0.5 s"
    assert "unknown" in entries["nan"]
    assert entries["works"]["value"] == 1


def test_children_of_a_hanging_check_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"

    def now() -> float:
        # No time passes before the check has its child.
        return 10.0 if pid.exists() and pid.read_text() else 0.0

    def hangs() -> None:
        child = subprocess.Popen(["sleep", "600"])
        pid.write_text(str(child.pid))
        child.wait()

    with monkeypatch.context() as clock:
        clock.setattr(workers, "time", SimpleNamespace(monotonic=now))
        measured(hangs=hangs)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid.read_text()}/stat")
        if not status.exists() or status.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the child lives on")


def test_wait_returns_when_the_named_checks_finish() -> None:
    running = Measuring()
    may_end = FORK.Event()
    running.start("quick", lambda: 1, deadline=PATIENCE)
    running.start("slow", lambda: may_end.wait(PATIENCE), deadline=PATIENCE)
    running.wait({"quick"}, at_most=PATIENCE)
    assert running.entries.keys() == {"quick"}
    running.wait({"slow"}, at_most=0.1)
    assert running.entries.keys() == {"quick"}
    may_end.set()
    assert running.results().keys() == {"quick", "slow"}


def test_output_of_a_check_does_not_reach_the_module(capfd: pytest.CaptureFixture[str]) -> None:
    def talks() -> int:
        os.write(1, b"not JSON")
        os.write(2, b"noise")
        return 1

    assert measured(talks=talks)["talks"]["value"] == 1
    assert capfd.readouterr() == ("", "")


def test_dead_checks_are_reaped() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    reap()
    with pytest.raises(ChildProcessError):
        os.waitpid(child, os.WNOHANG)
