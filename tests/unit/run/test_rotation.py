"""Whether a host left or joined rotation, from the answers of all load balancers."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.katago.fleet.plugins.action import rotation_admission
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import rotation_table
from ansible_collections.katago.fleet.plugins.plugin_utils.run import rotation
from tests.stubs import action_result

ENTRY = {"procedure": "restart", "who": "anna@ops", "since": "2026-01-31T08:05:00Z", "why": "it hangs"}
BY_OPERATOR = {**ENTRY, "procedure": "rotation_out", "why": "disk is worn"}


def answer(number: int = 1, **given: Any) -> dict[str, Any]:
    """What the module returns on a load balancer; by default that nobody is out."""
    return {
        "ansible_loop_var": "_rotation_balancer",
        "_rotation_balancer": f"balancer-{number}",
        "changed": False,
        "entry": None,
        "is_own": False,
        "left": False,
        "servers": {},
        "out": {},
        **given,
    }


def error(number: int = 1, **given: Any) -> dict[str, Any]:
    """The answer of a load balancer on which the module failed."""
    loop = {"ansible_loop_var": "_rotation_balancer", "_rotation_balancer": f"balancer-{number}"}
    return {**loop, "changed": False, **given}


NOT_VALIDATED = "its service is not validated: ready: no answer"
OURS = {"entry": ENTRY, "is_own": True, "changed": True}
REFUSED = error(2, refused=True, msg="2 of 3 hosts serve requests, and 2 must stay.")
UNREACHABLE = error(2, unreachable=True, msg="Connection refused")


@pytest.mark.parametrize("least", [None, 1, 2, "3", "50%"])
def test_budget_is_a_number_or_a_share(least: object) -> None:
    assert rotation.budget_problems(least) == []


@pytest.mark.parametrize("least", [0, True, 1.5, "", "half", ["2"]])
def test_other_budget_is_a_problem_with_its_name_and_what_is_accepted(least: object) -> None:
    (problem,) = rotation.budget_problems(least)
    assert problem.startswith("fleet_min_available is ")
    assert problem.endswith("1 or more, or a share such as 50%.")


@pytest.mark.parametrize(("least", "fleet"), [(3, 3), ("100%", 3), ("50%", 1), (5, None)])
def test_budget_of_the_whole_fleet_is_accepted(least: object, fleet: int | None) -> None:
    assert rotation.budget_problems(least, fleet) == []


@pytest.mark.parametrize(("fleet", "hosts"), [(3, "3 hosts"), (1, "1 host")])
def test_budget_larger_than_the_fleet_is_a_problem_if_a_host_is_to_leave(fleet: int, hosts: str) -> None:
    (problem,) = rotation.budget_problems(5, fleet)
    assert problem.startswith(
        f"fleet_min_available is 5, but the group katago of the inventory has only {hosts},"
    )
    assert "Lower it, set a share such as 50%, or continue anyway: -e without_drain=true." in problem


def left(*answers: dict[str, Any], **given: Any) -> rotation.Left:
    return rotation.left(answers, "katago-1", **{"without_drain": False, **given})


def test_host_that_left_everywhere_is_out() -> None:
    done = left(answer(1, **OURS), answer(2, **OURS))
    assert (done.refusal, done.balancers, done.warnings) == ("", ("balancer-1", "balancer-2"), ())
    assert done.message == "katago-1 was taken out of rotation on balancer-1, balancer-2."


def test_one_refusal_is_enough_and_names_the_load_balancer() -> None:
    done = left(answer(1, **OURS), REFUSED)
    assert done.refusal == (
        "Refused; the service of katago-1 was not interrupted. balancer-2: 2 of 3 hosts serve requests, and 2"
        " must stay."
    )
    assert done.balancers == ()


def test_host_joins_again_only_where_it_was_in_rotation_before_a_refusal() -> None:
    done = left(answer(1, **OURS), answer(3, **OURS, left=True), REFUSED)
    assert done.undo == ("balancer-3",)


def test_unreachable_load_balancer_is_a_warning_if_another_one_works() -> None:
    done = left(answer(1, **OURS), UNREACHABLE)
    assert (done.refusal, done.balancers) == ("", ("balancer-1",))
    assert "balancer-2: it cannot be reached (Connection refused)" in done.warnings[0]
    assert done.message.endswith("katago-1 was not taken out of rotation on balancer-2.")


def test_procedure_is_refused_if_no_load_balancer_works_unless_told_to_continue() -> None:
    answers = (error(1, msg="HAProxy does not run"), UNREACHABLE)
    refusal = left(*answers).refusal
    assert "balancer-1: HAProxy does not run" in refusal
    assert "-e without_drain=true" in refusal
    told = left(*answers, without_drain=True)
    assert (told.refusal, told.balancers) == ("", ())
    assert told.warnings


def test_load_balancer_that_does_not_have_the_host_is_no_obstacle() -> None:
    assert left(answer(1), answer(2, servers=None)) == rotation.Left()


def test_host_that_somebody_took_out_before_is_not_ours() -> None:
    done = left(answer(1, entry=BY_OPERATOR))
    assert (done.balancers, done.message) == ((), "katago-1 was out of rotation before.")


def test_check_mode_predicts() -> None:
    done = left(answer(1, changed=True), check=True)
    assert done.message == "katago-1 would be taken out of rotation on balancer-1."


PASSED = {"name": "ready", "ok": True, "message": ""}
FAILED = {"name": "engine", "ok": False, "message": "it does not answer."}


@pytest.mark.parametrize(
    ("validation", "problem"),
    [
        ({"checks": [PASSED]}, ""),
        ({"checks": [PASSED, FAILED]}, "its service is not validated: engine: it does not answer"),
        ({"checks": [PASSED], "failed": True, "msg": "no"}, "its service cannot be validated: no"),
        ({"checks": []}, "its service cannot be validated: no reason given"),
        (
            {"failed": True, "msg": "There is no release."},
            "its service cannot be validated: There is no release",
        ),
        (
            {"unreachable": True, "msg": "Connection refused"},
            "its service cannot be validated: it cannot be reached (Connection refused)",
        ),
    ],
)
def test_host_may_join_only_if_every_check_of_its_service_passed(
    validation: dict[str, Any], problem: str
) -> None:
    assert rotation.validation_problem(validation) == problem


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([answer(1), answer(2, entry=ENTRY, is_own=True)], True),
        ([answer(1, entry=BY_OPERATOR), UNREACHABLE], False),
        ([], False),
    ],
)
def test_host_is_kept_out_if_one_load_balancer_says_so(
    answers: list[dict[str, Any]], *, expected: bool
) -> None:
    assert rotation.keeps_out(answers) is expected


def joined(*answers: dict[str, Any], **given: Any) -> rotation.Joined:
    return rotation.joined(answers, "katago-1", **given)


def test_host_that_was_in_rotation_all_the_time_is_not_mentioned() -> None:
    assert joined(answer(1), answer(2)) == rotation.Joined()


def test_admitted_host_is_reported() -> None:
    assert joined(answer(1, changed=True)).message == "In rotation again on balancer-1."


def test_host_of_an_operator_stays_out_and_the_message_says_who_and_how_to_admit_it() -> None:
    done = joined(answer(1, entry=BY_OPERATOR), answer(2, entry=BY_OPERATOR))
    assert done.message == (
        "katago-1 stays out of rotation (balancer-1, balancer-2: anna@ops took it out for rotation_out at"
        " 2026-01-31T08:05:00Z: disk is worn). To admit it:"
        " ansible-playbook playbooks/rotation_in.yml -l katago-1"
    )
    assert done.problem == ""


def test_host_that_is_not_validated_stays_out_with_that_reason() -> None:
    done = joined(answer(1, entry=ENTRY, is_own=True), kept_out=NOT_VALIDATED)
    assert done.message.startswith(f"katago-1 stays out of rotation, because {NOT_VALIDATED} (balancer-1")
    assert "rotation_in.yml -l katago-1" in done.message
    assert "not validated" not in joined(answer(1, entry=BY_OPERATOR), kept_out=NOT_VALIDATED).message


def test_host_that_may_still_be_out_on_an_unreachable_load_balancer_is_reported() -> None:
    done = joined(answer(1, changed=True), UNREACHABLE)
    assert done.message.startswith(
        "In rotation again on balancer-1. It may still be out on balancer-2; then: "
    )
    assert (done.problem, len(done.warnings)) == ("", 1)


def test_host_that_no_load_balancer_admits_is_a_problem() -> None:
    done = joined(UNREACHABLE)
    assert "katago-1 may still be out of rotation" in done.problem
    assert "rotation_in.yml -l katago-1" in done.problem


def test_admitted_host_that_gets_no_requests_is_a_problem() -> None:
    done = joined(answer(1, changed=True), error(2, admitted=True, msg="HAProxy sees it DOWN"))
    assert done.problem == "- balancer-2: HAProxy sees it DOWN"


def test_table_has_each_load_balancer_and_each_host() -> None:
    server = {"status": "UP", "weight": 100, "check": "HTTP status 200", "sessions": 3}
    seen = {
        "katago-1": server,
        "katago-2": {**server, "status": "MAINT", "check": "", "sessions": 0},
        "katago-3": {**server, "weight": 0},
    }
    lines = rotation_table.lines(
        [answer(1, servers=seen, out={"katago-2": BY_OPERATOR}), UNREACHABLE, answer(3, servers=None)],
        ["katago-2", "katago-1", "katago-3", "katago-4"],
    )
    assert lines == [
        "balancer-1:",
        "  katago-1  in   UP (weight 100, last check: HTTP status 200, 3 in progress)",
        "  katago-2  out  MAINT (weight 100, 0 in progress); anna@ops took it out for rotation_out at"
        " 2026-01-31T08:05:00Z: disk is worn",
        "  katago-3  in   UP (weight 0, last check: HTTP status 200, 3 in progress); changed by hand in"
        " HAProxy: ansible-playbook playbooks/rotation_in.yml -l katago-3",
        "  katago-4  unknown to HAProxy; add it: ansible-playbook playbooks/load_balancer.yml",
        "balancer-2: unknown, it cannot be reached (Connection refused)",
        "balancer-3: not set up. Set it up: ansible-playbook playbooks/load_balancer.yml",
    ]


def admission(
    monkeypatch: pytest.MonkeyPatch, answers: list[dict[str, Any]], validate: Any
) -> dict[str, Any]:
    """What the action decides; `validate` stands for the validation of the service."""
    result = action_result(monkeypatch, rotation_admission, validate, answers=answers)
    return {name: result[name] for name in ("changed", "state", "kept_out")}


def test_service_of_a_host_that_cannot_be_reached_is_not_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any) -> dict[str, Any]:
        raise AnsibleConnectionFailure("Connection refused")

    assert admission(monkeypatch, [answer(1, entry=ENTRY, is_own=True)], unreachable) == {
        "changed": False,
        "state": "info",
        "kept_out": "its service cannot be validated: it cannot be reached (Connection refused)",
    }


def test_service_is_validated_without_waiting_and_only_if_the_host_is_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    def validate(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        calls.append((name, arguments))
        return {"checks": [PASSED]}

    assert admission(monkeypatch, [answer(1)], validate)["state"] == "info"
    assert calls == []
    assert admission(monkeypatch, [answer(1, entry=ENTRY, is_own=True)], validate)["state"] == "in"
    ((name, arguments),) = calls
    assert (name, arguments["deadline"]) == ("katago.fleet.service_validate", 5)
