"""Times in records have one format, whichever way they were given."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import timestamps

MOMENT = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "moment", [MOMENT, MOMENT.astimezone(timezone(timedelta(hours=9))), MOMENT.timestamp()]
)
def test_time_is_written_in_utc_to_the_second(moment: datetime | float) -> None:
    assert timestamps.stamp(moment) == "2026-11-24T06:00:00Z"
    assert timestamps.parse("2026-11-24T06:00:00Z") == MOMENT


@pytest.mark.parametrize("text", ["", "2026-11-24", "2026-11-24T06:00:00", "2026-11-24T06:00:00+01:00"])
def test_other_form_of_a_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not match"):
        timestamps.parse(text)


def test_day_is_read() -> None:
    assert timestamps.parse_day("2026-12-31") == date(2026, 12, 31)


@pytest.mark.parametrize("text", ["20261231", "2026-W53-4", "2026-02-30", "31.12.2026"])
def test_other_form_of_a_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"day|date"):
        timestamps.parse_day(text)
