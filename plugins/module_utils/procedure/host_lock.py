"""The lock of a host: one procedure at a time, and who holds it since when."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import files, shape

# Who takes or releases a lock holds its guard for that moment.
GUARD = ".guard"
GUARD_SECONDS = 10
_POLL_SECONDS = 0.02

Life = Literal["alive", "dead", "unknown"]


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: a person, from a control node, with a run of ansible-playbook.

    `run` tells runs apart, also those of one person. `since` is UTC by the host's clock.
    """

    owner: str
    procedure: str
    run: str
    since: str

    def age(self, now: datetime | None = None) -> float:
        """Seconds since the lock was taken."""
        taken = timestamps.parse(self.since)
        return ((now or datetime.now(timestamps.UTC)) - taken).total_seconds()


def holder(path: Path) -> Holder | None:
    """Who holds the lock now; None when nobody does.

    A lock that cannot be read is held all the same, by `unknown`.
    """
    try:
        return shape.record(Holder, json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return Holder("unknown", "unknown", "unknown", timestamps.stamp(path.lstat().st_mtime))


def take(wanted: Holder, path: Path, *, instead_of: Holder | None = None) -> Holder:
    """Take the lock unless somebody has it; return who holds it now.

    A run that holds it already keeps it as it is. `instead_of` is whose lock is broken for it. Raises
    OSError, TimeoutError when the guard of the lock is not to be had.
    """
    with _guarded(path):
        now = holder(path)
        if now is not None and now != instead_of:
            return now
        # Never shows half a lock to those who only look.
        files.write(path, json.dumps(asdict(wanted)).encode() + b"\n", mode=0o644)
    return wanted


def release(run: str, path: Path) -> bool:
    """Give the lock back; False when `run` does not hold it. Raises OSError, as `take` does."""
    with _guarded(path):
        now = holder(path)
        if now is None or now.run != run:
            return False
        path.unlink()
    return True


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Keep others from taking or releasing the lock; the kernel ends that when the process does."""
    guard = path.with_name(path.name + GUARD)
    descriptor = os.open(guard, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        end = time.monotonic() + GUARD_SECONDS
        while not _flock(descriptor):
            if time.monotonic() > end:
                words = f"another process takes or releases the lock for {GUARD_SECONDS} s; `fuser` names it"
                raise TimeoutError(errno.ETIMEDOUT, words, str(guard))
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _flock(descriptor: int) -> bool:
    """Lock an open file exclusively; False when another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def may_take_over(now: Holder, wanted: Holder, life: Life, breaking: str) -> bool:
    """Whether a lock may be taken from its holder.

    By name on request; or by the same person repeating the same procedure after a run that is known
    to be dead, which is how an interrupted procedure is brought to its end.
    """
    if breaking:
        return breaking == now.owner
    return life == "dead" and (now.owner, now.procedure) == (wanted.owner, wanted.procedure)


def refusal(now: Mapping[str, Any], age: float, life: Life, host: str, breaking: str) -> str:
    """Why a procedure does not begin: whose lock it is, how old, whether its run lives, the way on."""
    lives = {
        "alive": "That run is still at work",
        "dead": "That run is dead",
        "unknown": "Whether that run is still at work cannot be seen from here",
    }[life]
    other = f" break_lock names {breaking}, who does not hold it." if breaking else ""
    return (
        f"Refused; nothing was changed on this host. {host} is locked by {now['owner']} for"
        f" {now['procedure']} since {now['since']} ({words(age)} ago). {lives}.{other} Wait for it, ask"
        f" {now['owner']}, or break the lock by name: -e break_lock={now['owner']}"
    )


def words(seconds: float) -> str:
    """A span of time for people: `40 s`, `12 min`, `3 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = whole // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
