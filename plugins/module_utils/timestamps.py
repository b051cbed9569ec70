"""The one format of a time in records and on hosts: UTC, to the second, as in 2026-11-24T06:00:00Z."""

from __future__ import annotations

from datetime import UTC, datetime

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def now() -> str:
    """The time by this machine's clock."""
    return stamp(datetime.now(UTC))


def stamp(moment: datetime | float) -> str:
    """A time, with its zone or in seconds since the epoch, as records carry it."""
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, UTC)
    return moment.astimezone(UTC).strftime(_FORMAT)


def parse(text: str) -> datetime:
    """A time that a record carries. Raises ValueError for anything else."""
    return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC)
