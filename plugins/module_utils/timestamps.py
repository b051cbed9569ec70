"""The format of times in records and on hosts: UTC with seconds, such as 2026-11-24T06:00:00Z."""

from __future__ import annotations

import re
from datetime import date, datetime, timezone

# Not datetime.UTC, which needs Python 3.11: the lock module runs before the host's Python version is checked.
UTC = timezone.utc  # noqa: UP017 (for that reason)
_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def now() -> str:
    """The current time by this machine's clock."""
    return stamp(datetime.now(UTC))


def stamp(moment: datetime | float) -> str:
    """Format a time for records: a datetime with a time zone, or seconds since the epoch."""
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, UTC)
    return moment.astimezone(UTC).strftime(_FORMAT)


def parse(text: str) -> datetime:
    """Parse a time of a record. Raises ValueError for any other format."""
    return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC)


def parse_day(text: str) -> date:
    """Parse a date such as 2026-12-31. Raises ValueError for any other format, even of ISO 8601."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        raise ValueError(f"{text!r} is not a date such as 2026-12-31")
    return date.fromisoformat(text)
