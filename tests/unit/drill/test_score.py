"""The score of a drill: each criterion, what is not graded, and that worse drills never score better."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.plugin_utils.drill import questions, score
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Record
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS, Scenario
from tests.unit.drill.recorded_drills import SCENARIO, action, at, message, record

ROOT = Path(__file__).resolve().parents[3]
NOTHING: dict[str, None] = dict.fromkeys(("detect", "acknowledge", "mitigate", "recover"))


def credits(drill: Record, scenario: Scenario = SCENARIO) -> dict[str, float | None]:
    """The credit by criterion."""
    return {each.criterion.id: each.credit for each in score.grade(drill, scenario).grades}


def reason(drill: Record, name: str, scenario: Scenario = SCENARIO) -> str:
    (found,) = [each for each in score.grade(drill, scenario).grades if each.criterion.id == name]
    return found.reason


def test_points_of_all_criteria_sum_to_100() -> None:
    assert sum(each.points for each in score.CRITERIA) == 100
    assert len({each.id for each in score.CRITERIA}) == len(score.CRITERIA)


def test_documentation_has_the_table_of_the_code() -> None:
    text = (ROOT / "docs" / "drills.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| (\d+) \| (yes|no) \|", text, re.M)
    expected = [
        (each.part, each.title, str(each.points), "no" if each.people else "yes") for each in score.CRITERIA
    ]
    assert rows == expected


def test_perfect_drill_has_100() -> None:
    found = score.grade(record(), SCENARIO)
    assert (found.value, [each for each in found.reasons if "points" in each]) == (100, [])


@pytest.mark.parametrize(
    ("seconds", "credit"),
    [(0, 1), (60, 1), (60.1, 1 - 0.1 / 120), (120, 0.5), (180, 0), (1000, 0), (None, 0)],
)
def test_time_loses_credit_in_a_line_from_the_target_to_three_times_the_target(
    seconds: float | None, credit: float
) -> None:
    assert credits(record(times={"recover": seconds}))["recover"] == pytest.approx(credit)


def test_time_without_a_target_is_not_graded() -> None:
    assert credits(record(targets={"mitigate": None}))["mitigate"] is None


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([action(30, "rollback"), action(45, "watch")], {"right": 1, "order": 1}),
        ([action(30, "deploy")], {"right": 1, "order": None}),
        ([action(30, "rollback")], {"right": 0.5, "order": None}),
        ([action(30, "watch"), action(45, "rollback")], {"right": 1, "order": 0}),
        ([action(30, "rollback", outcome="failed"), action(45, "watch")], {"right": 0.5}),
        ([], {"right": 0, "evidence": None, "harmless": 1, "needed": 1}),
        ([action(30, "deploy"), action(40, "remove_host")], {"harmless": 0, "needed": 1}),
        ([action(30, "deploy"), action(40, "remove_host", outcome="failed")], {"harmless": 0}),
        ([action(30, "deploy"), action(40, "restart")], {"needed": 0.5}),
        ([action(30, "deploy"), action(40, "restart"), action(41, "backup")], {"needed": 0}),
        ([action(30, "deploy"), action(40, "restart", by="self-healing")], {"needed": 1}),
        ([action(20, "triage"), action(21, "validate"), action(30, "deploy")], {"needed": 1}),
        ([action(30, "deploy"), action(40, "from_a_later_version")], {"needed": 0.5}),
    ],
)
def test_actions_are_compared_with_the_nearest_right_response(
    actions: list[Any], expected: dict[str, float | None]
) -> None:
    found = credits(record(actions=actions))
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("recovered", "actions", "credit"),
    [(True, [], 1), (True, [action(5, "triage")], 1), (False, [], 0), (True, [action(5, "restart")], 0)],
)
def test_doing_nothing_is_right_if_the_fleet_recovers_automatically(
    recovered: bool, actions: list[Any], credit: float
) -> None:
    scenario = replace(SCENARIO, right_procedures=((),))
    drill = record(actions=actions, times={"recover": 20.0 if recovered else None})
    assert credits(drill, scenario)["right"] == credit


def test_automatic_recovery_is_one_of_several_right_responses() -> None:
    scenario = replace(SCENARIO, right_procedures=((), ("restart",)))
    # What self-healing tried in vain is not the responder's action.
    tried = action(5, "restart", by="self-healing", outcome="failed")
    for actions in ([], [action(5, "restart")], [tried]):
        assert credits(record(actions=actions), scenario)["right"] == 1


@pytest.mark.parametrize(
    ("actions", "credit"),
    [
        # A procedure that locks its hosts keeps evidence itself.
        ([action(30, "rollback")], 1),
        ([action(30, "rollback", arguments={"without_evidence": "true"})], 0),
        ([action(20, "evidence"), action(30, "rollback", arguments={"without_evidence": "true"})], 1),
        ([action(30, "rollback", arguments={"without_evidence": "true"}), action(40, "evidence")], 0),
        ([action(20, "evidence", outcome="failed"), action(30, "from_a_later_version")], 0),
        ([action(20, "evidence"), action(30, "from_a_later_version")], 1),
        ([action(30, "rotation_out"), action(40, "healing_pause")], None),
        ([action(30, "free_disk", by="self-healing")], 1),
        ([action(20, "evidence")], None),
    ],
)
def test_evidence_must_be_kept_before_the_first_change(actions: list[Any], credit: float | None) -> None:
    assert credits(record(actions=actions))["evidence"] == credit


def test_evidence_is_not_graded_where_the_scenario_leaves_none() -> None:
    assert credits(record(), replace(SCENARIO, evidence_first=False))["evidence"] is None


MINUTE = 60


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], {"declared": 0, "updated": 0, "audience": 0, "stand_down": 0}),
        # P1: declared within 30 minutes, updated every 15 minutes.
        ([message(30 * MINUTE, "opened", "team")], {"declared": 1}),
        ([message(39 * MINUTE, "opened", "team")], {"declared": 0.85}),
        ([message(39 * MINUTE, "update", "team")], {"declared": 0.85}),
        # What the drill itself announces, before the fault and after the undo.
        (
            [message(-30, "opened", "team"), message(41 * MINUTE, "closed", "team")],
            {"declared": 0, "updated": 0, "audience": 0, "stand_down": 0},
        ),
        (
            [
                message(0, "opened", "team"),
                message(15 * MINUTE, "update", "team"),
                message(30 * MINUTE, "closed", "team"),
            ],
            {"updated": 1, "audience": 0.5, "stand_down": 1},
        ),
        (
            [
                message(0, "opened", "team"),
                message(16 * MINUTE, "update", "team"),
                message(20 * MINUTE, "closed", "team"),
            ],
            {"updated": 0.5},
        ),
        # Nobody closed it: the time until the end of the drill counts as well.
        ([message(0, "opened", "team")], {"updated": 0, "stand_down": 0}),
        (
            [message(0, "opened", "team", "status page", "press"), message(60, "closed", "team")],
            {"audience": pytest.approx(2 / 3), "stand_down": pytest.approx(1 / 3)},
        ),
        # A person who is called to help is not informed without need.
        (
            [
                message(0, "opened", "team", "status page"),
                message(9, "escalated", "senior"),
                message(60, "closed", "team"),
            ],
            {"audience": 1, "stand_down": 0.5},
        ),
        # Closed before the service recovered.
        ([message(0, "opened", "team"), message(40, "closed", "team")], {"stand_down": 0}),
    ],
)
def test_communication(messages: list[Any], expected: dict[str, Any]) -> None:
    found = credits(record(messages=messages, undo={"done": at(40 * MINUTE)}, ended=at(50 * MINUTE)))
    assert {name: found[name] for name in expected} == expected


def test_calling_the_right_role_informs_it() -> None:
    scenario = replace(SCENARIO, audience=("team", "security"))
    messages = [message(0, "opened", "team"), message(9, "escalated", "security")]
    assert credits(record(messages=messages), scenario)["audience"] == 1


def test_incident_that_was_not_recovered_has_no_stand_down() -> None:
    assert credits(record(times={"recover": None}))["stand_down"] == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # 20 s to mitigate, at 10 requests a second: 200 may fail.
        ({"traffic": {"failed": 200}}, {"requests": 1}),
        ({"traffic": {"failed": 400}}, {"requests": 0.5}),
        ({"traffic": {"failed": 600}}, {"requests": 0}),
        ({"traffic": {"requests": 0, "failed": 0}}, {"requests": None}),
        ({"traffic": {"sessions_lost": 1}}, {"sessions": 0.75}),
        ({"traffic": {"sessions": 0}}, {"sessions": None}),
        ({"data": {"lost": 1}}, {"data": 0}),
        ({"data": {"writes": 0}}, {"data": None}),
        ({"differences": [{"host": "katago-1", "what": "x", "before": "", "after": ""}]}, {"clean": 0.5}),
        ({"undo": {"done": None}}, {"clean": 0}),
        ({"undo": {"armed": None, "done": None}}, {"clean": 1}),
    ],
)
def test_impact_and_cleanliness(changes: dict[str, Any], expected: dict[str, float | None]) -> None:
    found = credits(record(**changes))
    assert {name: found[name] for name in expected} == expected


def test_requests_are_compared_with_the_recovery_if_nothing_is_to_be_mitigated() -> None:
    changes: dict[str, Any] = {"targets": {"mitigate": None}, "traffic": {"failed": 600}}
    assert credits(record(**changes))["requests"] == 1


def test_lost_data_is_not_graded_if_the_scenario_may_lose_it() -> None:
    drill = record(data={"lost": 3, "rpo_seconds": 90.0})
    scenario = replace(SCENARIO, lossless=False)
    assert credits(drill, scenario)["data"] is None
    assert "3 of 20 known writes were lost; the oldest is 90 s old" in reason(drill, "data", scenario)


def test_unattended_drill_is_not_graded_for_what_people_do() -> None:
    drill = record(mode="unattended", times={"acknowledge": None}, messages=[], answers={"cause": "wrong"})
    found = score.grade(drill, SCENARIO)
    assert found.value == 100
    assert {each.criterion.id for each in found.grades if each.credit is None} == {
        each.id for each in score.CRITERIA if each.people
    }
    titles = "Acknowledged, Declared, Updated in time, Right audience, Stand-down complete"
    assert found.reasons == [f"Not graded: {titles} (only people do this)."]


def test_answers_count_only_when_they_are_marked() -> None:
    without = score.grade(record(), SCENARIO)
    marked = score.grade(record(answers={"cause": "wrong", "avoid": "I do not know"}), SCENARIO)
    assert (without.value, marked.value) == (100, round(100 * 100 / 105))
    assert "What was the cause?: 0 of 5 points. Marked wrong." in marked.reasons


def test_half_right_answer_has_half_of_its_points() -> None:
    (found,) = [
        each
        for each in score.grade(record(answers={"cause": "Partly: the unit"}), SCENARIO).grades
        if each.criterion.id == "cause"
    ]
    assert (found.earned, found.criterion.points) == (2.5, 5)


@pytest.mark.parametrize("outcome", ["invalid", "aborted"])
def test_invalid_or_aborted_drill_has_no_score(outcome: str) -> None:
    found = score.grade(record(outcome=outcome, reason="The fault did not land."), SCENARIO)
    assert (found.value, found.grades) == (None, ())
    assert found.reasons == [f"No score: the drill is {outcome}: The fault did not land."]


def test_running_drill_has_no_score() -> None:
    assert score.grade(record(outcome="running"), SCENARIO).value is None


def test_failed_drill_is_scored_low() -> None:
    drill = record(outcome="failed", times=NOTHING, actions=[], messages=[], traffic={"failed": 4000})
    assert score.grade(drill, SCENARIO).value == round(100 * (6 + 4 + 4 + 6 + 5) / (100 - 3 - 4)), (
        "only nothing harmful, nothing needless, sessions, data and clean hosts have points"
    )


def test_tabletop_is_scored_by_its_answers_alone() -> None:
    answers = {"cause": "right", "avoid": "wrong"}
    assert score.grade(record(mode="tabletop", answers=answers), SCENARIO).value == 50
    partly = score.grade(record(mode="tabletop", answers={"cause": "right"}), SCENARIO)
    assert (partly.value, partly.why_none) == (None, "1 of 2 answers are not marked")


def test_reason_names_the_lost_points() -> None:
    found = score.grade(record(times={"recover": 120.0}), SCENARIO)
    assert found.reasons[0] == "Recovered: 8 of 16 points. It took 2 min; the target is 60 s."


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda each: each.name)
def test_every_scenario_can_reach_100(scenario: Scenario) -> None:
    best = scenario.right_procedures[-1]
    drill = record(
        actions=[action(number, name) for number, name in enumerate(best)],
        times={"detect": 0.0, "acknowledge": 0.0, "mitigate": 0.0, "recover": 1.0},
        targets=scenario.targets,
        traffic={"failed": 0},
        messages=[message(0, "opened", *scenario.audience), message(60, "closed", *scenario.audience)],
    )
    assert score.grade(drill, scenario).value == 100


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda each: each.name)
def test_no_scenario_calls_a_procedure_right_and_harmful(scenario: Scenario) -> None:
    right = {name for each in scenario.right_procedures for name in each}
    assert right.isdisjoint(scenario.harmful_procedures)


times = st.floats(0, 1e5) | st.none()


@given(
    detect=times,
    mitigate=times,
    recover=times,
    failed=st.integers(0, 4000),
    lost=st.integers(0, 4),
    names=st.lists(st.sampled_from(["rollback", "watch", "restart", "remove_host", "evidence"]), max_size=6),
)
def test_score_is_between_0_and_100_and_never_rises_when_a_drill_is_worse(
    detect: float | None,
    mitigate: float | None,
    recover: float | None,
    failed: int,
    lost: int,
    names: list[str],
) -> None:
    actions = [action(number, name) for number, name in enumerate(names)]
    drill = record(
        times={"detect": detect, "mitigate": mitigate, "recover": recover},
        traffic={"failed": failed, "sessions_lost": lost},
        actions=actions,
    )
    value = score.grade(drill, SCENARIO).value
    assert value is not None
    assert 0 <= value <= 100
    worse: Record = {
        **drill,
        "traffic": {**drill["traffic"], "failed": 4000, "sessions_lost": 4},
        "times": {**drill["times"], "detect": None},
        "differences": [{"host": "katago-1", "what": "x", "before": "", "after": ""}],
    }
    lower = score.grade(worse, SCENARIO).value
    assert lower is not None
    assert lower <= value


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (41.234, "41.2 s"), (119.9, "119.9 s"), (130, "2 min 10 s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert score.duration(seconds) == text


ASKED = questions.of(SCENARIO)


def test_marks_are_parsed_with_their_notes() -> None:
    entries = ["cause=right", " avoid = Partly: restarted once ", ""]
    assert questions.parse(entries, ASKED) == {"cause": "right", "avoid": "Partly: restarted once"}


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        (["cause"], "-e answers has 'cause'. Give ID=MARK, for example cause=right."),
        (["cuase=right"], "the unknown question 'cuase'. Did you mean cause?"),
        (["xyz=right"], "The IDs are cause, avoid, runbook, roles, lessons."),
        (["cause=good"], "The mark is one of right, partly, wrong"),
        (["cause=right", "cause=wrong"], "-e answers has cause twice"),
        ([f"cause=right: {'x' * 600}"], "has 607 characters. The limit is 500"),
    ],
)
def test_invalid_answer_is_refused(entries: list[str], why: str) -> None:
    with pytest.raises(questions.AnswerError, match=re.escape(why)):
        questions.parse(entries, ASKED)


def test_questions_of_every_scenario_have_unique_ids() -> None:
    for scenario in SCENARIOS.values():
        ids = [each.id for each in questions.of(scenario)]
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("repair", ["deploy", "restore", "rollback"])
def test_isolation_that_triage_proposes_for_changed_files_is_not_needless(repair: str) -> None:
    done = [action(30 + number, each) for number, each in enumerate(("security_on", "security_off", repair))]
    found = credits(record(actions=done), SCENARIOS["configuration_corrupted"])
    assert (found["right"], found["order"], found["needed"], found["evidence"]) == (1, 1, 1, 1)


def test_what_the_drill_announces_itself_earns_nothing() -> None:
    sent = [{**message(100, kind, "team"), "by": "drill"} for kind in ("opened", "update", "closed")]
    found = credits(record(messages=sent))
    assert {name: found[name] for name in ("declared", "updated", "audience", "stand_down")} == {
        "declared": 0,
        "updated": 0,
        "audience": 0,
        "stand_down": 0,
    }
