"""Decides whether a program in a unit still makes progress, by its output and by its processes in /proc.

A working process uses processor time. On a busy host, a process that cannot get a processor is runnable, or
has waited for a processor. A process that does neither and writes no output hangs. The server applies the
same rules to its engine.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Seconds of processor time, used or waited for, that count as work. A thread that only polls uses less.
LEAST_SECONDS = 0.05
# The longest time without progress that one look can add: the watching process may have got no processor.
LONGEST_STEP = 15.0
_TICKS = os.sysconf("SC_CLK_TCK")
_NANOSECONDS = 1e-9


@dataclass(frozen=True)
class Activity:
    """The activity of processes until now. The keys of `used` and `waited` are ids as strings, as in JSON.

    `used`: processor time in seconds, by process. `waited`: seconds that each thread waited for a processor.
    `runnable`: whether a thread is running or runnable. `lines`: the number of lines written.
    """

    used: Mapping[str, float] = field(default_factory=dict)
    waited: Mapping[str, float] = field(default_factory=dict)
    runnable: bool = False
    lines: int = 0

    def moved_since(self, before: Activity) -> bool:
        """Whether there was progress since an earlier activity."""
        gained = _gained(before.used, self.used) + _gained(before.waited, self.waited)
        return self.runnable or self.lines != before.lines or gained >= LEAST_SECONDS

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Activity:
        """The activity from the JSON of `dataclasses.asdict`, as a host returns it."""
        return cls(**document)


def _gained(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    return sum(max(0.0, seconds - before.get(name, 0.0)) for name, seconds in after.items())


def of_processes(pids: Iterable[int], proc: Path, lines: int = 0) -> Activity:
    """The activity of processes that wrote `lines` lines. Processes that have exited are skipped."""
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
    """The fields of a stat file from the state on. The name before it may contain any character."""
    return path.read_text(errors="replace").rpartition(")")[2].split()


class Watch:
    """Counts the seconds without progress in `still`."""

    def __init__(self, first: Activity, clock: Callable[[], float] = time.monotonic) -> None:
        self.still = 0.0
        self._clock = clock
        self._looked = clock()
        self._marked = first

    def look(self, activity: Activity) -> float:
        """Compare with the current activity; return the number of seconds without progress."""
        now = self._clock()
        self.still += min(now - self._looked, LONGEST_STEP)
        self._looked = now
        if activity.moved_since(self._marked):
            self.still = 0.0
            self._marked = activity
        return self.still
