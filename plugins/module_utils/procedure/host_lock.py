"""The lock of a host: it allows one procedure at a time, and records who holds it since when."""

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

# A process holds the guard only while it takes or releases the lock.
GUARD = ".guard"
GUARD_SECONDS = 10
_POLL_SECONDS = 0.02

Life = Literal["alive", "dead", "unknown"]


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    `owner`: person and control node. `run`: identifies a run of ansible-playbook. `since`: UTC, by the
    host's clock.
    """

    owner: str
    procedure: str
    run: str
    since: str

    def age(self, now: datetime | None = None) -> float:
        """Seconds since the lock was taken."""
        start = timestamps.parse(self.since)
        return ((now or datetime.now(timestamps.UTC)) - start).total_seconds()


def holder(path: Path) -> Holder | None:
    """Who holds the lock now; None if nobody does.

    A lock that cannot be read counts as held, by `unknown`.
    """
    try:
        return shape.record(Holder, json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return Holder("unknown", "unknown", "unknown", timestamps.stamp(path.lstat().st_mtime))


def take(claimant: Holder, path: Path, *, instead_of: Holder | None = None) -> Holder:
    """Take the lock if it is free; return who holds it now.

    If the run holds the lock already, the lock stays unchanged. `instead_of` is the holder whose lock is
    broken. Raises OSError, and TimeoutError if the guard of the lock stays taken.
    """
    with _guarded(path):
        now = holder(path)
        if now is not None and now != instead_of:
            return now
        # Written atomically, because others read the lock without the guard.
        files.write(path, json.dumps(asdict(claimant)).encode() + b"\n", mode=0o644)
    return claimant


def release(run: str, path: Path) -> bool:
    """Release the lock; False if `run` does not hold it. Raises OSError and TimeoutError, as `take` does."""
    with _guarded(path):
        now = holder(path)
        if now is None or now.run != run:
            return False
        path.unlink()
    return True


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Keep other processes from taking or releasing the lock. The kernel drops the guard at process exit."""
    guard = path.with_name(path.name + GUARD)
    descriptor = os.open(guard, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        end = time.monotonic() + GUARD_SECONDS
        while not _flock(descriptor):
            if time.monotonic() > end:
                message = (
                    f"another process has held the lock's guard for {GUARD_SECONDS} s; find it with `fuser`"
                )
                raise TimeoutError(errno.ETIMEDOUT, message, str(guard))
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _flock(descriptor: int) -> bool:
    """Lock an open file exclusively; False if another process has locked it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def may_take_over(now: Holder, claimant: Holder, life: Life, breaking: str) -> bool:
    """Whether `claimant` may take the lock from its holder `now`.

    It may if `breaking` names the holder. It also may if the holder's run is dead, and the same person
    repeats the same procedure: this is how an interrupted procedure is finished.
    """
    if breaking:
        return breaking == now.owner
    return life == "dead" and (now.owner, now.procedure) == (claimant.owner, claimant.procedure)


def refusal(now: Mapping[str, Any], age: float, life: Life, host: str, breaking: str) -> str:
    """The error for a locked host: the holder, the lock's age, whether the run lives, what to do next."""
    state = {
        "alive": "That run is still active",
        "dead": "That run is dead",
        "unknown": "This control node cannot see whether that run is still active",
    }[life]
    other = f" break_lock is {breaking}, which is not the holder." if breaking else ""
    return (
        f"Refused; nothing was changed on this host. {host} is locked by {now['owner']} for"
        f" {now['procedure']} since {now['since']} ({duration(age)} ago). {state}.{other} Wait until it"
        f" finishes, ask {now['owner']}, or break the lock: -e break_lock={now['owner']}"
    )


def duration(seconds: float) -> str:
    """A duration for people: `40 s`, `12 min`, `3 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = whole // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
