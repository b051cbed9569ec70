"""What happened between two scrapes: differences, resets, quantiles, and unknown values."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import prometheus
from ansible_collections.katago.fleet.plugins.module_utils.service import metrics


def window(before: str, after: str, *, restarted: bool = False) -> metrics.Window:
    times = (1, 2 if restarted else 1)
    texts = [
        f"process_start_time_seconds {at}\n{text}" for at, text in zip(times, (before, after), strict=True)
    ]
    return metrics.Window(*(prometheus.parse(text) for text in texts))


def counter(**statuses: Any) -> str:
    return "".join(
        f'katago_requests_total{{tool="{tool}",status="{status}"}} {count}\n'
        for tool in ("analyzePosition", "findMistakes")
        for status, count in statuses.items()
    )


def test_requests_are_summed_over_tools() -> None:
    requests = window(counter(ok=10, timeout=0), counter(ok=14, timeout=3)).requests()
    assert requests == {"ok": 8.0, "timeout": 6.0}


@pytest.mark.parametrize("restarted", [True, False])
def test_reset_counts_from_zero(restarted: bool) -> None:
    after = counter(ok=14 if restarted else 4)
    assert window(counter(ok=10), after, restarted=restarted).requests() == {"ok": 28.0 if restarted else 8.0}


@pytest.mark.parametrize("after", ["", counter(ok="NaN")])
def test_missing_or_nan_requests_are_unknown(after: str) -> None:
    assert window(counter(ok=1), after).requests() is None


def test_new_series_counts_from_zero() -> None:
    assert window("", counter(ok=2)).requests() == {"ok": 4.0}


def test_errors_of_the_caller_do_not_count() -> None:
    counts = {"ok": 4.0, "invalid": 9.0, "rejected": 9.0, "error": 1.0, "timeout": 2.0, "unavailable": 3.0}
    assert (metrics.judged(counts), metrics.failed(counts)) == (10.0, 6.0)


def histogram(*counts: float) -> str:
    bounds = ("0.1", "0.5", "1.0", "+Inf")
    return "".join(
        f'katago_analysis_duration_seconds_bucket{{tool="a",le="{bound}"}} {count}\n'
        for bound, count in zip(bounds, counts, strict=True)
    )


def test_quantiles_cover_the_window_only_and_are_interpolated() -> None:
    between = window(histogram(100, 100, 100, 100), histogram(100, 108, 110, 110))
    assert between.latencies((0.4, 0.9)) == pytest.approx([0.3, 0.75])


def test_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert window("", histogram(0, 0, 0, 5)).latencies((0.5,)) == [1.0]


@pytest.mark.parametrize("text", ["", histogram(7, 7, 7, 7)])
def test_latency_is_unknown_without_an_analysis(text: str) -> None:
    assert window(text, text).latencies((0.5,)) is None


def test_hit_rate_covers_the_window_only() -> None:
    before = "katago_cache_hits_total 10\nkatago_cache_misses_total 0\n"
    after = "katago_cache_hits_total 11\nkatago_cache_misses_total 3\n"
    assert window(before, after).hit_rate() == 0.25
    assert window(before, before).hit_rate() is None
    assert window("", "").hit_rate() is None


def test_requested_engine_restarts_are_no_failures() -> None:
    def restarts(exited: int, requested: int) -> str:
        name = "katago_engine_restarts_total"
        return f'{name}{{reason="exited"}} {exited}\n{name}{{reason="requested"}} {requested}\n'

    assert window(restarts(1, 0), restarts(4, 5)).engine_failures() == 3
    assert window("", "").engine_failures() is None


ANSWERED = "katago_analysis_duration_seconds_count"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("", "", 0),
        (f'{ANSWERED}{{tool="a"}} 3\n', f'{ANSWERED}{{tool="a"}} 3\n', 0),
        (f'{ANSWERED}{{tool="a"}} 3\n', f'{ANSWERED}{{tool="a"}} 5\n{ANSWERED}{{tool="b"}} 1\n', 3),
        ("", f'{ANSWERED}{{tool="a"}} NaN\n', None),
    ],
)
def test_analyses_are_counted_and_nan_is_unknown(before: str, after: str, expected: float | None) -> None:
    assert window(before, after).analyses() == expected


OLD = "katago_cache_hits_total {hits}\nkatago_cache_misses_total {misses}\n"
NEW = OLD + "katago_cache_probe_lookups_total 5\n"


@pytest.mark.parametrize(
    ("text", "hits", "misses", "rate"),
    [
        # Nobody uses the service but our five probes, which an old server counts as misses.
        (OLD, 0, 5, None),
        (OLD, 1, 8, 0.25),
        (OLD, 0, 3, None),
        (NEW, 0, 0, None),
        (NEW, 1, 3, 0.25),
        (NEW, 0, 5, 0.0),
    ],
)
def test_own_probes_do_not_count_in_the_hit_rate(
    text: str, hits: int, misses: int, rate: float | None
) -> None:
    after = text.format(hits=hits, misses=misses)
    assert window(text.format(hits=0, misses=0), after).hit_rate(own=5) == rate
