"""Detection of progress of a starting engine."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from katago_mcp import progress
from support import PATIENCE

Run = Callable[..., int]

BUSY = "while True: pass"
IDLE = "import sys; sys.stdin.read()"


@pytest.fixture
def run() -> Iterator[Run]:
    """Start Python programs in separate sessions, and end them."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str, niceness: int = 0) -> int:
        command = ["nice", f"-n{niceness}", sys.executable, "-S", "-c", code]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True))
        return started[-1].pid

    yield start
    for process in started:
        process.kill()
        process.communicate()


def still_after(session: int, seconds: float) -> float:
    """The time without progress, after the session was watched for some time."""
    watch = progress.Watch(lambda: progress.of_session(session), lambda: 0, longest_step=1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.05)
        watch.check()
    return watch.still


def until_idle(session: int) -> None:
    end = time.monotonic() + PATIENCE
    while still_after(session, 0.5) < 0.4:
        assert time.monotonic() < end


def test_process_waiting_for_input_makes_no_progress(run: Run) -> None:
    session = run(IDLE)
    until_idle(session)
    assert still_after(session, 1.0) > 0.8


def test_working_process_makes_progress(run: Run) -> None:
    assert still_after(run(BUSY), 1.0) < 0.5


def test_working_child_is_progress(run: Run) -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}])"
    session = run(code)
    try:
        assert still_after(session, 1.0) < 0.5
    finally:
        os.killpg(session, 9)


def test_process_without_cpu_is_waiting_and_not_stalled(run: Run) -> None:
    """With more work than CPUs, and the lowest priority."""
    for _ in range(2 * (os.cpu_count() or 1)):
        run(BUSY)
    session = run(BUSY, niceness=19)
    assert still_after(session, 2.0) < 1.0


def proc(directory: Path, *, state: str, ticks: int, waited: int, reaped: int = 0) -> Path:
    """A /proc with one process in session 7."""
    thread = directory / "7" / "task" / "7"
    thread.mkdir(parents=True, exist_ok=True)
    line = f"7 (a b) c) {state} 1 7 7 0 -1 0 0 0 0 0 {ticks} 0 {reaped} 0 20 0 1 0 0"
    (directory / "7" / "stat").write_text(line)
    (thread / "stat").write_text(line)
    (thread / "schedstat").write_text(f"0 {waited} 0\n")
    return directory


@pytest.mark.parametrize(
    ("after", "is_still"),
    [
        ({"state": "S", "ticks": 100, "waited": 0}, True),
        ({"state": "D", "ticks": 100, "waited": 0}, True),
        ({"state": "T", "ticks": 100, "waited": 0}, True),
        # A thread that polls and sleeps again.
        ({"state": "S", "ticks": 101, "waited": 1_000_000}, True),
        ({"state": "S", "ticks": 200, "waited": 0}, False),
        ({"state": "S", "ticks": 100, "waited": 0, "reaped": 100}, False),
        ({"state": "R", "ticks": 100, "waited": 0}, False),
        ({"state": "S", "ticks": 100, "waited": 500_000_000}, False),
    ],
    ids=["asleep", "in the disk", "stopped", "polling", "at work", "a child's work", "runnable", "waited"],
)
def test_activity_decides_whether_there_is_progress(
    tmp_path: Path, after: dict[str, object], is_still: bool
) -> None:
    now = [0.0]
    proc(tmp_path, state="S", ticks=100, waited=0)
    watch = progress.Watch(
        lambda: progress.of_session(7, tmp_path), lambda: 0, longest_step=9, clock=lambda: now[0]
    )
    now[0] = 5.0
    proc(tmp_path, **after)  # type: ignore[arg-type]
    assert (watch.check() > 0) is is_still


def test_a_line_is_progress() -> None:
    now, lines = [0.0], [0]
    watch = progress.Watch(progress.Activity, lambda: lines[0], longest_step=9, clock=lambda: now[0])
    now[0] = 5.0
    assert watch.check() == 5.0
    lines[0] = 1
    now[0] = 8.0
    assert watch.check() == 0.0


def test_late_check_counts_only_the_longest_step() -> None:
    """A pause of the whole host does not count as a stalled engine."""
    now = [0.0]
    watch = progress.Watch(progress.Activity, lambda: 0, longest_step=2, clock=lambda: now[0])
    now[0] = 600.0
    assert watch.check() == 2.0


QUIET = progress.Activity({7: 1.0}, {7: 1.0})


@pytest.mark.parametrize(
    ("before", "after", "is_starved"),
    [
        (QUIET, QUIET, False),
        (QUIET, progress.Activity({7: 11.0}, {7: 1.0}, runnable=True), False),
        (QUIET, progress.Activity({7: 1.1}, {7: 9.0}), True),
        (progress.Activity(runnable=True), progress.Activity(runnable=True), True),
        (progress.Activity(runnable=True), progress.Activity({7: 9.0}, runnable=True), False),
    ],
    ids=["asleep", "spins", "waited", "never ran", "runs"],
)
def test_process_is_starved_if_it_got_no_cpu(
    before: progress.Activity, after: progress.Activity, is_starved: bool
) -> None:
    assert progress.is_starved(before, after, 10.0) is is_starved
