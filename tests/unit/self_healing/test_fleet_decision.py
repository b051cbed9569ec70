"""The decisions for the fleet: triage consents, the budget bounds, and intrusions stop everything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.budget import (
    DAY,
    FLEET_PER_DAY,
    FLEET_PER_HOUR,
    HOUR,
    Clock,
)
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.fleet_state import (
    FleetRepair,
    Handled,
    State,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.alerts import ALERTS
from ansible_collections.katago.fleet.plugins.plugin_utils.run.procedures import PROCEDURES, inputs_of
from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing import allowed, decision, messages
from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing.messages import Alert

NOW = "2026-11-29T17:00:00Z"
HOSTS = tuple(f"katago-{number}" for number in range(1, 6))
ACTIONS = allowed.parse(tuple(allowed.ACTIONS))
WRONG = Alert("ProbeWrong", "P1", HOSTS[0], NOW, "katago-1 gives wrong answers")
SLOW = Alert("AnalysisSlow", "P2", HOSTS[0], NOW, "slow")
OLD_BACKUP = Alert("BackupOld", "P2", HOSTS[0], NOW, "old backup")
EMPTY = State(Clock("first", 1000, 2 * DAY), NOW)


def host(*reasons: dict[str, Any], next: str | None = None, **facts: Any) -> dict[str, Any]:
    """A host's part of triage's report."""
    return {
        "verdict": reasons[0]["level"] if reasons else "healthy",
        "reasons": list(reasons),
        "undecided": [each["rule"] for each in reasons if each["level"] == "unknown"],
        "next": next,
        "facts": {"lock": {"value": None}, **{name: {"value": value} for name, value in facts.items()}},
    }


def reason(rule: str, level: str = "P1", *, suspicious: bool = False) -> dict[str, Any]:
    return {"rule": rule, "level": level, "measured": f"{rule} is bad", "suspicious": suspicious}


BROKEN = host(reason("probe"))
OVERLOADED = host(
    reason("performance", "P2"),
    next="mitigate.yml -e visits=200 -e minutes=60 -e 'why=\"triage reports performance\"'",
)


def report(**hosts: dict[str, Any]) -> dict[str, Any]:
    """Triage's report of five hosts, of which these are not healthy."""
    names = {name.replace("_", "-"): each for name, each in hosts.items()}
    return {"verdict": "P1", "hosts": {name: names.get(name, host()) for name in HOSTS}}


def decide(
    *alerts: Alert, state: State = EMPTY, actions: Any = ACTIONS, drains: bool = True, **hosts: dict[str, Any]
) -> decision.Decision:
    return decision.decide(alerts, report(**hosts), state, actions=actions, drains=drains)


def spent(action: str, name: str, seconds_ago: float) -> FleetRepair:
    return FleetRepair("id", action, name, "ProbeWrong", NOW, EMPTY.clock.total - seconds_ago, "repaired")


# The allow-list.


@pytest.mark.parametrize(
    "name",
    [
        "restore",
        "purge_cache",
        "remove_host",
        "security_off",
        "security_on",
        "replace_host",
        "deploy",
        "rollback",
        "restart",
        "rotation_in",
        "incident_close",
        "gpu_driver",
        "mitigate.yml",
        "../../x",
        "",
    ],
)
def test_list_that_names_something_else_is_refused(name: str) -> None:
    with pytest.raises(allowed.NotAllowedError, match=r"open_incident, evidence, drain"):
        allowed.parse(["drain", name])
    with pytest.raises(allowed.NotAllowedError):
        allowed.arguments(allowed.Step(name, "katago-1"), ACTIONS)  # type: ignore[arg-type]


def test_empty_list_and_text_are_refused() -> None:
    empty: list[str] = []
    for names in (empty, "drain"):
        with pytest.raises(allowed.NotAllowedError):
            allowed.parse(names)


def test_action_that_the_inventory_does_not_allow_is_not_run() -> None:
    with pytest.raises(allowed.NotAllowedError):
        allowed.arguments(allowed.Step("drain", "katago-1"), allowed.parse(["evidence"]))


@pytest.mark.parametrize("name", ["without_drain", "break_lock", "without_evidence", "katago_mcp_port"])
def test_input_that_is_not_on_the_list_is_refused(name: str) -> None:
    with pytest.raises(allowed.NotAllowedError, match=name):
        allowed.arguments(allowed.Step("drain", "katago-1", {name: "true"}), ACTIONS)


def test_repair_of_all_hosts_at_once_is_refused() -> None:
    with pytest.raises(allowed.NotAllowedError, match="needs a host"):
        allowed.arguments(allowed.Step("drain"), ACTIONS)


def test_text_of_an_alert_stays_one_argument() -> None:
    step = allowed.Step("drain", "katago-1", {"why": "wrong answers -e x=1 --limit all"})
    assert allowed.arguments(step, ACTIONS) == [
        "katago.fleet.rotation_out",
        "--limit=katago-1",
        '--extra-vars={"why": "wrong answers -e x=1 --limit all"}',
    ]


def test_procedures_and_inputs_of_the_list_exist() -> None:
    for action in allowed.ACTIONS.values():
        assert action.inputs <= inputs_of(action.procedure).keys()
    assert allowed.TRIAGE in PROCEDURES


def test_alerts_of_the_list_exist() -> None:
    assert allowed.RESPONSES.keys() <= {alert.name for alert in ALERTS}


# Messages.


def message(*alerts: dict[str, Any]) -> dict[str, Any]:
    return {"status": "firing", "receiver": "fleet-healing", "alerts": list(alerts)}


def alert(
    name: str = "ProbeWrong", instance: str = HOSTS[0], status: str = "firing", **labels: str
) -> dict[str, Any]:
    return {
        "status": status,
        "labels": {"alertname": name, "instance": instance, "severity": "P1", **labels},
        "annotations": {"summary": "wrong"},
        "startsAt": NOW,
        "fingerprint": f"{name}{instance}",
    }


def firing(content: Any) -> list[Alert]:
    return messages.firing(messages.notices(content, HOSTS))


def test_resolved_alert_leads_to_nothing() -> None:
    assert firing(message(alert(status="resolved"))) == []


@pytest.mark.parametrize("name", ["DiskFull", "MonitoringAlive", "restore", ""])
def test_alert_that_healing_is_not_called_for_leads_to_nothing(name: str) -> None:
    assert firing(message(alert(name))) == []


def test_alert_of_an_unknown_host_is_of_no_host() -> None:
    (found,) = firing(message(alert(instance="--all")))
    assert found.host == ""


def test_storm_is_as_many_alerts_as_the_fleet_can_have() -> None:
    storm = message(*(alert(instance=f"katago-{number % 7}", number=str(number)) for number in range(10_000)))
    assert {each.host for each in firing(storm)} == {"", *HOSTS}
    assert len(firing(storm)) == 6


def test_texts_of_alerts_have_no_templates() -> None:
    each = alert()
    each["annotations"] = {"summary": "{{ lookup('pipe', 'id') }}\n" + "x" * 1000}
    (found,) = firing(message(each))
    assert "{" not in found.summary and "\n" not in found.summary and len(found.summary) == 200


@pytest.mark.parametrize("content", [None, [], {}, {"alerts": {}}, {"alerts": ["x"]}])
def test_other_content_is_refused(content: Any) -> None:
    with pytest.raises(shape.ShapeError):
        firing(content)


@given(
    st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_any_content_is_parsed_or_refused(content: Any) -> None:
    for value in (content, {"alerts": content}, {"alerts": [content]}):
        try:
            assert firing(value) == []
        except shape.ShapeError:
            continue


# Decisions.


def test_host_with_wrong_answers_is_drained_and_recorded() -> None:
    decided = decide(WRONG, katago_1=BROKEN)
    assert [each.step for each in decided.repairs] == [allowed.Step("drain", HOSTS[0])]
    assert decided.incident == (WRONG,)
    assert decided.settled == (WRONG,)


def test_host_that_triage_finds_healthy_is_not_repaired() -> None:
    decided = decide(WRONG)
    assert decided.repairs == ()
    assert decided.incident == (WRONG,)
    assert "triage finds nothing" in decided.refused[0].why


def test_limits_are_those_that_triage_proposes() -> None:
    (planned,) = decide(SLOW, katago_1=OVERLOADED).repairs
    assert planned.step == allowed.Step("mitigate", HOSTS[0], {"visits": "200", "minutes": "60"})


@pytest.mark.parametrize(
    "next",
    [
        None,
        "restart.yml",
        "restore.yml",
        "mitigate.yml -e visits=0",
        "mitigate.yml -e cache_mb=1",
        "mitigate.yml -e visits=200;reboot",
        "x mitigate.yml -e visits=200",
    ],
)
def test_other_proposals_are_not_followed(next: str | None) -> None:
    assert decide(SLOW, katago_1={**OVERLOADED, "next": next}).repairs == ()


def test_missing_backup_is_made_without_an_incident() -> None:
    decided = decide(OLD_BACKUP)
    assert [each.step for each in decided.repairs] == [allowed.Step("back_up", HOSTS[0])]
    assert decided.incident == ()


@pytest.mark.parametrize("each", [WRONG, SLOW, OLD_BACKUP])
def test_suspicious_host_is_never_repaired_and_a_person_is_called(each: Alert) -> None:
    suspicious = host(reason("release", "P0", suspicious=True), *BROKEN["reasons"], next=OVERLOADED["next"])
    decided = decide(each, katago_1=suspicious)
    assert decided.repairs == ()
    assert decided.refused[0].calls
    assert decided.incident == (each,)


@pytest.mark.parametrize("rule", ["release", "security_mode", "refused_logins"])
def test_host_of_which_an_intrusion_cannot_be_excluded_is_not_repaired(rule: str) -> None:
    decided = decide(WRONG, katago_1=host(reason("probe"), reason(rule, "unknown")))
    assert decided.repairs == ()
    assert decided.refused[0].calls


def test_unreachable_host_is_not_repaired() -> None:
    unreachable = {**host(reason("reachable", "unknown")), "facts": {}}
    assert decide(WRONG, katago_1=unreachable).repairs == ()


def test_host_that_somebody_works_on_is_left_for_the_next_message() -> None:
    lock = {"owner": "anna@control", "procedure": "deploy"}
    decided = decide(WRONG, katago_1=host(reason("probe"), lock=lock))
    assert decided.repairs == ()
    assert decided.settled == ()
    assert not decided.refused[0].calls


def test_without_load_balancers_no_host_is_drained() -> None:
    assert decide(WRONG, drains=False, katago_1=BROKEN).repairs == ()


def test_action_that_the_inventory_does_not_allow_is_not_planned() -> None:
    assert decide(WRONG, actions=allowed.parse(["open_incident"]), katago_1=BROKEN).repairs == ()


def test_most_hosts_broken_is_no_fault_of_a_host() -> None:
    alerts = [replace(WRONG, host=name) for name in HOSTS[:3]]
    decided = decide(*alerts, katago_1=BROKEN, katago_2=BROKEN, katago_3=BROKEN)
    assert decided.repairs == ()
    assert any(each.calls and "3 of 5 hosts" in each.why for each in decided.refused)


def test_two_hosts_are_repaired_in_a_run_and_the_third_waits() -> None:
    alerts = [replace(OLD_BACKUP, host=name) for name in HOSTS[:3]]
    decided = decide(*alerts)
    assert [each.step.host for each in decided.repairs] == [*HOSTS[:2]]
    assert [each.host for each in decided.settled] == [*HOSTS[:2]]


def test_repair_that_did_not_last_stops() -> None:
    state = replace(EMPTY, repairs=(spent("drain", HOSTS[0], 1800),))
    (refused,) = decide(WRONG, state=state, katago_1=BROKEN).refused
    assert refused.stops and refused.calls and "did not last" in refused.why


def test_budget_of_the_fleet_stops() -> None:
    state = replace(EMPTY, repairs=tuple(spent("back_up", f"other-{number}", 60) for number in range(4)))
    (refused,) = decide(WRONG, state=state, katago_1=BROKEN).refused
    assert refused.stops and "budget of 4 repairs in an hour" in refused.why


def test_cooling_host_is_left_for_a_later_message() -> None:
    state = replace(EMPTY, repairs=(spent("back_up", HOSTS[0], 60),))
    decided = decide(WRONG, state=state, katago_1=BROKEN)
    assert decided.repairs == () and decided.settled == ()
    assert not decided.refused[0].stops


REPAIRS = st.lists(
    st.builds(
        spent,
        st.sampled_from(allowed.REPAIRS),
        st.sampled_from(HOSTS),
        st.floats(0, 2 * DAY, allow_nan=False),
    ),
    max_size=12,
)


@given(REPAIRS, st.lists(st.sampled_from(HOSTS), max_size=10))
def test_budget_is_never_exceeded(repairs: list[FleetRepair], hosts: list[str]) -> None:
    state = replace(EMPTY, repairs=tuple(repairs))
    reported = [messages.Notice(replace(OLD_BACKUP, host=name), name, fires=True) for name in hosts]
    planned = decide(*messages.firing(reported), state=state).repairs
    now = state.clock.total
    for span, most, of_host in ((HOUR, FLEET_PER_HOUR, 2), (DAY, FLEET_PER_DAY, 4)):
        before = [each for each in repairs if now - each.total < span]
        assert not planned or len(before) + len(planned) <= most
        for each in planned:
            assert sum(one.host == each.step.host for one in before) < of_host
    assert len(planned) <= decision.MOST_IN_A_RUN


# One alert, one incident.


def handled(each: Alert, seconds_ago: float, *, settled: bool = True, starts_at: str = NOW) -> State:
    total = EMPTY.clock.total - seconds_ago
    return EMPTY.after(Handled(each.name, each.host, starts_at, total, settled, "INC-1"))


def test_repeated_message_is_not_new() -> None:
    assert decision.new([WRONG], EMPTY) == [WRONG]
    assert decision.new([WRONG], handled(WRONG, 60)) == []


def test_alert_that_was_left_is_tried_again_with_the_same_incident() -> None:
    state = handled(WRONG, 60, settled=False)
    assert decision.new([WRONG], state) == [WRONG]
    assert decision.known_incident(WRONG, state) == "INC-1"


def test_alert_is_new_after_an_hour() -> None:
    assert decision.new([WRONG], handled(WRONG, HOUR)) == [WRONG]


def test_flapping_alert_is_decided_on_again_only_after_a_repair() -> None:
    again = replace(WRONG, starts_at="2026-11-29T17:05:00Z")
    state = handled(WRONG, 300)
    assert decision.new([again], state) == []
    assert decision.new([again], replace(state, repairs=(spent("drain", HOSTS[0], 300),))) == [again]


def test_documentation_names_every_alert_that_reaches_the_program() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs/self-healing.md").read_text()
    assert [name for name in allowed.RESPONSES if name not in text] == []
