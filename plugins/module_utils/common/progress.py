"""Whether a program in a unit still makes progress: its lines, and what the kernel says of its processes.

A process that works uses processor time. One that wants to work and gets no processor, since the host
is busy, is runnable or was kept waiting for a processor. One that does neither, and says nothing, hangs.
The server judges its engine by the same rules.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Processor time, used or waited for, that counts as work; a thread that only wakes up to look uses less.
LEAST_SECONDS = 0.05
# What a step counts at most: whoever watches may have got no processor itself.
LONGEST_STEP = 15.0
_TICKS = os.sysconf("SC_CLK_TCK")
_NANOSECONDS = 1e-9


@dataclass(frozen=True)
class Activity:
    """What processes did until now; JSON has `used` and `waited` by the ids as strings.

    `used`: processor time in seconds, by process. `waited`: seconds that each thread was kept waiting for
    a processor. `runnable`: whether a thread runs or wants to. `lines`: how many were written.
    """

    used: Mapping[str, float] = field(default_factory=dict)
    waited: Mapping[str, float] = field(default_factory=dict)
    runnable: bool = False
    lines: int = 0

    def moved_since(self, before: Activity) -> bool:
        """Whether there was progress between two looks."""
        gained = _gained(before.used, self.used) + _gained(before.waited, self.waited)
        return self.runnable or self.lines != before.lines or gained >= LEAST_SECONDS

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Activity:
        """What was passed from a host as `dataclasses.asdict`."""
        return cls(**document)


def _gained(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    return sum(max(0.0, seconds - before.get(name, 0.0)) for name, seconds in after.items())


def of_processes(pids: Iterable[int], proc: Path, lines: int = 0) -> Activity:
    """The activity of some processes that wrote so many lines; those that end meanwhile are left out."""
    used: dict[str, float] = {}
    waited: dict[str, float] = {}
    runnable = False
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            # User and system time of the process, and of its children that have ended.
            used[str(pid)] = sum(map(int, _stat(proc / str(pid) / "stat")[11:15])) / _TICKS
            for thread in (proc / str(pid) / "task").iterdir():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    runnable = runnable or _stat(thread / "stat")[0] == "R"
                    delay = (thread / "schedstat").read_text().split()[1]
                    waited[thread.name] = int(delay) * _NANOSECONDS
    return Activity(used, waited, runnable, lines)


def _stat(path: Path) -> list[str]:
    """The fields of a stat file from the state on; the name before it may hold anything."""
    return path.read_text(errors="replace").rpartition(")")[2].split()


class Watch:
    """Counts the seconds without progress, which `still` holds."""

    def __init__(self, first: Activity, clock: Callable[[], float] = time.monotonic) -> None:
        self.still = 0.0
        self._clock = clock
        self._looked = clock()
        self._marked = first

    def look(self, activity: Activity) -> float:
        """Take what is seen now; return for how many seconds nothing has moved."""
        now = self._clock()
        self.still += min(now - self._looked, LONGEST_STEP)
        self._looked = now
        if activity.moved_since(self._marked):
            self.still = 0.0
            self._marked = activity
        return self.still
