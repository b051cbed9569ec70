"""Whether a starting engine still makes progress: its lines, and what the kernel says of its processes.

A process that works uses processor time. One that wants to work and gets no processor, since the host
is busy, is runnable or was kept waiting for a processor. One that does neither, and says nothing, hangs.
Read from /proc [proc(5): stat, task/[tid]/schedstat], which shows a service its own processes also
under ProtectProc=invisible.
"""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

LEAST_SECONDS = 0.05
"""Processor time, used or waited for, that counts as work; a thread that only wakes up to look uses less."""

_PROC = Path("/proc")
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_NANOSECONDS = 1e-9


@dataclass(frozen=True)
class Activity:
    """What the processes of a session did until now.

    `used`: processor time in seconds, by process. `waited`: seconds that each thread was kept waiting for
    a processor; empty where the kernel does not count it. `runnable`: whether a thread runs or wants to.
    """

    used: Mapping[int, float] = field(default_factory=dict)
    waited: Mapping[int, float] = field(default_factory=dict)
    runnable: bool = False


def of_session(session: int, proc: Path = _PROC) -> Activity:
    """The activity of all processes of a session; those that end meanwhile are left out."""
    used: dict[int, float] = {}
    waited: dict[int, float] = {}
    runnable = False
    for directory in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = _stat(directory / "stat")
            if int(fields[3]) != session:
                continue
            # User and system time of the process, and of its children that have ended.
            used[int(directory.name)] = sum(map(int, fields[11:15])) / _CLOCK_TICKS
            for thread in (directory / "task").iterdir():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    runnable = runnable or _stat(thread / "stat")[0] == "R"
                    delay = (thread / "schedstat").read_text().split()[1]
                    waited[int(thread.name)] = int(delay) * _NANOSECONDS
    return Activity(used, waited, runnable)


def _stat(path: Path) -> list[str]:
    """The fields of a stat file from the state on; the name before it may hold spaces and brackets."""
    return path.read_text().rpartition(")")[2].split()


def is_starved(before: Activity, after: Activity, seconds: float) -> bool:
    """Whether processes were kept from the processor for most of the `seconds` between two looks.

    One that is kept from it all the time has waited for nothing yet that the kernel has counted.
    """
    used, waited = _gained(before.used, after.used), _gained(before.waited, after.waited)
    return waited >= seconds / 2 or (before.runnable and after.runnable and used < seconds / 10)


class Watch:
    """Counts the seconds without progress.

    `activity` reads what the processes did, `lines` how many lines the engine has written. A step counts
    at most `longest_step` seconds: whoever watches may have got no processor itself.
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
        self._looked = clock()
        self._marked_lines = lines()
        self._marked = activity()

    def look(self) -> float:
        """Look now; return for how many seconds nothing has moved."""
        now = self._clock()
        self.still += min(now - self._looked, self._longest_step)
        self._looked = now
        activity, lines = self._activity(), self._lines()
        gained = _gained(self._marked.used, activity.used) + _gained(self._marked.waited, activity.waited)
        if lines != self._marked_lines or activity.runnable or gained >= LEAST_SECONDS:
            self.still = 0.0
            self._marked, self._marked_lines = activity, lines
        return self.still


def _gained(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    return sum(max(0.0, seconds - before.get(name, 0.0)) for name, seconds in after.items())
