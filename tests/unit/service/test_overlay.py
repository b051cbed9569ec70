"""Limits are only lowered, all problems are reported at once, and the host itself restores the limits."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils.service import limits as service_limits
from ansible_collections.katago.fleet.plugins.module_utils.service import overlay

CONFIG: dict[str, Any] = {
    "server": {"maxQueued": 64},
    "katago": {
        "maxVisits": 1000,
        "defaultVisits": 200,
        "maxTime": 30,
        "maxReviewVisits": 200_000,
        "maxReviewTime": 900,
        "maxConcurrent": 2,
    },
    "cache": {"maxSizeBytes": 256 << 20},
}
NOW = datetime(2026, 11, 24, 6, 30, 0, 1, tzinfo=UTC)
DOCUMENT = service_limits.document(
    {"katago.maxVisits": 100}, NOW.replace(microsecond=0), "load", "anna@control"
)


def parsed(**limits: object) -> dict[str, float]:
    return dict(service_limits.parse(limits, 60, "load").limits)


def problems(limits: dict[str, object], minutes: object = 60, why: str = "load") -> list[str]:
    with pytest.raises(service_limits.OverlayError) as refused:
        service_limits.parse(limits, minutes, why)
    return refused.value.problems


def test_limits_are_numbers_or_texts_in_the_units_of_operators() -> None:
    assert parsed(visits="200", seconds="2.5", concurrent=1, queued=0, cache_mb=64, default_visits=None) == {
        "katago.maxVisits": 200,
        "katago.maxTime": 2.5,
        "katago.maxConcurrent": 1,
        "server.maxQueued": 0,
        "cache.maxSizeBytes": 64 << 20,
    }


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"visits": "many"}, "visits is 'many'; give a whole number of at least 1."),
        ({"visits": 0}, "visits is 0; give a whole number of at least 1."),
        ({"visits": "1.5"}, "visits is '1.5'; give a whole number of at least 1."),
        ({"visits": True}, "visits is True; give a whole number of at least 1."),
        ({"visits": ""}, "visits is ''; give a whole number of at least 1."),
        ({"seconds": "nan"}, "seconds is 'nan'; give a number of at least 1."),
        ({"seconds": 0.5}, "seconds is 0.5; give a number of at least 1."),
        ({"seconds": "inf"}, "seconds is 'inf'; give a number of at least 1."),
        ({"queued": -1}, "queued is -1; give a whole number of at least 0."),
        ({"visits": None}, "No limit is given: give one or more of visits, default_visits, seconds,"),
    ],
)
def test_invalid_limit_is_reported_with_what_is_accepted(limits: dict[str, object], message: str) -> None:
    (problem,) = problems(limits)
    assert problem.startswith(message)


@pytest.mark.parametrize("minutes", [0, 0.09, 1441, "nan", "soon", -1, None, True])
def test_duration_is_bounded(minutes: object) -> None:
    (problem,) = problems({"visits": 1}, minutes)
    assert problem.startswith(f"minutes is {minutes!r}; give a number from 0.1 to 1440.")


@pytest.mark.parametrize("why", ["", "  ", "x" * 1001])
def test_reason_is_required(why: str) -> None:
    (problem,) = problems({"visits": 1}, 60, why)
    assert problem.startswith("why has ")


def test_all_problems_are_reported_at_once() -> None:
    assert len(problems({"visits": "many", "seconds": -1}, 0, "")) == 4


def test_default_visits_are_lowered_with_the_most_visits() -> None:
    assert service_limits.in_force(CONFIG, {"katago.maxVisits": 100}) == {
        "katago.maxVisits": 100,
        "katago.defaultVisits": 100,
    }
    assert service_limits.in_force(CONFIG, {"katago.maxVisits": 300}) == {"katago.maxVisits": 300}
    both = {"katago.maxVisits": 100, "katago.defaultVisits": 50}
    assert service_limits.in_force(CONFIG, both) == both


def test_limit_above_the_configured_one_is_refused_in_the_units_of_operators() -> None:
    with pytest.raises(service_limits.OverlayError) as refused:
        service_limits.in_force(CONFIG, {"katago.maxVisits": 1001, "cache.maxSizeBytes": 300 << 20})
    assert refused.value.problems == [
        "visits is 1001, and katago.maxVisits is configured as 1000: give less. A mitigation only lowers.",
        "cache_mb is 300, and cache.maxSizeBytes is configured as 256: give less. A mitigation only lowers.",
    ]


def test_limit_equal_to_the_configured_one_is_left_out_and_refused_if_it_is_the_only_one() -> None:
    limits = {"katago.maxConcurrent": 2, "katago.maxTime": 10}
    assert service_limits.in_force(CONFIG, limits) == {"katago.maxTime": 10}
    with pytest.raises(
        service_limits.OverlayError, match=r"Nothing would be lowered: katago\.maxConcurrent is 2 already"
    ):
        service_limits.in_force(CONFIG, {"katago.maxConcurrent": 2})


def test_limit_that_the_release_does_not_have_is_refused() -> None:
    config = copy.deepcopy(CONFIG)
    del config["katago"]["maxReviewTime"]
    with pytest.raises(service_limits.OverlayError, match=r"the configuration has no katago\.maxReviewTime"):
        service_limits.in_force(config, {"katago.maxReviewTime": 60})


@given(
    st.dictionaries(
        st.sampled_from([limit.key for limit in service_limits.LIMITS]), st.integers(0, 1 << 29), min_size=1
    )
)
def test_no_limit_is_ever_raised(limits: dict[str, float]) -> None:
    before = service_limits.effective(CONFIG, {})
    try:
        lowered = service_limits.in_force(CONFIG, limits)
    except service_limits.OverlayError:
        return
    after = service_limits.effective(CONFIG, lowered)
    assert all(after[key] <= before[key] for key in before)
    assert after != before
    assert after["katago.defaultVisits"] <= after["katago.maxVisits"]


@given(st.floats(service_limits.SHORTEST_MINUTES, service_limits.LONGEST_MINUTES))
def test_expiry_is_a_whole_second_and_not_before_the_requested_time(minutes: float) -> None:
    ends = service_limits.expiry(minutes, NOW)
    assert ends.microsecond == 0
    assert 0 <= (ends - NOW).total_seconds() - minutes * 60 < 1.000_001


def test_timer_is_absolute_in_utc_persistent_and_enabled() -> None:
    ending, timer = service_limits.units(NOW.replace(microsecond=0)).items()
    assert timer[0] == Path("/etc/systemd/system/katago-mcp-overlay-expiry.timer")
    for line in ("OnCalendar=2026-11-24 06:30:00 UTC", "Persistent=true", "WantedBy=timers.target"):
        assert line in timer[1].splitlines()
    assert ending[0].stem == timer[0].stem


def test_expiry_unit_removes_the_override_the_timer_and_itself() -> None:
    (path, ending), (timer, _) = service_limits.units(NOW).items()
    commands = [line for line in ending.splitlines() if line.startswith("ExecStart=")]
    assert commands[0].endswith("/rm --force /var/lib/katago-mcp/overlay.json")
    assert f"/usr/bin/rm --force {timer} {path}" in commands[3]


def test_diff_shows_every_limit_and_until_when() -> None:
    lowered = service_limits.in_force(CONFIG, {"katago.maxVisits": 100})
    before = service_limits.lines(service_limits.effective(CONFIG, {}), None).splitlines()
    after = service_limits.lines(
        service_limits.effective(CONFIG, lowered), DOCUMENT["expiresAt"]
    ).splitlines()
    assert set(before) - set(after) == {
        "katago.maxVisits: 1000",
        "katago.defaultVisits: 200",
        "until: the next deployment",
    }
    assert set(after) - set(before) == {
        "katago.maxVisits: 100",
        "katago.defaultVisits: 100",
        "until: 2026-11-24T06:30:00Z",
    }


def shown(**changed: object) -> dict[str, Any]:
    """`DOCUMENT` as /health shows it."""
    details = {name: DOCUMENT[name] for name in ("expiresAt", "why", "who")}
    return {"keys": {"katago.maxVisits": 100}, **details, **changed}


def test_every_part_of_the_override_that_the_service_shows_is_compared() -> None:
    lowered = {"katago.maxVisits": 100}
    assert list(service_limits.differences(shown(), DOCUMENT, lowered)) == []
    assert list(service_limits.differences(None, DOCUMENT, lowered)) == [
        "the service shows no lowered limits"
    ]
    for name, value in {"keys": {}, "expiresAt": "2026-11-24T07:00:00Z", "why": "x", "who": "y"}.items():
        (problem,) = service_limits.differences(shown(**{name: value}), DOCUMENT, lowered)
        assert problem.startswith(f"{name} is {value!r}")


def test_override_is_described_in_a_sentence() -> None:
    assert overlay.describe(shown()) == (
        "limits are lowered until 2026-11-24T06:30:00Z by anna@control (katago.maxVisits 100; load)"
    )
    assert overlay.describe(None) == ""


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("yes", "the overlay in /health is 'yes', not an object"),
        ({"keys": {}}, "the overlay in /health.expiresAt is missing"),
        (
            {**shown(), "keys": {"katago.maxVisits": "100"}},
            "keys.katago.maxVisits is '100', not an integer",
        ),
    ],
)
def test_malformed_override_is_described_as_lowered_limits(value: object, message: str) -> None:
    text = overlay.describe(value)
    assert text.startswith("limits are lowered, but the service does not report which: ")
    assert message in text
