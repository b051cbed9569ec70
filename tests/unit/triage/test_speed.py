"""A slowdown needs more evidence than the noise of the machine. Nothing is timed here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import workers
from ansible_collections.katago.fleet.plugins.module_utils.release.layout import Layout
from ansible_collections.katago.fleet.plugins.module_utils.service import endpoints
from ansible_collections.katago.fleet.plugins.module_utils.triage import (
    baseline,
    baseline_record,
    checks,
    measure,
    rules_speed,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts as triage_facts
from ansible_collections.katago.fleet.plugins.module_utils.triage import verdict as triage_verdict
from tests.unit.triage.hosts import MACHINE, NOW, Facts, having

STEADY = {"median_seconds": 0.26, "spread_seconds": 0.01}
NOISY = {"median_seconds": 0.26, "spread_seconds": 0.06}
OLD = {"median_seconds": 0.26, "fastest_seconds": 0.2, "slowest_seconds": 0.44}
QUIET = (0.25, 0.26, 0.26, 0.27, 0.4)
SLOW = (0.43, 0.44, 0.44, 0.45, 0.6)


def answers(*seconds: float) -> list[dict[str, Any]]:
    return [{"status": "ok", "seconds": each, "problems": []} for each in seconds]


def host(
    recorded: dict[str, float], first: Sequence[float], again: Sequence[float] | None = None, error: str = ""
) -> Facts:
    """A host with a baseline, and the times of the probes of one or two rounds."""
    found = {"identity": "same", "machine": MACHINE, **recorded}
    second = (
        {"asked": len(again), "error": error or None, "answers": answers(*again)}
        if again is not None
        else None
    )
    return having(
        baseline={"found": found},
        probe={"answers": answers(*first), **({"again": second} if second else {})},
    )


def judge(facts: Facts) -> triage_verdict.Verdict:
    return triage_verdict.judge(triage_facts.read(facts), now=NOW)


@pytest.mark.parametrize(
    ("recorded", "first", "again", "level"),
    [
        (STEADY, QUIET, None, "healthy"),
        (STEADY, SLOW, QUIET, "healthy"),
        (STEADY, SLOW, SLOW, "P2"),
        (STEADY, [1.0] * 5, SLOW, "P2"),
        (STEADY, [0.29] * 5, [0.295] * 5, "healthy"),
        (STEADY, [0.295] * 5, [0.3] * 5, "P3"),
        (STEADY, [0.5] * 5, [0.6] * 5, "P1"),
        (NOISY, SLOW, SLOW, "healthy"),
        (NOISY, [0.45] * 5, [0.5] * 5, "P2"),
        (NOISY, [0.9] * 5, [0.8] * 5, "P1"),
        (OLD, SLOW, QUIET, "healthy"),
        (OLD, SLOW, SLOW, "P3"),
        (OLD, [0.45] * 5, [0.46] * 5, "P2"),
        (OLD, [0.5] * 5, [0.5] * 5, "P1"),
    ],
)
def test_slowdown_is_a_finding_if_every_round_shows_it_beyond_the_noise(
    recorded: dict[str, float], first: Sequence[float], again: Sequence[float] | None, level: str
) -> None:
    assert judge(host(recorded, first, again)).verdict == level


def test_rounds_that_differ_are_noted() -> None:
    notes = judge(host(STEADY, SLOW, QUIET)).notes
    assert "a probe takes 0.260 s; the baseline is 0.260 s" in notes
    assert any(each.startswith("the probes vary (0.440 s, then 0.260 s)") for each in notes)


def test_slow_round_without_a_second_one_is_unknown() -> None:
    verdict = judge(host(STEADY, SLOW, (), error="the MCP client did not finish"))
    assert verdict.verdict == "healthy"
    assert (
        "performance is unknown: the first probes were slow, and there were no others to confirm it: the MCP"
        " client did not finish"
    ) in verdict.notes


@pytest.mark.parametrize("again", [None, QUIET])
def test_rounds_as_fast_as_the_baseline_do_not_vary(again: Sequence[float] | None) -> None:
    assert not [each for each in judge(host(STEADY, QUIET, again)).notes if "vary" in each]


def test_failed_analyses_of_the_second_round_are_a_finding() -> None:
    facts = host(STEADY, SLOW, SLOW)
    facts["probe"]["value"]["again"]["answers"][0] |= {"status": "error", "problems": ["timeout"]}
    facts["probe"]["value"]["again"]["answers"].pop()
    (reason,) = [each for each in judge(facts).reasons if each.rule == "probe"]
    assert (reason.level, reason.measured) == ("P2", "2 of 10 probe analyses failed: timeout")


def test_old_baseline_without_a_spread_asks_for_a_new_one() -> None:
    remedy = "the baseline does not record how much probes vary; record a new one with baseline.yml"
    assert remedy in judge(host(OLD, QUIET)).notes
    assert remedy not in judge(host(STEADY, QUIET)).notes


def test_baseline_records_the_spread_of_all_rounds() -> None:
    recorded = baseline_record.make(triage_facts.read(host(STEADY, QUIET, SLOW)), now=NOW)
    assert recorded["probes"] == 10
    assert recorded["median_seconds"] == 0.43
    assert recorded["spread_seconds"] == pytest.approx(0.1, abs=0.06)
    # What varied that much while it was recorded is no finding later.
    found = {name: recorded[name] for name in ("median_seconds", "spread_seconds")}
    assert judge(host(found, SLOW, SLOW)).verdict == "healthy"


@pytest.mark.parametrize(("seconds", "spread"), [((1.0, 1.0, 1.0), 0), ((1, 2, 3, 4, 100), 1), ((1.0,), 0)])
def test_spread_is_not_changed_by_an_outlier(seconds: Sequence[float], spread: float) -> None:
    assert rules_speed.spread_seconds(seconds) == spread


@pytest.mark.parametrize("spread", ["-0.1", "NaN", "Infinity", '"1"', "true", "null"])
def test_unusable_spread_is_reported_with_its_file_and_the_remedy(spread: str, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(f'{{"median_seconds": 0.5, "spread_seconds": {spread}}}')
    with pytest.raises(ValueError, match=r"spread_seconds is .*record a new one with baseline\.yml"):
        baseline.read(path)
    path.write_text(json.dumps({"median_seconds": 0.5, "spread_seconds": 0}))
    assert baseline.read(path) == {"median_seconds": 0.5, "spread_seconds": 0}


@pytest.mark.parametrize(
    ("first", "always", "rounds"),
    [(QUIET, False, 1), (SLOW, False, 2), (QUIET, True, 2)],
)
def test_host_probes_again_only_after_a_slow_round_or_for_a_baseline(
    first: Sequence[float], always: bool, rounds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(
        checks, "probe_round", _round(lambda: {"asked": 5, "error": None, "answers": answers(*SLOW)})
    )
    assert _rounds(first, always, tmp_path) == [first, SLOW][:rounds]


def test_second_round_whose_client_fails_is_no_failed_analysis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> dict[str, Any]:
        raise RuntimeError("the MCP client did not finish")

    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(checks, "probe_round", _round(fails))
    running = _running(SLOW)
    measure._probe_again(
        running, measure.Options(10, 5, 32, 30, False), Layout(tmp_path), endpoints.Endpoints()
    )
    again = running.entries["probe"]["value"]["again"]
    assert (again["asked"], again["answers"]) == (0, [])
    assert "the MCP client did not finish" in again["error"]


def _round(answer: Callable[[], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    return lambda *arguments, **options: answer()


def _running(first: Sequence[float]) -> workers.Measuring:
    running = workers.Measuring()
    facts = host(STEADY, first)
    running.entries = {name: facts[name] for name in ("baseline", "probe")}
    return running


def _rounds(first: Sequence[float], always: bool, root: Path) -> list[Sequence[float]]:
    running = _running(first)
    options = measure.Options(10, 5, 32, 30, False, probe_again=always)
    measure._probe_again(running, options, Layout(root), endpoints.Endpoints())
    value = running.entries["probe"]["value"]
    taken = [value, *([value["again"]] if "again" in value else [])]
    return [tuple(each["seconds"] for each in one["answers"]) for one in taken]
