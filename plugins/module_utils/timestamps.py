"""The one format of a time in records and on hosts: UTC, to the second, as in 2026-11-24T06:00:00Z."""

from __future__ import annotations

import re
from datetime import date, datetime, timezone

# Not datetime.UTC: a host is locked before it is refused for its Python, which may be older than 3.11.
UTC = timezone.utc  # noqa: UP017 (for that reason)
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


def parse_day(text: str) -> date:
    """A day such as 2026-12-31. Raises ValueError for anything else, other forms of ISO 8601 too."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        raise ValueError(f"{text!r} is not a day such as 2026-12-31")
    return date.fromisoformat(text)
