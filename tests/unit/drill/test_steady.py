"""The steady state before a drill: what is wrong now counts, but not the journal of earlier drills."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.severity import Level
from ansible_collections.katago.fleet.plugins.module_utils.triage import rules
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason
from ansible_collections.katago.fleet.plugins.module_utils.triage.verdict import Verdict
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import steady
from tests.unit.drill.recorded_drills import record

NOW = datetime(2026, 11, 24, 7, 0, tzinfo=UTC)
CRASHES = Reason("P1", "engine_failures", "the engine failed 5 times in 10 minutes", "fewer than 3 failures")
NOT_READY = Reason("P1", "ready", "/ready returned HTTP 503", "HTTP 200 with ready true")
ERRORS = Reason("P3", "logged_errors", "the service logged 3 errors", "no errors")


def verdict(level: Level, *reasons: Reason) -> Verdict:
    return Verdict(
        verdict=level,
        respond_by=None,
        reasons=reasons,
        undecided=(),
        escalate=(),
        changes=(),
        notes=(),
        proposals=(),
        next=None,
    )


def problems(found: Verdict, *practised: str) -> list[str]:
    return list(steady.problems({"katago-1": found}, frozenset(practised)))


@pytest.mark.parametrize("found", [verdict("healthy"), verdict("P3", ERRORS)])
def test_healthy_host_has_no_problem(found: Verdict) -> None:
    assert problems(found) == []


def test_failures_of_the_last_minutes_are_a_problem() -> None:
    assert problems(verdict("P1", CRASHES)) == [
        "Triage calls katago-1 P1: the engine failed 5 times in 10 minutes."
    ]


def test_failures_of_an_earlier_drill_are_none() -> None:
    assert problems(verdict("P1", CRASHES, ERRORS), "katago-1") == []
    assert problems(verdict("P1", CRASHES), "katago-2") != []


def test_what_is_wrong_now_is_a_problem_after_a_drill_too() -> None:
    assert problems(verdict("P1", NOT_READY, CRASHES), "katago-1") == [
        "Triage calls katago-1 P1: /ready returned HTTP 503."
    ]
    assert problems(verdict("unknown"), "katago-1") == ["Triage calls katago-1 unknown: no reason given."]


@pytest.mark.parametrize(
    ("ended", "hosts"),
    [
        ("2026-11-24T06:51:00Z", {"katago-1"}),
        ("2026-11-24T06:49:00Z", set()),
        (None, set()),
    ],
)
def test_drills_count_as_long_as_triage_looks_back(ended: str | None, hosts: set[str]) -> None:
    assert steady.practised([record(ended=ended, hosts=["katago-1"])], NOW) == hosts


def test_every_rule_that_looks_back_is_known_to_triage() -> None:
    assert rules.RULES.keys() >= steady.HISTORY
