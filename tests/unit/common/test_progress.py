"""What counts as progress of a program in a unit."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import progress

PATIENCE = 60
QUIET = progress.Activity({"7": 1.0}, {"7": 1.0}, runnable=False, lines=3)


@pytest.mark.parametrize(
    ("now", "moved"),
    [
        (QUIET, False),
        (progress.Activity({"7": 1.01}, {"7": 1.02}, runnable=False, lines=3), False),
        (progress.Activity({"7": 1.5}, {"7": 1.0}, runnable=False, lines=3), True),
        (progress.Activity({"8": 0.5}, {}, runnable=False, lines=3), True),
        (progress.Activity({"7": 1.0}, {"7": 1.5}, runnable=False, lines=3), True),
        (progress.Activity({"7": 1.0}, {"7": 1.0}, runnable=True, lines=3), True),
        (progress.Activity({"7": 1.0}, {"7": 1.0}, runnable=False, lines=4), True),
        (progress.Activity(), True),
    ],
    ids=["nothing", "polling", "work", "another process", "waited", "runnable", "a line", "ended"],
)
def test_changed_activity_is_progress(now: progress.Activity, moved: bool) -> None:
    assert now.moved_since(QUIET) is moved


def test_activity_survives_a_round_trip_through_json() -> None:
    assert progress.Activity.from_json(json.loads(json.dumps(asdict(QUIET)))) == QUIET


def test_watch_counts_seconds_without_progress_and_limits_its_own_gaps() -> None:
    now = [0.0]
    watch = progress.Watch(QUIET, clock=lambda: now[0])
    now[0] = 10.0
    assert watch.look(QUIET) == 10.0
    now[0] = 600.0
    assert watch.look(QUIET) == 10.0 + progress.LONGEST_STEP
    assert watch.look(progress.Activity(lines=4)) == 0.0


@pytest.fixture
def idle() -> Iterator[int]:
    """A process that waits for input."""
    command = [sys.executable, "-S", "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        stat = Path(f"/proc/{process.pid}/stat")
        end = time.monotonic() + PATIENCE
        while stat.read_text().rpartition(")")[2].split()[0] != "S":
            assert time.monotonic() < end
            time.sleep(0.01)
        yield process.pid
        process.kill()


def test_idle_and_busy_processes_are_distinguished(idle: int) -> None:
    before = progress.of_processes([idle], Path("/proc"))
    time.sleep(0.2)
    assert not progress.of_processes([idle], Path("/proc")).moved_since(before)
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as busy:
        before = progress.of_processes([busy.pid], Path("/proc"))
        time.sleep(0.5)
        after = progress.of_processes([busy.pid], Path("/proc"))
        busy.kill()
    assert after.moved_since(before)


def test_missing_process_is_skipped(tmp_path: Path) -> None:
    assert progress.of_processes([1], tmp_path) == progress.Activity()
