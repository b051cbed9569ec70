"""The control node's part of triage: every result of a host becomes a verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.action import triage, triage_baseline
from ansible_collections.katago.fleet.plugins.module_utils.triage import reason, rules_host
from tests.stubs import action_result
from tests.unit.triage.hosts import Facts, having, healthy


@pytest.fixture
def triaged(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The action's result for what its module returns."""
    return lambda answer: action_result(monkeypatch, triage, answer)


@pytest.fixture
def recorded(
    monkeypatch: pytest.MonkeyPatch, triaged: Callable[[dict[str, Any]], dict[str, Any]]
) -> Callable[[Facts], dict[str, Any]]:
    """What the module that records a baseline would get."""

    def record(facts: Facts) -> dict[str, Any]:
        measured = triaged({"facts": facts})
        return action_result(monkeypatch, triage_baseline, lambda _, given: given, triage=measured)

    return record


def test_facts_are_judged_and_returned_unchanged(triaged: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    facts = having(unit={"active": "failed"})
    result = triaged({"facts": facts})
    assert (result["verdict"]["verdict"], result["facts"]) == ("P0", facts)


def test_exception_in_one_rule_does_not_affect_the_others(
    triaged: Callable[[dict[str, Any]], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise KeyError("available_percent")

    monkeypatch.setattr(rules_host, "memory", broken)
    reasons = triaged({"facts": having(unit={"active": "failed"})})["verdict"]["reasons"]
    assert [(each["level"], each["rule"]) for each in reasons] == [("P0", "unit"), ("unknown", "memory")]
    assert reasons[1]["measured"].startswith(reason.DEFECT)
    assert "KeyError: 'available_percent'" in reasons[1]["measured"]


@pytest.mark.parametrize("answer", [{}, {"failed": True, "msg": "no Python"}])
def test_host_without_facts_is_unknown(
    triaged: Callable[[dict[str, Any]], dict[str, Any]], answer: dict[str, Any]
) -> None:
    result = triaged(answer)
    assert (result["verdict"]["verdict"], result["facts"]) == ("unknown", {})


def test_baseline_is_built_from_the_facts(recorded: Callable[[Facts], dict[str, Any]]) -> None:
    result = recorded(healthy())
    assert result["baseline"]["median_seconds"] == 0.5


def test_baseline_is_refused_if_the_old_one_cannot_be_read(
    recorded: Callable[[Facts], dict[str, Any]],
) -> None:
    result = recorded({**healthy(), "baseline": {"unknown": "ValueError: baseline.json is not JSON"}})
    assert result["refused"]
    assert result["problems"] == ["baseline is unknown: ValueError: baseline.json is not JSON"]
