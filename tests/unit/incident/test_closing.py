"""R27: an incident ends when its hosts recovered, watched, since they were changed; or by name without."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
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

NOW = datetime(2026, 1, 31, 9, 0, tzinfo=UTC)
OPENED = "2026-01-31T08:00:00Z"


def incident(*ill: str, **known: Any) -> Incident:
    """An incident, opened at 8:00, with hosts that were ill then."""
    values: dict[str, Any] = {
        **{"id": "i-1", "opened_at": OPENED, "opened_by": "anna", "started": OPENED, "severity": "P1"},
        **{"severity_by": "triage", "worst": "P1", "respond_by": OPENED, "told_at": "2026-01-31T09:00:00Z"},
        **{"resolution": "restarted", "ill": dict.fromkeys(ill, OPENED), **known},
    }
    return Incident(**values)


def procedure(
    minute: int, result: str, host: str = "a", name: str = "restart", run: str = "boot/1:42:1"
) -> dict[str, Any]:
    at = f"2026-01-31T08:{minute:02}:00Z"
    who = {"host": host, "who": "anna", "run": run}
    return {"at": at, **who, "procedure": name, "result": result, "message": ""}


def of_earlier_version(line: dict[str, Any]) -> dict[str, Any]:
    """The same as it was recorded before events named their run."""
    return {name: value for name, value in line.items() if name != "run"}


def verdict(minute: int, result: str = "recovered", host: str = "a", began: int = 20) -> dict[str, Any]:
    """A line that playbooks/watch.yml left at that minute, of a window that began at another."""
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
        # What is changed after it, or meanwhile, was not watched.
        ([verdict(36), procedure(40, "begun"), procedure(41, "changed")], "and changed by restart at"),
        ([procedure(25, "begun"), procedure(26, "changed"), verdict(36)], "and changed by restart at"),
        # One that began before the window, and whose validation went on into it, is what is watched.
        ([procedure(19, "begun"), procedure(22, "changed"), verdict(36)], None),
        # A failed one may have changed it; a killed one, too.
        ([verdict(36), procedure(40, "begun"), procedure(41, "partial")], "changed by restart"),
        ([verdict(36), procedure(40, "begun")], "changed by restart"),
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
        # Another run is refused while the first one switches, or was killed.
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
        # One that goes on without evidence says twice that it was begun.
        ([procedure(40, "begun"), procedure(41, "begun"), procedure(42, "refused")], None),
        ([procedure(40, "begun"), procedure(41, "begun"), procedure(42, "ok")], None),
    ],
)
def test_end_of_another_run_takes_no_beginning_away(events: list[dict[str, Any]], at: str | None) -> None:
    watched = [*RESTARTED, verdict(36), *events]
    words = f"a was watched from 2026-01-31T08:20:00Z, and changed by restart at 2026-01-31T{at}:00Z"
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
def test_records_that_name_no_run_are_read_so_that_no_change_is_missed(
    events: list[dict[str, Any]], at: str | None
) -> None:
    found = closing.changes([of_earlier_version(line) for line in events])
    assert found == ({"a": (f"2026-01-31T{at}:00Z", "restart")} if at else {})


def action_of(plugin: Any, tmp_path: Path, **arguments: str) -> Any:
    """An action of a procedure's task on this machine, without a connection."""
    given = {"records_dir": str(tmp_path), "incident": "i-1", "procedure": "restart", "who": "a", **arguments}
    task = SimpleNamespace(args=given, async_val=0, check_mode=False)
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=""))
    return plugin.ActionModule(task, connection, None, None, None, None)


def test_every_beginning_and_end_names_its_run(tmp_path: Path) -> None:
    action_of(procedure_event, tmp_path, result="begun").run(None, {"inventory_hostname": "a"})
    action_of(evidence, tmp_path)._go_on_without("no room", "a")
    action_of(procedure_event, tmp_path, result="refused").run(None, {"inventory_hostname": "a"})
    lines = (tmp_path / "incidents" / "i-1" / "timeline.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert [each["run"] for each in events] == 3 * [runs.this_run()]
    assert closing.changes(events) == {}
    assert closing.changes(events[:2])


def test_host_that_was_ill_again_meanwhile_must_be_watched_again() -> None:
    events = [*RESTARTED, verdict(36)]
    again = incident("a", ill={"a": "2026-01-31T08:40:00Z"})
    assert closing.unmet(again, events) == [
        "a was watched until 2026-01-31T08:36:00Z, and ill at 2026-01-31T08:40:00Z"
    ]


def test_host_that_was_only_changed_belongs_to_the_incident() -> None:
    assert closing.unmet(incident(), [procedure(10, "changed", "b")]) == ["b was not watched"]


def test_incident_without_hosts_has_nothing_to_watch() -> None:
    assert closing.unmet(incident(), [procedure(10, "refused"), procedure(11, "ok", name="evidence")]) == []


def plan(there: Incident, events: list[dict[str, Any]], **given: Any) -> planner.Plan:
    known = planner.Known(now=NOW, who="anna", all={"i-1": there}, timelines={"i-1": events})
    return planner.plan(request.parse(given.pop("do"), given), known)


@pytest.mark.parametrize("given", [{"do": "close"}, {"do": "update", "status": "resolved"}])
def test_end_is_refused_with_host_verdict_and_commands(given: dict[str, Any]) -> None:
    there, events = incident("a", "b"), [verdict(36), verdict(36, "breached", "b")]
    with pytest.raises(RefusedError) as refused:
        plan(there, events, **given)
    for words in (
        "b is breached (so)",
        "ansible-playbook playbooks/watch.yml -e incident=i-1 -l a,b",
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


def test_what_was_allowed_once_is_not_asked_again_until_a_host_is_changed() -> None:
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


def test_record_tells_when_hosts_were_ill_or_unknown_and_who_needed_no_watch() -> None:
    later = timestamps.stamp(NOW + timedelta(minutes=1))
    finding = vars(Finding("a", "P1", "unit", "it is inactive"))
    joined = {"event": "joined", "at": later, "findings": [finding], "undecided": []}
    assert folded(joined).ill == {"a": later, "b": OPENED}
    resolved = {"event": "updated", "status": "resolved", "without_watch": ["b was not watched"], "at": later}
    assert folded(resolved).without_watch == later
    assert folded(resolved, {"event": "joined", "status": "investigating"}).without_watch == ""


def test_windows_times_are_by_the_control_nodes_clock() -> None:
    """R30: hosts that are apart, and a clock that was set meanwhile."""
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
def test_verdict_is_told_once(lines: list[dict[str, Any]], line: dict[str, Any], told: bool) -> None:
    assert watch_table.is_told(line, lines) is told


def test_host_that_does_not_answer_is_unknown_and_one_that_refuses_says_why() -> None:
    assert watch_table.verdict({"unreachable": True, "msg": "ssh\nNo route"}) == (
        "unknown",
        "no answer: No route",
    )
    assert watch_table.verdict({"refused": True, "msg": "Refused; x"}) == ("refused", "Refused; x")
    assert watch_table.verdict({}) == ("unknown", "the task did not run on this host")
