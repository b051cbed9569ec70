"""The control node's part of triage: every result of a host becomes a verdict."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.action import triage, triage_baseline
from ansible_collections.katago.fleet.plugins.module_utils.triage import reason, rules_host
from tests.unit.triage.hosts import Facts, having, healthy


class Triage(triage.ActionModule):
    """Runs no module; the host's result is `answer`."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self._task = SimpleNamespace(args={})
        self._answer = answer

    def _execute_module(self, **_: Any) -> dict[str, Any]:
        return self._answer


class Recording(triage_baseline.ActionModule):
    """Returns the arguments that the module would get."""

    def __init__(self, facts: Facts) -> None:
        measured = Triage({"facts": facts}).run()
        self._task = SimpleNamespace(args={"triage": measured})

    def _execute_module(self, module_args: dict[str, Any], **_: Any) -> dict[str, Any]:
        return module_args


@pytest.fixture(autouse=True)
def no_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})


def test_facts_are_judged_and_returned_unchanged() -> None:
    facts = having(unit={"active": "failed"})
    result = Triage({"facts": facts}).run()
    assert (result["verdict"]["verdict"], result["facts"]) == ("P0", facts)


def test_exception_in_one_rule_does_not_affect_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise KeyError("available_percent")

    monkeypatch.setattr(rules_host, "memory", broken)
    reasons = Triage({"facts": having(unit={"active": "failed"})}).run()["verdict"]["reasons"]
    assert [(each["level"], each["rule"]) for each in reasons] == [("P0", "unit"), ("unknown", "memory")]
    assert reasons[1]["measured"].startswith(reason.DEFECT)
    assert "KeyError: 'available_percent'" in reasons[1]["measured"]


@pytest.mark.parametrize("answer", [{}, {"failed": True, "msg": "no Python"}])
def test_host_without_facts_is_unknown(answer: dict[str, Any]) -> None:
    result = Triage(answer).run()
    assert (result["verdict"]["verdict"], result["facts"]) == ("unknown", {})


def test_baseline_is_built_from_the_facts() -> None:
    result = Recording(healthy()).run()
    assert result["baseline"]["median_seconds"] == 0.5


def test_baseline_is_refused_if_the_old_one_cannot_be_read() -> None:
    result = Recording({**healthy(), "baseline": {"unknown": "ValueError: baseline.json is not JSON"}}).run()
    assert result["refused"]
    assert result["problems"] == ["baseline is unknown: ValueError: baseline.json is not JSON"]
