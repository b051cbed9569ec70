"""Detects whether a starting engine makes progress, from its output and its processes in /proc.

A process that works uses CPU time. A process that gets no CPU because the host is busy is runnable, or was
waiting for a CPU. A process that does neither and writes nothing hangs. The data comes from
/proc [proc(5): stat, task/[tid]/schedstat], where a service sees its own processes even with
ProtectProc=invisible.
"""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

LEAST_SECONDS = 0.05
"""CPU time, used or waited for, that counts as work. Threads that only poll use less."""

_PROC = Path("/proc")
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_NANOSECONDS = 1e-9


@dataclass(frozen=True)
class Activity:
    """Activity of the processes of a session so far.

    `used`: CPU time in seconds, by process. `waited`: seconds that each thread waited for a CPU; empty if
    the kernel does not count it. `runnable`: whether a thread is running or runnable.
    """

    used: Mapping[int, float] = field(default_factory=dict)
    waited: Mapping[int, float] = field(default_factory=dict)
    runnable: bool = False


def of_session(session: int, proc: Path = _PROC) -> Activity:
    """The activity of all processes of a session. Processes that end meanwhile are skipped."""
    used: dict[int, float] = {}
    waited: dict[int, float] = {}
    runnable = False
    for directory in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = _stat(directory / "stat")
            if int(fields[3]) != session:
                continue
            # User and system time of the process and of its ended children.
            used[int(directory.name)] = sum(map(int, fields[11:15])) / _CLOCK_TICKS
            for thread in (directory / "task").iterdir():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    runnable = runnable or _stat(thread / "stat")[0] == "R"
                    delay = (thread / "schedstat").read_text().split()[1]
                    waited[int(thread.name)] = int(delay) * _NANOSECONDS
    return Activity(used, waited, runnable)


def _stat(path: Path) -> list[str]:
    """The fields of a stat file from the state on. The name before it may contain spaces and brackets."""
    return path.read_text().rpartition(")")[2].split()


def is_starved(before: Activity, after: Activity, seconds: float) -> bool:
    """Whether processes got almost no CPU in the `seconds` between two samples because the host was busy.

    The kernel counts waiting time only afterwards, so a process that waits all the time counts as runnable.
    """
    used, waited = _gained(before.used, after.used), _gained(before.waited, after.waited)
    return waited >= seconds / 2 or (before.runnable and after.runnable and used < seconds / 10)


class Watch:
    """Counts the seconds without progress.

    `activity` reads the activity of the processes, `lines` the number of lines that the engine wrote. One
    step counts at most `longest_step` seconds, because the watching process may itself get no CPU.
    """

    def __init__(
        self,
        activity: Callable[[], Activity],
        lines: Callable[[], int],
        longest_step: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.still = 0.0
        self._activity = activity
        self._lines = lines
        self._longest_step = longest_step
        self._clock = clock
        self._checked_at = clock()
        self._marked_lines = lines()
        self._marked = activity()

    def check(self) -> float:
        """Check for progress now. Returns the seconds without progress."""
        now = self._clock()
        self.still += min(now - self._checked_at, self._longest_step)
        self._checked_at = now
        activity, lines = self._activity(), self._lines()
        gained = _gained(self._marked.used, activity.used) + _gained(self._marked.waited, activity.waited)
        if lines != self._marked_lines or activity.runnable or gained >= LEAST_SECONDS:
            self.still = 0.0
            self._marked, self._marked_lines = activity, lines
        return self.still


def _gained(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    return sum(max(0.0, seconds - before.get(name, 0.0)) for name, seconds in after.items())
