"""The comparison with earlier drills: noise is not flagged, a doubling is."""

from __future__ import annotations

import random
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.plugin_utils.drill import compare
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Record
from tests.unit.drill.recorded_drills import record

recoveries = st.lists(st.floats(0.1, 1e4), min_size=compare.FEWEST, max_size=40)


@given(recoveries, st.floats(0, 1))
def test_recovery_within_25_percent_or_2_s_of_the_median_is_not_flagged(
    earlier: list[float], share: float
) -> None:
    median = statistics.median(earlier[-compare.NEWEST :])
    for most in (1.25 * median, median + 2):
        assert not compare.recovery(share * most * (1 - 1e-9), earlier).slower


@given(recoveries, st.floats(2, 100))
def test_doubled_recovery_is_flagged(earlier: list[float], factor: float) -> None:
    median = statistics.median(earlier[-compare.NEWEST :])
    assert compare.recovery(factor * median, earlier).slower == (median > 2 or factor * median > median + 2)


@given(st.integers(0, 2**32), st.integers(compare.FEWEST, 30), st.floats(3, 1000))
def test_uniform_noise_of_a_ninth_is_never_flagged(seed: int, count: int, usual: float) -> None:
    generator = random.Random(seed)
    drills = [usual * generator.uniform(8 / 9, 10 / 9) for _ in range(count + 1)]
    assert not compare.recovery(drills[-1] * (1 - 1e-9), drills[:-1]).slower


@pytest.mark.parametrize("count", [compare.FEWEST, 10, compare.NEWEST])
@pytest.mark.parametrize(("deviation", "most"), [(0.05, 0.001), (0.1, 0.02), (0.2, 0.05)])
def test_normal_noise_is_rarely_flagged(count: int, deviation: float, most: float) -> None:
    """The fraction over 5,000 drills with a fixed seed."""
    generator = random.Random(20261124)
    flagged = 0
    for _ in range(5000):
        drills = [max(0.1, generator.gauss(60, 60 * deviation)) for _ in range(count + 1)]
        flagged += compare.recovery(drills[-1], drills[:-1]).slower
    assert flagged / 5000 <= most


@given(recoveries, st.floats(1e4, 1e6))
def test_one_exceptional_earlier_drill_does_not_hide_a_doubling(
    earlier: list[float], exceptional: float
) -> None:
    usual = [30.0, 31.0, 29.0, 30.5, 30.0, exceptional]
    assert compare.recovery(60.1, usual).slower


def test_few_earlier_drills_are_not_compared() -> None:
    found = compare.recovery(1000.0, [1.0] * (compare.FEWEST - 1))
    assert found == compare.Comparison(compare.FEWEST - 1, None, None, slower=False)


def test_drill_that_did_not_recover_is_not_called_slower() -> None:
    assert not compare.recovery(None, [10.0] * 6).slower


def test_only_the_newest_drills_count() -> None:
    earlier = [10.0] * 40 + [100.0] * compare.NEWEST
    assert not compare.recovery(110.0, earlier).slower


def drill(number: int, recover: float | None = 30.0, **changes: Any) -> Record:
    started = f"2026-11-{number:02}T06:00:00Z"
    return record(id=f"drill-{number}", started=started, times={"recover": recover}, **changes)


def test_only_passed_earlier_drills_of_the_same_kind_count() -> None:
    new = drill(20)
    others = [
        drill(3, 33.0),
        drill(1, 31.0),
        new,
        drill(21, 1.0),
        drill(4, 1.0, scenario="service_down"),
        drill(5, 1.0, mode="unattended"),
        drill(6, 1.0, fleet="other"),
        drill(7, 1.0, outcome="failed"),
        drill(8, 1.0, outcome="invalid"),
        drill(9, 1.0, outcome="aborted"),
        drill(10, None),
    ]
    assert compare.earlier_recoveries(new, others) == [31.0, 33.0]


def test_slower_drill_is_flagged() -> None:
    others = [drill(number) for number in range(1, 8)]
    assert compare.of(drill(20, 75.0), others).slower
    assert not compare.of(drill(20, 36.0), others).slower
