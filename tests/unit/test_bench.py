"""The arithmetic of the benchmarks: percentiles, ratios, verdicts, and errors that a soak excuses."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lab import paths
from tests.bench import scale
from tests.bench.ledger import Absence, Ask, Ledger, quarters
from tests.bench.report import Figure, Report, median, number, paired, percentile, ratio
from tests.bench.rollback import Watch


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (1, 1), (50, 50), (50.5, 51), (99, 99), (99.1, 100), (100, 100)]
)
def test_percentile_is_the_smallest_value_that_enough_values_do_not_exceed(
    percent: float, expected: float
) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], percent) == expected


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], -1), ([1.0], 101), ([1.0], math.nan)])
def test_percentile_without_values_or_out_of_range_is_an_error(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile(values, percent)


def test_ratio_is_the_median_of_the_pairs_not_the_ratio_of_the_medians() -> None:
    figure = ratio("served / bare", [(1.0, 1.0), (50.0, 100.0), (9.0, 10.0)], at_least=0.95)
    assert (figure.value, figure.spread, figure.verdict) == (0.9, (0.5, 1.0), "MISSED")


@pytest.mark.parametrize(
    ("value", "at_least", "at_most", "verdict"),
    [
        (0.95, 0.95, None, "ok"),
        (0.9499, 0.95, None, "MISSED"),
        (1.05, None, 1.05, "ok"),
        (1.0501, None, 1.05, "MISSED"),
        (1.0, None, None, ""),
        (math.nan, 0.95, None, "MISSED"),
        (math.nan, None, 1.05, "MISSED"),
    ],
)
def test_target_includes_its_bound(
    value: float, at_least: float | None, at_most: float | None, verdict: str
) -> None:
    assert Figure("x", value, at_least=at_least, at_most=at_most).verdict == verdict


def test_pairs_are_measured_in_alternating_order() -> None:
    order: list[str] = []

    def subject(name: str, value: float) -> Callable[[int], Awaitable[float]]:
        async def measure(turn: int) -> float:
            order.append(f"{name}{turn}")
            return value + turn

        return measure

    pairs = asyncio.run(paired(3, subject("a", 10), subject("b", 20)))
    assert order == ["a0", "b0", "b1", "a1", "a2", "b2"]
    assert pairs == [(10, 20), (11, 21), (12, 22)]


def test_the_table_shows_value_spread_target_and_verdict() -> None:
    figures = (median("speed", [1.0, 2.0, 4.0], "visits/s"), Figure("ratio", 0.9, at_least=0.95))
    text = Report("name", "a setting", figures, notes=("a note",)).as_text()
    assert text.splitlines() == [
        "name: a setting",
        "",
        "| What  | Measured            | Target        |        |",
        "|-------|---------------------|---------------|--------|",
        "| speed | 2 visits/s (1 to 4) |               |        |",
        "| ratio | 0.9                 | at least 0.95 | MISSED |",
        "a note",
    ]


@pytest.mark.parametrize(
    ("figures", "problems", "ok"),
    [
        ((Figure("x", 1.0, at_least=1.0),), (), True),
        ((Figure("x", 1.0, at_least=2.0),), (), False),
        ((Figure("x", 1.0),), ("something is wrong",), False),
    ],
)
def test_report_fails_with_a_missed_target_or_a_problem(
    figures: tuple[Figure, ...], problems: tuple[str, ...], ok: bool
) -> None:
    report = Report("name", "a setting", figures, problems)
    assert report.ok is ok
    assert json.loads(json.dumps(report.as_dict()))["ok"] is ok


@pytest.mark.parametrize(
    ("value", "text"), [(0.98341, "0.9834"), (48.123, "48.12"), (1234.5, "1234"), (0.0, "0"), (-2.0, "-2")]
)
def test_number_has_four_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


KILLED = Absence(frozenset({"engine_restarted"}), started=10, ended=20)


def judged(ask: Ask, answer: dict[str, Any], *, started: float = 0, ended: float = 1) -> list[str]:
    """The problems of an answer, in a ledger with one absence of the engine."""
    ledger = Ledger(absences=[KILLED])
    ledger.judge(ask, answer, started, ended)
    return ledger.problems


def failure(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": "text"}}


@pytest.mark.parametrize(
    ("started", "ended", "excused"),
    [(0, 9, False), (0, 10, True), (12, 13, True), (20, 30, True), (21, 30, False)],
)
def test_absence_of_the_engine_excuses_requests_during_it(
    started: float, ended: float, excused: bool
) -> None:
    ask = Ask("analyzePosition", {})
    assert (judged(ask, failure("engine_restarted"), started=started, ended=ended) == []) is excused


def test_absence_excuses_no_other_error_and_no_request_without_the_engine() -> None:
    assert judged(Ask("analyzePosition", {}), failure("overloaded"), started=10, ended=20)
    status = Ask("getEngineStatus", {}, needs_engine=False)
    assert judged(status, failure("engine_restarted"), started=10, ended=20)


def test_expected_error_must_have_its_code() -> None:
    ask = Ask("findMistakes", {}, code="no_moves")
    assert judged(ask, failure("no_moves")) == []
    assert judged(ask, failure("invalid_range"))
    assert judged(ask, {"moves": []})


def test_wrong_or_incomplete_answer_is_a_problem() -> None:
    ask = Ask("analyzePosition", {}, lambda answer: [] if answer["lead"] > 0 else ["it is behind"])
    assert judged(ask, {"lead": 1}) == []
    assert judged(ask, {"lead": -1})
    assert judged(ask, {})


def test_partial_answer_needs_an_absence() -> None:
    ask = Ask("findMistakes", {})
    partial = {"partial": True, "unanalysed": [{"code": "engine_restarted"}]}
    assert judged(ask, partial, started=15, ended=16) == []
    assert judged(ask, partial)
    assert judged(ask, {"partial": True, "unanalysed": []}, started=15, ended=16)


def test_cached_answer_equals_the_first_answer() -> None:
    ask = Ask("analyzePosition", {}, repeats=True)
    ledger = Ledger()

    def answer_with(turn: int, lead: int, *, cached: bool) -> None:
        answer = {"lead": lead, "cached": cached, "partial": False}
        ledger.judge(ask, answer, 10 * turn + 1, 10 * turn + 2)

    answer_with(0, 1, cached=False)
    answer_with(1, 1, cached=True)
    assert (ledger.problems, ledger.unexpected_misses) == ([], 0)
    answer_with(2, 2, cached=True)
    assert len(ledger.problems) == 1
    answer_with(3, 3, cached=False)
    assert ledger.unexpected_misses == 1


def test_quarters_of_a_series() -> None:
    assert quarters([1, 2, 3, 4, 5, 6, 7, 8]) == ([3, 4], [7, 8])
    assert quarters([1, 2, 3]) == ((), ())


def test_gap_lasts_from_the_first_failure_to_the_first_success_after_the_last_failure() -> None:
    assert Watch([(0, True), (1, False), (2, True), (3, False), (4, True), (5, True)]).gap == 3
    assert Watch([(0, True)]).gap == 0
    with pytest.raises(ValueError, match="not ready again"):
        _ = Watch([(0, True), (1, False)]).gap


def test_benchmark_of_a_procedure_without_hosts_prints_the_command_to_boot_them() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench", "rollback"],
        cwd=paths.ROOT,
        env={**os.environ, "PYTHONPATH": ".:collections:server/src:server/tests", "LAB_NAME": "no-such-lab"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert (
        "error: the lab 'no-such-lab' has no hosts. Boot them: LAB_NAME=no-such-lab bin/lab up" in run.stderr
    )


def test_tasks_and_headers_are_counted_in_the_output() -> None:
    output = (
        "TASK [Lock the host] ***\nok: [katago-1]\n\nTASK [Keep the evidence] ***\nskipping: [katago-1]\n\n"
        "PLAY RECAP ***\n"
        "katago-1  : ok=4  changed=2  unreachable=0  failed=0  skipped=3  rescued=0  ignored=0   \n"
        "katago-2  : ok=2  changed=2  unreachable=0  failed=1  skipped=0  rescued=1  ignored=0   \n"
    )
    assert scale.counted(output) == (7, 2)


def test_cost_of_more_hosts_is_a_line_through_the_measured_ones() -> None:
    line = scale.fitted([(1, 3.0), (2, 5.0), (4, 9.0)])
    assert (round(line.base, 6), round(line.each, 6), round(line.at(1000), 3)) == (1.0, 2.0, 2001.0)


@pytest.mark.parametrize(("most", "sizes"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_numbers_of_hosts_double_up_to_all(most: int, sizes: list[int]) -> None:
    assert scale.doubled(most) == sizes
