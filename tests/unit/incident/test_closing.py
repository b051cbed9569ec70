"""R27: an incident ends only after a watch confirmed each host since its last change, or with an override."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.action import evidence, procedure_event
from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import state
from ansible_collections.katago.fleet.plugins.module_utils.incident.state import (
    Finding,
    Incident,
    RefusedError,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import closing, planner, request
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import watch_table
from ansible_collections.katago.fleet.plugins.plugin_utils.run import runs
from tests import stubs

NOW = datetime(2026, 1, 31, 9, 0, tzinfo=UTC)
OPENED = "2026-01-31T08:00:00Z"


def incident(*unhealthy: str, **changed: Any) -> Incident:
    """An incident, opened at 8:00, with the hosts that were unhealthy then."""
    values: dict[str, Any] = {
        **{"id": "i-1", "opened_at": OPENED, "opened_by": "anna", "started": OPENED, "severity": "P1"},
        **{
            "severity_by": "triage",
            "worst": "P1",
            "respond_by": OPENED,
            "last_update_at": "2026-01-31T09:00:00Z",
        },
        **{"resolution": "restarted", "unhealthy": dict.fromkeys(unhealthy, OPENED), **changed},
    }
    return Incident(**values)


def procedure(
    minute: int, result: str, host: str = "a", name: str = "restart", run: str = "boot/1:42:1"
) -> dict[str, Any]:
    at = f"2026-01-31T08:{minute:02}:00Z"
    who = {"host": host, "who": "anna", "run": run}
    return {"at": at, **who, "procedure": name, "result": result, "message": ""}


def of_earlier_version(line: dict[str, Any]) -> dict[str, Any]:
    """The same line as recorded by versions in which events had no run."""
    return {name: value for name, value in line.items() if name != "run"}


def verdict(minute: int, result: str = "recovered", host: str = "a", began: int = 20) -> dict[str, Any]:
    """A line that playbooks/watch.yml wrote at `minute`, for a window that started at `began`."""
    found = {
        "now": 100.0 + 60 * minute,
        "minutes": 15,
        "verdict": {
            "verdict": result,
            "why": "so",
            "began": 100.0 + 60 * began,
            "ended": 100.0 + 60 * minute,
        },
    }
    return watch_table.event(
        host, watch_table.read(found), datetime(2026, 1, 31, 8, minute, tzinfo=UTC), "anna"
    )


RESTARTED = [procedure(10, "begun"), procedure(12, "changed")]


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([], "a was not watched"),
        (RESTARTED, "a was not watched"),
        ([*RESTARTED, verdict(36)], None),
        ([verdict(36)], None),
        ([*RESTARTED, verdict(36, "breached")], "a is breached (so)"),
        ([*RESTARTED, verdict(36, "unknown")], "a is unknown (so)"),
        ([*RESTARTED, verdict(36, "watching")], "a is watching (so)"),
        ([*RESTARTED, verdict(36), verdict(40, "breached")], "a is breached"),
        ([*RESTARTED, verdict(36, "breached"), verdict(50, began=34)], None),
        ([*RESTARTED, verdict(36, host="b")], "a was not watched"),
        # A change after the watch, or during it, invalidates the watch.
        ([verdict(36), procedure(40, "begun"), procedure(41, "changed")], "before restart changed it at"),
        ([procedure(25, "begun"), procedure(26, "changed"), verdict(36)], "before restart changed it at"),
        # A procedure that started before the window may still validate during it.
        ([procedure(19, "begun"), procedure(22, "changed"), verdict(36)], None),
        # A failed or killed procedure may have changed the host.
        ([verdict(36), procedure(40, "begun"), procedure(41, "partial")], "before restart changed it"),
        ([verdict(36), procedure(40, "begun")], "before restart changed it"),
        ([verdict(36), procedure(40, "begun"), procedure(41, "refused")], None),
        ([verdict(36), procedure(40, "begun"), procedure(41, "ok")], None),
        ([verdict(36), procedure(41, "ok", name="evidence"), procedure(42, "changed", name="backup")], None),
        ([verdict(36), procedure(41, "changed", name="baseline")], None),
    ],
)
def test_host_must_have_recovered_since_it_was_changed(
    events: list[dict[str, Any]], words: str | None
) -> None:
    problems = closing.unmet(incident("a"), events)
    assert bool(problems) is (words is not None)
    assert words is None or words in problems[0]


OTHER = "boot/1:43:1"


@pytest.mark.parametrize(
    ("events", "at"),
    [
        # Another run is refused while the first one is running or was killed.
        ([procedure(40, "begun"), procedure(41, "refused", run=OTHER)], "08:40"),
        (
            [procedure(40, "begun"), procedure(41, "begun", run=OTHER), procedure(42, "refused", run=OTHER)],
            "08:40",
        ),
        (
            [procedure(40, "begun"), procedure(41, "begun", run=OTHER), procedure(42, "ok", run=OTHER)],
            "08:40",
        ),
        ([procedure(40, "begun"), procedure(41, "refused", run=OTHER), procedure(43, "changed")], "08:40"),
        ([procedure(40, "begun"), procedure(41, "refused", run=OTHER), procedure(43, "refused")], None),
        # A procedure that continues without evidence records its start twice.
        ([procedure(40, "begun"), procedure(41, "begun"), procedure(42, "refused")], None),
        ([procedure(40, "begun"), procedure(41, "begun"), procedure(42, "ok")], None),
    ],
)
def test_result_of_another_run_does_not_finish_a_procedure(
    events: list[dict[str, Any]], at: str | None
) -> None:
    watched = [*RESTARTED, verdict(36), *events]
    words = (
        f"the watch of a started at 2026-01-31T08:20:00Z, before restart changed it at 2026-01-31T{at}:00Z"
    )
    assert closing.unmet(incident("a"), watched) == ([words] if at else [])


@pytest.mark.parametrize(
    ("events", "at"),
    [
        ([procedure(40, "begun"), procedure(41, "refused")], "08:40"),
        ([procedure(40, "begun"), procedure(41, "begun"), procedure(42, "refused")], "08:41"),
        ([procedure(40, "begun"), procedure(41, "begun"), procedure(42, "ok")], "08:40"),
        ([procedure(40, "begun"), procedure(41, "ok")], None),
        ([procedure(40, "begun"), procedure(41, "changed")], "08:40"),
        ([procedure(41, "refused")], None),
    ],
)
def test_no_change_is_missed_in_records_without_a_run(events: list[dict[str, Any]], at: str | None) -> None:
    found = closing.changes([of_earlier_version(line) for line in events])
    assert found == ({"a": (f"2026-01-31T{at}:00Z", "restart")} if at else {})


def action_of(plugin: Any, tmp_path: Path, **arguments: Any) -> Any:
    """An action plugin on this machine, without a connection."""
    given: dict[str, Any] = {
        "records_dir": str(tmp_path),
        "incident": "i-1",
        "procedure": "restart",
        "who": "a",
        **arguments,
    }
    return stubs.action_of(plugin, **given)


def test_every_start_and_result_names_its_run(tmp_path: Path) -> None:
    action_of(procedure_event, tmp_path, result="begun").run(None, {"inventory_hostname": "a"})
    action_of(evidence, tmp_path)._continue_without("no room", "a")
    action_of(procedure_event, tmp_path, result="refused").run(None, {"inventory_hostname": "a"})
    lines = (tmp_path / "incidents" / "i-1" / "timeline.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert [each["run"] for each in events] == 3 * [runs.this_run()]
    assert closing.changes(events) == {}
    assert closing.changes(events[:2])


def test_host_that_was_unhealthy_after_the_watch_must_be_watched_again() -> None:
    events = [*RESTARTED, verdict(36)]
    again = incident("a", unhealthy={"a": "2026-01-31T08:40:00Z"})
    assert closing.unmet(again, events) == [
        "the watch of a ended at 2026-01-31T08:36:00Z, before it was unhealthy again at 2026-01-31T08:40:00Z"
    ]


def test_host_that_a_procedure_changed_belongs_to_the_incident() -> None:
    assert closing.unmet(incident(), [procedure(10, "changed", "b")]) == ["b was not watched"]


def test_incident_without_hosts_needs_no_watch() -> None:
    assert closing.unmet(incident(), [procedure(10, "refused"), procedure(11, "ok", name="evidence")]) == []


def test_load_balancers_have_no_watch() -> None:
    events = [procedure(10, "changed", "lb-1", name="load_balancer"), verdict(36)]
    there = incident("a", "lb-1")
    assert closing.unmet(there, events, {"lb-1"}) == []
    assert closing.unmet(there, events) == ["lb-1 was not watched"]
    known = planner.PlanContext(
        now=NOW,
        who="anna",
        all={"i-1": there},
        timelines={"i-1": events},
        unwatched=frozenset({"lb-1"}),
    )
    (event,) = planner.plan(request.parse("close", {"resolution": "so"}), known).events
    assert "without_watch" not in event


def plan(there: Incident, events: list[dict[str, Any]], **given: Any) -> planner.Plan:
    known = planner.PlanContext(now=NOW, who="anna", all={"i-1": there}, timelines={"i-1": events})
    return planner.plan(request.parse(given.pop("do"), given), known)


@pytest.mark.parametrize("given", [{"do": "close"}, {"do": "update", "status": "resolved"}])
def test_refusal_names_hosts_verdicts_and_commands(given: dict[str, Any]) -> None:
    there, events = incident("a", "b"), [verdict(36), verdict(36, "breached", "b")]
    with pytest.raises(RefusedError) as refused:
        plan(there, events, **given)
    for words in (
        "b is breached (so)",
        "ansible-playbook playbooks/watch.yml -e incident=i-1 -l a,b",
        "ansible-playbook playbooks/watch_show.yml -e incident=i-1 -l a,b",
        "-e without_watch=true",
    ):
        assert words in str(refused.value)
    assert "a is" not in str(refused.value)
    (event,) = plan(there, [verdict(36), verdict(36, host="b")], **given).events
    assert "without_watch" not in event
    (event,) = plan(there, events, **given, without_watch=True).events
    assert event["without_watch"] == ["b is breached (so)"]


@pytest.mark.parametrize("given", [{"eta": "soon"}, {"status": "monitoring"}, {"status": "investigating"}])
def test_other_updates_need_no_watch(given: dict[str, Any]) -> None:
    assert plan(incident("a", status="identified"), [], do="update", **given).events


def test_override_is_valid_until_a_host_is_changed() -> None:
    resolved = incident("a", status="resolved", without_watch="2026-01-31T08:50:00Z")
    assert plan(resolved, RESTARTED, do="close").events
    with pytest.raises(RefusedError, match="a was not watched"):
        plan(resolved, [*RESTARTED, procedure(55, "changed")], do="close")


def folded(*events: dict[str, Any]) -> Incident:
    opening = {"event": "opened", "id": "i-1", "severity": "P1", "severity_by": "triage", "worst": "P1"}
    first = {**opening, "started": OPENED, "respond_by": OPENED, "findings": [], "undecided": ["b"]}
    lines = [{"at": OPENED, "who": "anna", **event} for event in (first, *events)]
    found = state.fold("".join(f"{json.dumps(line)}\n" for line in lines).encode(), "state")
    assert found.incident is not None
    return found.incident


def test_record_has_when_hosts_were_unhealthy_and_the_override() -> None:
    later = timestamps.stamp(NOW + timedelta(minutes=1))
    finding = vars(Finding("a", "P1", "unit", "it is inactive"))
    joined = {"event": "joined", "at": later, "findings": [finding], "undecided": []}
    assert folded(joined).unhealthy == {"a": later, "b": OPENED}
    resolved = {"event": "updated", "status": "resolved", "without_watch": ["b was not watched"], "at": later}
    assert folded(resolved).without_watch == later
    assert folded(resolved, {"event": "joined", "status": "investigating"}).without_watch == ""


def test_times_of_a_watch_are_by_the_control_nodes_clock() -> None:
    """R30: clocks of hosts differ, or are set during the watch."""
    line = verdict(36)
    assert (line["watch"]["began"], line["watch"]["ended"]) == (
        "2026-01-31T08:20:00Z",
        "2026-01-31T08:36:00Z",
    )


@pytest.mark.parametrize(
    ("lines", "line", "told"),
    [
        ([], verdict(36), False),
        ([verdict(36)], verdict(37), True),
        ([verdict(36)], verdict(37, "breached"), False),
        ([verdict(36)], verdict(37, began=21), False),
        ([verdict(36, host="b")], verdict(36), False),
        ([verdict(36), verdict(37, "breached")], verdict(38), False),
    ],
)
def test_verdict_is_recorded_once(lines: list[dict[str, Any]], line: dict[str, Any], told: bool) -> None:
    assert watch_table.is_told(line, lines) is told


def test_unreachable_host_is_unknown_and_a_refusal_gives_its_reason() -> None:
    assert watch_table.verdict({"unreachable": True, "msg": "ssh\nNo route"}) == (
        "unknown",
        "no answer: No route",
    )
    assert watch_table.verdict({"refused": True, "msg": "Refused; x"}) == ("refused", "Refused; x")
    assert watch_table.verdict({}) == ("unknown", "the task did not run on this host")
