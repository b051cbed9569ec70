"""What a load generator measures: quantiles, periods and overload, in memory that does not grow."""

from __future__ import annotations

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import statistics
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.client import Kind, Result
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.statistics import (
    Guard,
    Histogram,
    Statistics,
    Timeline,
)


def ended(kind: Kind = "ok", seconds: float = 0.1, **more: object) -> Result:
    return Result(kind, seconds, **more)  # type: ignore[arg-type] # fields of any type


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_quantiles_are_exact_to_two_percent(share: float) -> None:
    histogram = Histogram()
    for number in range(1, 10_001):
        histogram.add(number / 1000)
    assert histogram.quantile(share) == pytest.approx(share * 10, rel=0.021)
    assert histogram.latency()["max"] == 10.0


def test_durations_beyond_the_range_are_counted() -> None:
    histogram = Histogram()
    histogram.add(0.0)
    histogram.add(1e6)
    assert sum(calls for *_, calls in histogram.bars(4)) == 2
    assert histogram.latency()["max"] == 1e6


def test_bars_have_all_calls_and_no_gap() -> None:
    histogram = Histogram()
    for number in range(1, 500):
        histogram.add(number / 100)
    bars = histogram.bars(10)
    assert len(bars) <= 10
    assert sum(calls for *_, calls in bars) == 499
    assert [above for above, *_ in bars[1:]] == pytest.approx([to for _, to, _ in bars[:-1]])


def test_histogram_without_calls_has_no_quantile() -> None:
    assert Histogram().latency() == {"median": None, "p95": None, "p99": None, "max": None}
    assert Histogram().bars(5) == []


def test_periods_become_longer_instead_of_more() -> None:
    timeline = Timeline()
    for second in range(100_000):
        timeline.add(ended("ok" if second % 10 else "broken"), float(second))
    periods = timeline.periods()
    assert len(periods) <= statistics.MOST_PERIODS
    assert sum(period["ok"] for period in periods) == 90_000
    assert sum(period["failed"] for period in periods) == 10_000
    assert periods[1]["start"] == timeline.width == 1024


def test_memory_does_not_grow_with_hosts_of_load_balancers() -> None:
    counted = Statistics()
    for number in range(2 * statistics.MOST_HOSTS):
        counted.add(ended(host=f"h{number}"), 0.0, generation="stateless", target="a", client=1)
    assert len(counted.hosts) == statistics.MOST_HOSTS + 1
    assert counted.hosts[statistics.OTHER_HOSTS].calls == statistics.MOST_HOSTS


def test_calls_are_counted_by_generation_and_host() -> None:
    counted = Statistics()
    counted.add(ended(session=1), 0.5, generation="session", target="a", client=1)
    counted.add(
        ended("session", session=1, session_lost=True, reason="HTTP 404"),
        0.6,
        generation="session",
        target="a",
        client=1,
    )
    counted.add(ended(session=2), 0.7, generation="session", target="a", client=1)
    counted.add(ended("timeout", host="b"), 0.8, generation="stateless", target="a", client=2)
    row = counted.generations["session"].row()
    assert (row["calls"], row["failed"], row["sessions"], row["sessions_lost"]) == (3, {"session": 1}, 2, 1)
    assert {name: tally.calls for name, tally in counted.hosts.items()} == {"a": 3, "b": 1}
    assert counted.total.row()["failed"] == {"session": 1, "timeout": 1}
    assert counted.reasons == {"session": "HTTP 404", "timeout": ""}


def reasons(kinds_of_seconds: list[list[Kind]], limit: float = 3) -> list[str]:
    guard = Guard(limit)
    return [
        found
        for second, kinds in enumerate(kinds_of_seconds)
        for kind in kinds
        if (found := guard.add(ended(kind), second + 0.5))
    ]


def test_overload_for_the_stated_time_ends_a_run() -> None:
    some: list[Kind] = ["overloaded", *["ok"] * 8]  # type: ignore[list-item] # all are kinds
    assert reasons([some] * 3) == []
    assert reasons([some] * 6)[0] == "the service reported overload for 3 s"
    assert reasons([["not_started", "ok"]] * 6)


def test_one_good_second_begins_the_time_again() -> None:
    bad: list[Kind] = ["overloaded"]
    good: list[Kind] = ["ok"]
    assert reasons([bad, bad, good, bad, bad, good]) == []


def test_service_that_fails_most_calls_ends_a_run() -> None:
    assert reasons([["broken", "ok"]] * 6)[0] == "at least half of the calls failed for 3 s"
    assert reasons([["broken", "ok", "ok"]] * 6) == []


def test_seconds_without_a_call_are_neither_good_nor_bad() -> None:
    """Calls that all hang end together, seconds apart."""
    assert reasons([["timeout"], [], [], [], ["timeout"]])
