"""The lock of a host: it allows one procedure at a time, and records who holds it since when."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import file_lock, files, shape

# A process holds the guard only while it takes or releases the lock.
GUARD = ".guard"
GUARD_SECONDS = 10

SELF_HEALING = "self-healing"
"""The kind of run that a host starts itself, to repair itself."""

Life = Literal["alive", "dead", "unknown"]


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    `owner`: person and control node. `run`: identifies a run of ansible-playbook. `since`: UTC, by the
    host's clock. `id`: names the lock; empty in a lock of version 0.2. `session`: the run's terminal and
    process.
    """

    owner: str
    procedure: str
    run: str
    since: str
    id: str = ""
    session: str = ""

    @property
    def name(self) -> str:
        """What `break_lock` must be to break the lock."""
        return self.id or self.owner

    @property
    def is_of_self_healing(self) -> bool:
        """Whether the host has taken the lock itself, to repair itself."""
        return self.run.startswith(f"{SELF_HEALING}:")

    def age(self, now: datetime | None = None) -> float:
        """Seconds since the lock was taken."""
        start = timestamps.parse(self.since)
        return ((now or datetime.now(timestamps.UTC)) - start).total_seconds()


def holder(path: Path) -> Holder | None:
    """Who holds the lock now; None if nobody does.

    A lock that cannot be read counts as held, by `unknown`.
    """
    try:
        return parse(shape.mapping(json.loads(path.read_text())))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return Holder("unknown", "unknown", "unknown", timestamps.stamp(path.lstat().st_mtime))


def parse(content: Mapping[str, Any]) -> Holder:
    """A lock's content; a later version may have written further fields. Raises ShapeError."""
    names = {field.name for field in fields(Holder)}
    return shape.record(Holder, {name: value for name, value in content.items() if name in names})


def new_id() -> str:
    """An id for a lock that is short enough to be typed."""
    return secrets.token_hex(4)


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


def _guarded(path: Path) -> AbstractContextManager[None]:
    """Keep other processes from taking or releasing the lock."""
    return file_lock.locked(path.with_name(path.name + GUARD), GUARD_SECONDS)


def may_take_over(now: Holder, claimant: Holder, life: Life, breaking: Collection[str]) -> bool:
    """Whether `claimant` may take the lock from its holder `now`.

    It may if `breaking` has the lock's id, or for a lock without one its owner. It also may if the holder's
    run is dead, and the same person repeats the same procedure: this is how an interrupted procedure is
    finished.
    """
    if breaking:
        return now.name in breaking
    return life == "dead" and (now.owner, now.procedure) == (claimant.owner, claimant.procedure)


def refusal(now: Holder, age: float, life: Life, host: str, breaking: Collection[str], command: str) -> str:
    """The error for a locked host: the holder, the lock's age, whether the run lives, what to do next.

    `command`: runs the procedure again and breaks the lock.
    """
    state = {
        "alive": "That run is still active",
        "dead": "That run is dead",
        "unknown": "This control node cannot see whether that run is still active",
    }[life]
    kind = "id of this lock" if now.id else "holder"
    other = f" break_lock is {','.join(breaking)}, which is not the {kind}." if breaking else ""
    session = f" ({now.session})" if now.session else ""
    if now.is_of_self_healing:
        return (
            f"Refused; nothing was changed on this host. {host} has been repairing itself since {now.since}"
            f" ({duration(age)} ago).{other} Wait until self-healing finishes, follow it with journalctl"
            f" --unit='katago-self-healing@*' --follow on the host, or break the lock: {command}"
        )
    return (
        f"Refused; nothing was changed on this host. {host} is locked by {now.owner}{session} for"
        f" {now.procedure} since {now.since} ({duration(age)} ago). {state}.{other} Wait until it"
        f" finishes, ask {now.owner}, or break the lock: {command}"
    )


def duration(seconds: float) -> str:
    """A duration for people: `40 s`, `12 min`, `3 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = whole // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
