"""The scenarios fit the injector, the procedures and the list that the documentation has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.drill import parameters
from ansible_collections.katago.fleet.plugins.module_utils.drill.faults import FAULTS
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS, Scenario
from ansible_collections.katago.fleet.plugins.plugin_utils.run.procedures import PROCEDURES, inputs_of

ROOT = Path(__file__).resolve().parents[3]
ALL = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())


@ALL
def test_faults_exist_and_accept_their_parameters(scenario: Scenario) -> None:
    for use in scenario.faults:
        if use.where == "control_node":
            assert use.parameters["procedure"] in PROCEDURES
        else:
            parameters.checked(FAULTS[use.fault].parameters, use.parameters, use.fault)


@ALL
def test_procedures_exist_and_the_response_is_a_right_one(scenario: Scenario) -> None:
    steps = tuple(each.procedure for each in scenario.response)
    right = scenario.right_procedures
    assert {
        *steps,
        *scenario.harmful_procedures,
        *(name for each in right for name in each),
    } <= PROCEDURES.keys()
    assert all(each.arguments.keys() <= inputs_of(each.procedure).keys() for each in scenario.response)
    # The response stops as soon as the service has recovered, so its first step alone must be right.
    assert steps[:1] in right
    assert not set(steps) & set(scenario.harmful_procedures)


@ALL
def test_targets_grow(scenario: Scenario) -> None:
    mitigate, recover = scenario.targets["mitigate"], scenario.targets["recover"]
    assert mitigate is not None
    assert recover is not None
    assert mitigate <= recover


@ALL
def test_questions_have_answers_and_ids_of_their_own(scenario: Scenario) -> None:
    ids = [each.id for each in scenario.questions]
    assert ids
    assert len(set(ids)) == len(ids)
    assert all(each.text and each.answer for each in scenario.questions)


def test_every_scenario_is_documented() -> None:
    section = (ROOT / "docs" / "drills.md").read_text().partition("## Scenarios")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(\w+)`", section)) == SCENARIOS.keys()
