"""An incident's record: replayed after any crash, one incident for each alert, no invalid transition."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.lookup import incident as incident_module
from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import files
from ansible_collections.katago.fleet.plugins.module_utils.incident import delivery, messages, state
from ansible_collections.katago.fleet.plugins.module_utils.incident.state import (
    DamagedError,
    Finding,
    Incident,
    RefusedError,
    fold,
)
from ansible_collections.katago.fleet.plugins.module_utils.severity import SEVERITIES
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence.records import RecordError
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import outbox, planner, statuspage
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import request as incident_request
from ansible_collections.katago.fleet.plugins.plugin_utils.incident.store import (
    IncidentRecords,
    current,
    open_incidents,
)

NOW = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)
WHO = "anna@control"


def report(*reasons: tuple[str, str, str], verdict: str = "", errors: tuple[str, ...] = ()) -> dict[str, Any]:
    """A triage report on two hosts. `reasons`: host, level and rule."""
    hosts: dict[str, Any] = {}
    for host in ("katago-1", "katago-2"):
        groups = [{"level": "error", "event": each, "code": "", "count": 1} for each in errors]
        hosts[host] = {"reasons": [], "facts": {"journal": {"value": {"groups": groups}}}}
    for host, level, rule in reasons:
        hosts[host]["reasons"].append({"level": level, "rule": rule, "measured": f"{rule} is bad"})
    worst = min((level for _, level, _ in reasons), default="healthy")
    return {"verdict": verdict or worst, "hosts": hosts}


DAMAGE = [b"", b"{}", b"[]", b"\x00\xff", b"null", b'{"at": 1']
DOWN = report(("katago-1", "P0", "unit"), ("katago-1", "P1", "probe"))


class Desk:
    """Plans and records like the action plugin, at a time of its own."""

    def __init__(self, root: Path, now: datetime = NOW) -> None:
        self.store = IncidentRecords(root)
        self.now = now
        self.public_texts = {"investigating": "We look.", "resolved": "It works."}

    def plan(self, report: Mapping[str, Any] | None = None, **given: Any) -> planner.Plan:
        """Plan a request. Watches are tested in test_closing.py."""
        if given.get("do") == "close" or given.get("status") == "resolved":
            given["without_watch"] = True
        known = planner.PlanContext(
            now=self.now,
            who=WHO,
            all=self.store.load_all()[0],
            taken=frozenset(self.store.taken()),
            report=report,
            public_texts=self.public_texts,
            hosts=["katago-1", "katago-2"],
            jargon=["GPU"],
        )
        return planner.plan(incident_request.parse(given.pop("do"), given), known)

    def do(self, report: Mapping[str, Any] | None = None, **given: Any) -> Incident:
        """Record a request, and return the incident."""
        with self.store.locked():
            made = self.plan(report, **given)
            if made.events:
                self.store.append(made.incident, *made.events, at=timestamps.stamp(self.now), who=WHO)
        incident = self.store.load(made.incident).incident
        assert incident is not None
        return incident

    def later(self, **span: float) -> Desk:
        """Let time pass."""
        self.now += timedelta(**span)
        return self


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An empty desk."""
    return Desk(tmp_path)


def whole_story(desk: Desk) -> Path:
    """Record an incident from opening to close; return its file."""
    desk.do(DOWN, do="open", lead="Anna")
    desk.do(DOWN, do="open")
    desk.later(minutes=20).do(do="update", status="identified", next_steps="roll back")
    desk.do(do="escalate", to="senior", why="stuck")
    desk.later(minutes=5).do(do="update", status="resolved", resolution="rolled back")
    desk.later(minutes=5).do(do="close")
    return desk.store.state("2026-01-31-1")


def test_opening_takes_severity_and_deadline_from_triage(desk: Desk) -> None:
    incident = desk.do(DOWN, do="open")
    assert (incident.id, incident.severity, incident.severity_by) == ("2026-01-31-1", "P0", "triage")
    assert incident.respond_by == "2026-01-31T08:05:00Z"
    assert incident.hosts == ("katago-1",)
    assert incident.impact == "The service is down on 1 of 2 hosts (katago-1)"


@pytest.mark.parametrize(("severity", "minutes"), [("P0", 5), ("P1", 30), ("P2", 120), ("P3", 24 * 60)])
def test_every_severity_has_its_deadline(desk: Desk, severity: str, minutes: int) -> None:
    incident = desk.do(report(("katago-1", severity, "unit")), do="open")
    assert timestamps.parse(incident.respond_by) - NOW == timedelta(minutes=minutes)


def test_person_overrides_triage_and_is_named(desk: Desk) -> None:
    incident = desk.do(DOWN, do="open", severity="P2")
    assert (incident.severity, incident.severity_by) == ("P2", WHO)
    # A later alert does not override it.
    assert desk.do(DOWN, do="open").severity == "P2"


def test_unknown_fleet_is_p1(desk: Desk) -> None:
    assert desk.do(report(verdict="unknown"), do="open", alert="a").severity == "P1"


def test_healthy_fleet_opens_nothing_without_a_severity(desk: Desk) -> None:
    with pytest.raises(RefusedError, match="all 2 hosts healthy"):
        desk.do(report(), do="open")
    assert desk.do(report(), do="open", severity="P3", impact="slow").severity == "P3"


def test_same_alert_joins_and_is_counted(desk: Desk) -> None:
    for _ in range(10):
        incident = desk.do(DOWN, do="open")
    assert incident.joins == 9
    assert desk.store.taken() == {"2026-01-31-1"}


def test_alert_joins_only_with_a_common_finding(desk: Desk) -> None:
    first = desk.do(report(("katago-1", "P2", "probe")), do="open")
    worse = desk.do(DOWN, do="open")
    assert (worse.id, worse.severity, worse.worst) == (first.id, "P0", "P0")
    assert desk.do(report(("katago-2", "P2", "probe")), do="open").id == "2026-01-31-2"
    assert desk.do(report(("katago-1", "P2", "memory")), do="open").id == "2026-01-31-3"


def test_named_alert_joins_by_its_name_alone(desk: Desk) -> None:
    first = desk.do(DOWN, do="open", alert="ServiceDown")
    assert desk.do(report(("katago-2", "P2", "probe")), do="open", alert="ServiceDown").id == first.id
    assert desk.do(report(), do="open", alert="ServiceDown").joins == 2
    assert desk.do(DOWN, do="open", alert="DiskFull").id != first.id


def test_lead_given_with_a_joining_alert_acknowledges(desk: Desk) -> None:
    assert desk.do(DOWN, do="open").acknowledged_at == ""
    incident = desk.later(minutes=3).do(DOWN, do="open", lead="Anna", impact="No analyses")
    assert (incident.lead, incident.impact) == ("Anna", "No analyses")
    assert incident.acknowledged_at == "2026-01-31T08:03:00Z"


def test_higher_severity_moves_the_deadline_forward_and_a_lower_one_does_not_move_it(desk: Desk) -> None:
    desk.do(report(("katago-1", "P2", "unit")), do="open")
    worse = desk.later(minutes=10).do(DOWN, do="open")
    assert worse.respond_by == "2026-01-31T08:15:00Z"
    assert desk.do(do="update", severity="P3").respond_by == "2026-01-31T08:15:00Z"


def test_named_alert_joins_an_unnamed_incident_with_the_same_finding(desk: Desk) -> None:
    first = desk.do(DOWN, do="open")
    joined = desk.do(DOWN, do="open", alert="ServiceDown")
    assert (joined.id, joined.alert) == (first.id, "ServiceDown")
    assert desk.do(report(), do="open", alert="ServiceDown").joins == 2
    # And the other way round.
    assert desk.do(DOWN, do="open").joins == 3


def test_join_never_lowers_a_severity(desk: Desk) -> None:
    desk.do(DOWN, do="open")
    assert desk.do(report(("katago-1", "P1", "probe")), do="open").severity == "P0"


WORSE = report(("katago-1", "P0", "unit"), ("katago-2", "P1", "error_rate"))


def test_alert_that_raises_the_severity_updates_the_impact_and_is_sent_once(desk: Desk) -> None:
    desk.do(report(("katago-1", "P2", "unit")), do="open", lead="Anna")
    incident = desk.later(minutes=5).do(WORSE, do="open")
    assert incident.severity == "P0"
    assert incident.impact == (
        "The service is down on 1 of 2 hosts (katago-1), is severely degraded on 1 (katago-2)"
    )
    assert incident.summary.startswith("katago-1: P0 unit")
    due = worsenings(desk, incident)
    assert [letter.message.name for letter in due] == ["worse-1"]
    text = due[0].message.text
    for words in (
        *("Time: 2026-01-31T08:05:00Z", "Status: Investigating", "Severity: raised to P0", incident.impact),
        *("Actions taken:", "Next steps: not decided yet", "ETA: unknown", "Lead: Anna", "Next update by: "),
    ):
        assert words in text
    again = desk.later(minutes=1).do(WORSE, do="open")
    assert [letter.message.text for letter in worsenings(desk, again)] == [text]
    assert again.update_due == incident.update_due
    updated = desk.later(minutes=1).do(do="update", next_steps="restart")
    assert worsenings(desk, updated) == []


def test_alert_that_does_not_raise_the_severity_sends_no_update(desk: Desk) -> None:
    desk.do(DOWN, do="open", lead="Anna")
    assert worsenings(desk, desk.do(report(("katago-1", "P1", "unit")), do="open")) == []


def test_impact_set_by_a_person_is_not_replaced(desk: Desk) -> None:
    desk.do(report(("katago-1", "P2", "unit")), do="open", impact="Some games")
    incident = desk.do(WORSE, do="open")
    assert (incident.impact, incident.severity) == ("Some games", "P0")
    assert incident.summary.startswith("katago-1: P0 unit")
    desk.do(do="update", summary="The engine died", next_steps="restart")
    assert desk.do(WORSE, do="open").summary == "The engine died"


def test_unknown_impact_is_computed_once_it_is_known(desk: Desk) -> None:
    assert desk.do(report(verdict="unknown"), do="open", alert="a").impact == ""
    assert desk.do(DOWN, do="open", alert="a").impact == "The service is down on 1 of 2 hosts (katago-1)"


def letters(desk: Desk, incident: Incident) -> list[delivery.Letter]:
    setting = messages.Setting("KataGo MCP")
    known = outbox.Desk(desk.now, setting, "KataGo", {}, [incident])
    found, _ = outbox.letters(incident, [], known)
    return found


def worsenings(desk: Desk, incident: Incident) -> list[delivery.Letter]:
    return [letter for letter in letters(desk, incident) if letter.message.name.startswith("worse-")]


class SlowRecords(IncidentRecords):
    """Delays each append, so that other processes can plan on the old state."""

    def append(self, incident: str, *events: Mapping[str, Any], at: str, who: str) -> None:
        time.sleep(0.05)
        super().append(incident, *events, at=at, who=who)


def open_one(root: str, together: Any) -> None:
    """Open an incident at the same time as the other processes."""
    desk = Desk(Path(root))
    desk.store = SlowRecords(Path(root))
    together.wait(30)
    desk.do(DOWN, do="open")


def test_ten_processes_open_one_incident(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    together = fork.Barrier(10)
    processes = [fork.Process(target=open_one, args=(str(tmp_path), together)) for _ in range(10)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 10
    (incident,) = IncidentRecords(tmp_path).load_all()[0].values()
    assert incident.joins == 9


def test_given_id_is_used_and_joined_but_never_reopened(desk: Desk) -> None:
    assert desk.do(DOWN, do="open", incident="night-7").id == "night-7"
    assert desk.do(DOWN, do="open", incident="night-7").joins == 1
    desk.do(do="close", resolution="restarted")
    with pytest.raises(RefusedError, match="night-7 was closed"):
        desk.do(DOWN, do="open", incident="night-7")


def test_new_id_skips_existing_directories(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "incidents" / "2026-01-31-1").mkdir(parents=True)
    assert desk.do(DOWN, do="open").id == "2026-01-31-2"


@pytest.mark.parametrize(
    ("way", "follows"),
    [
        (["identified"], True),
        (["identified", "resolved"], True),
        (["monitoring", "identified"], False),
        (["resolved", "identified"], False),
        (["resolved", "monitoring"], False),
        (["identified", "investigating"], True),
        (["resolved", "investigating", "identified"], True),
        (["identified", "identified"], True),
    ],
)
def test_status_transition_is_allowed_or_refused(desk: Desk, way: list[str], follows: bool) -> None:
    desk.do(DOWN, do="open")
    for status in way[:-1]:
        desk.do(do="update", status=status, eta=status)
    if follows:
        assert desk.do(do="update", status=way[-1], eta="last").status == way[-1]
    else:
        with pytest.raises(RefusedError, match=f"cannot change to {way[-1]}"):
            desk.do(do="update", status=way[-1], eta="last")


def test_missing_or_closed_incident_is_refused(desk: Desk) -> None:
    with pytest.raises(RefusedError, match=r"No incident is open\."):
        desk.do(do="update", eta="soon")
    desk.do(DOWN, do="open")
    with pytest.raises(RefusedError, match=r"There is no incident 'x'. Open incidents: 2026-01-31-1"):
        desk.do(do="update", incident="x", eta="soon")
    with pytest.raises(RefusedError, match="has no resolution"):
        desk.do(do="close")
    with pytest.raises(RefusedError, match="placeholder"):
        desk.do(do="close", resolution="TBD")
    desk.do(do="close", resolution="restarted")
    requests: list[dict[str, Any]] = [{"do": "close", "resolution": "x"}, {"do": "update", "eta": "x"}]
    for request in requests:
        with pytest.raises(RefusedError, match="was closed at 2026-01-31T08:00:00Z"):
            desk.do(incident="2026-01-31-1", **request)


def test_update_without_a_change_is_refused(desk: Desk) -> None:
    desk.do(DOWN, do="open")
    with pytest.raises(RefusedError, match="changes nothing"):
        desk.do(do="update")


def test_repeated_update_is_recorded_once(desk: Desk) -> None:
    desk.do(DOWN, do="open")
    for _ in range(2):
        incident = desk.do(do="update", eta="soon")
    assert len(incident.updates) == 1
    assert len(desk.later(minutes=6).do(do="update", eta="soon").updates) == 2


def test_duration_runs_from_the_start_to_the_resolution(desk: Desk) -> None:
    desk.do(DOWN, do="open", started="2026-01-31T07:40:00Z")
    desk.later(minutes=30).do(do="update", status="resolved", resolution="r")
    incident = desk.later(hours=3).do(do="close")
    assert incident.duration(desk.now) == timedelta(minutes=50)


def test_returning_problem_is_a_recurrence(desk: Desk) -> None:
    desk.do(DOWN, do="open")
    desk.do(do="update", status="resolved", resolution="r")
    incident = desk.do(DOWN, do="open")
    assert (incident.status, incident.recurrences, incident.resolved_at) == ("investigating", 1, "")
    assert any("recurred after it was resolved" in each.why for each in state.triggers(incident, NOW))
    desk.do(do="close", resolution="r")
    again = desk.later(hours=1).do(DOWN, do="open")
    assert again.recurrence_of == "2026-01-31-1"
    assert any(
        "the closed incident 2026-01-31-1 has recurred" in each.why
        for each in state.triggers(again, desk.now)
    )
    desk.do(do="close", resolution="r")
    assert desk.later(hours=25).do(DOWN, do="open").recurrence_of == ""


@pytest.mark.parametrize(("minutes", "triggered"), [(9, False), (10, True)])
def test_senior_is_needed_if_the_service_is_not_restored_in_ten_minutes(
    desk: Desk, minutes: int, triggered: bool
) -> None:
    desk.do(DOWN, do="open")
    incident = desk.store.load("2026-01-31-1").incident
    assert incident is not None
    reasons = state.triggers(incident, NOW + timedelta(minutes=minutes))
    assert bool(reasons) == triggered
    desk.do(do="escalate", to="senior", why="stuck")
    called = desk.store.load("2026-01-31-1").incident
    assert called is not None
    assert state.triggers(called, NOW + timedelta(hours=1)) == []


def test_new_error_needs_a_senior(desk: Desk) -> None:
    seen = report(("katago-1", "P2", "probe"), errors=("known",))
    assert desk.do(seen, do="open").unfamiliar == []
    desk.do(do="close", resolution="r")
    desk.later(days=2)
    incident = desk.do(report(("katago-2", "P2", "probe"), errors=("known", "new")), do="open")
    assert incident.unfamiliar == ["error new"]
    assert any("error new" in each.why for each in state.triggers(incident, desk.now))


ROLES = ["developers", "security", "senior"]


def called(desk: Desk, incident: Incident, roles: list[str] = ROLES) -> list[tuple[str, str]]:
    """Record the automatic calls; return each contact with the reason."""
    calls = planner.calls(incident, roles, "senior", desk.now)
    with desk.store.locked():
        desk.store.append(incident.id, *calls, at=timestamps.stamp(desk.now), who=WHO)
    return [(each["to"], each["why"]) for each in calls]


def loaded(desk: Desk, name: str) -> Incident:
    incident = desk.store.load(name).incident
    assert incident is not None
    return incident


def with_bug(report: dict[str, Any]) -> dict[str, Any]:
    """The same report, with its errors as exceptions."""
    for host in report["hosts"].values():
        for group in host["facts"]["journal"]["value"]["groups"]:
            group["exception"] = True
    return report


def test_new_exception_calls_the_developers_once(desk: Desk) -> None:
    desk.do(report(("katago-1", "P2", "probe"), errors=("known",)), do="open")
    desk.do(do="close", resolution="r")
    desk.later(days=2)
    new = with_bug(report(("katago-2", "P2", "probe"), errors=("known", "new")))
    incident = desk.do(new, do="open")
    words = "an application exception that no earlier incident had: error new"
    assert called(desk, incident) == [("developers", words)]
    assert called(desk, loaded(desk, incident.id)) == []
    again = desk.do(new, do="open")
    assert called(desk, again) == []
    assert len(loaded(desk, incident.id).escalations) == 1


def test_new_error_of_a_joining_alert_is_recognised(desk: Desk) -> None:
    desk.do(report(("katago-1", "P2", "cache")), do="open")
    desk.do(do="close", resolution="r")
    desk.later(days=2).do(report(("katago-1", "P2", "probe"), errors=("one",)), do="open")
    joined = desk.do(report(("katago-1", "P2", "probe"), errors=("one", "two")), do="open")
    assert joined.unfamiliar == ["error one", "error two"]


def test_every_recurrence_calls_a_senior(desk: Desk) -> None:
    name = desk.do(DOWN, do="open").id
    assert called(desk, loaded(desk, name)) == []
    for _ in range(2):
        desk.later(minutes=6).do(do="update", status="resolved", resolution="r")
        incident = desk.do(DOWN, do="open")
        assert called(desk, incident) == [("senior", "the incident recurred after it was resolved")]
        assert called(desk, loaded(desk, name)) == []


def suspicious() -> dict[str, Any]:
    found = report(("katago-1", "P1", "refused_logins"))
    found["hosts"]["katago-1"]["reasons"][0]["suspicious"] = True
    return found


@pytest.mark.parametrize(("roles", "to"), [(ROLES, "security"), (["senior"], "senior")])
def test_suspicious_finding_calls_security_if_the_roster_has_it(
    desk: Desk, roles: list[str], to: str
) -> None:
    incident = desk.do(suspicious(), do="open")
    words = "katago-1: refused_logins: refused_logins is bad"
    assert called(desk, incident, roles) == [(to, words)]
    assert called(desk, desk.do(suspicious(), do="open"), roles) == []


def test_several_reasons_for_one_contact_are_one_call(desk: Desk) -> None:
    desk.do(suspicious(), do="open")
    desk.do(do="close", resolution="r")
    incident = desk.later(hours=1).do(suspicious(), do="open")
    ((to, why),) = called(desk, incident, ["senior"])
    assert to == "senior"
    assert "has recurred; katago-1: refused_logins" in why


def test_reminder_timer_calls_for_a_late_restoration_unless_a_senior_was_called(desk: Desk) -> None:
    incident = desk.do(suspicious(), do="open")
    called(desk, incident)
    desk.later(minutes=11)
    late = loaded(desk, incident.id)
    assert [each.key for each in state.triggers(late, desk.now)] == [state.NOT_RESTORED]
    assert called(desk, late) == []
    assert not state.is_helped(late)
    assert state.is_helped(desk.do(do="escalate", to="senior"))


def test_call_by_a_person_answers_its_triggers(desk: Desk) -> None:
    desk.do(suspicious(), do="open")
    desk.do(do="escalate", to="security")
    incident = loaded(desk, "2026-01-31-1")
    assert incident.escalations[0].why == "katago-1: refused_logins: refused_logins is bad"
    assert called(desk, incident) == []


def test_escalation_of_an_earlier_version_answers_all_triggers(desk: Desk) -> None:
    name = desk.do(suspicious(), do="open").id
    with desk.store.locked():
        event = {"event": "escalated", "to": "senior", "why": "stuck"}
        desk.store.append(name, event, at=timestamps.stamp(desk.now), who=WHO)
    assert called(desk, loaded(desk, name)) == []


@pytest.mark.parametrize(
    ("severity", "minutes", "overdue"),
    [("P0", 15, False), ("P0", 31, True), ("P1", 16, True), ("P2", 30, False), ("P2", 31, True)],
)
def test_overdue_update_is_an_event(desk: Desk, severity: str, minutes: int, overdue: bool) -> None:
    due = desk.do(report(("katago-1", severity, "unit")), do="open").update_due
    incident = desk.later(minutes=minutes).do(do="update", eta="soon")
    assert incident.overdue == ([due] if overdue else [])
    assert timestamps.parse(incident.update_due) > desk.now


def test_overdue_update_is_recorded_once(desk: Desk) -> None:
    desk.do(DOWN, do="open")
    desk.later(minutes=31)
    desk.do(do="escalate", to="senior", why="a")
    assert len(desk.do(do="escalate", to="senior", why="b").overdue) == 1


def test_host_name_in_a_public_text_is_refused_and_not_recorded(desk: Desk) -> None:
    desk.do(DOWN, do="open")
    before = desk.store.state("2026-01-31-1").read_bytes()
    with pytest.raises(RefusedError, match="names the host katago-1"):
        desk.do(do="update", public="katago-1 is down")
    assert desk.store.state("2026-01-31-1").read_bytes() == before


def test_site_text_with_jargon_is_replaced_with_a_warning(desk: Desk) -> None:
    request = incident_request.parse("open", {})
    known = planner.PlanContext(
        NOW, WHO, {}, report=DOWN, public_texts={"investigating": "GPU!"}, jargon=["GPU"]
    )
    plan = planner.plan(request, known)
    assert plan.events[0]["public"] == statuspage.TEXTS["investigating"]
    (warning,) = plan.warnings
    assert warning.startswith("incident_public_texts.investigating cannot be published: ")
    assert "contains the jargon word 'GPU'" in warning


@pytest.mark.parametrize("resolved", [{}, {"resolved": ""}, {"resolved": "GPU!"}])
@pytest.mark.parametrize("way", [["close"], ["resolved", "close"], ["resolved", "joined", "close"]])
def test_page_is_written_again_for_every_new_status(
    desk: Desk, resolved: dict[str, str], way: list[str]
) -> None:
    desk.public_texts = {"investigating": "We look.", **resolved}
    incident, told = desk.do(DOWN, do="open"), []
    for step in ["opened", *way]:
        if step == "joined":
            incident = desk.later(minutes=1).do(DOWN, do="open")
        elif step != "opened":
            given: dict[str, Any] = {"do": "close"} if step == "close" else {"do": "update", "status": step}
            incident = desk.later(minutes=1).do(**given, resolution="rolled back")
        told += [(each.message.name, each.page) for each in letters(desk, incident) if each.page]
        has_trouble = step in ("opened", "joined")
        assert ('class="now trouble"' in told[-1][1], "<h2>Resolved" in told[-1][1]) == (
            has_trouble,
            not has_trouble,
        )
        assert ("We look." if has_trouble else statuspage.TEXTS["resolved"]) in told[-1][1]
    names = [name for name, _ in told]
    changes = 2 + 2 * way.count("joined")
    assert sorted(set(names)) == [f"status-{number + 1}" for number in range(changes)]


def test_record_cut_anywhere_replays_to_the_state_of_its_whole_lines(tmp_path: Path) -> None:
    content = whole_story(Desk(tmp_path)).read_bytes()
    lines = content.splitlines(keepends=True)
    assert len(lines) > 6
    for cut in range(len(content) + 1):
        folded = fold(content[:cut], "state.jsonl")
        whole = content[: content.rfind(b"\n", 0, cut) + 1]
        assert folded.incident == fold(whole, "state.jsonl").incident
        assert folded.torn == (cut > 0 and content[cut - 1 : cut] != b"\n")


def test_record_cut_anywhere_can_be_continued(tmp_path: Path) -> None:
    content = whole_story(Desk(tmp_path / "whole")).read_bytes()
    path = tmp_path / "state.jsonl"
    # The last line closes the incident. While it is incomplete, the incident is open.
    for cut in range(content.rfind(b"\n", 0, len(content) - 1) + 1, len(content)):
        path.write_bytes(content[:cut])
        closed = {"event": "closed", "resolution": "again"}
        files.append_events(path, closed, at="2026-01-31T09:00:00Z", who=WHO)
        folded = fold(path.read_bytes(), str(path))
        assert folded.incident is not None
        assert (folded.incident.closed_at, folded.torn) == ("2026-01-31T09:00:00Z", False)
        torn = [line for line in path.read_text().splitlines() if '"torn"' in line]
        lost = content[:cut].rpartition(b"\n")[2].decode()
        assert [json.loads(line)["lost"] for line in torn] == ([lost] if lost else [])


@given(number=st.integers(0, 5), damage=st.sampled_from(DAMAGE))
def test_damaged_line_is_named(number: int, damage: bytes) -> None:
    opening = {
        "at": "2026-01-31T08:00:00Z",
        "who": WHO,
        "event": "opened",
        "id": "x",
        "started": "2026-01-31T08:00:00Z",
        "severity": "P1",
        "severity_by": "triage",
        "worst": "P1",
        "respond_by": "2026-01-31T08:30:00Z",
    }
    joined = {"at": "2026-01-31T08:00:00Z", "who": WHO, "event": "joined"}
    lines = [json.dumps(each).encode() for each in [opening, *[joined] * 5]]
    lines[number] = damage
    with pytest.raises(DamagedError, match=rf"state\.jsonl, line {number + 1} of 6 is damaged"):
        fold(b"\n".join(lines) + b"\n", "state.jsonl")


def test_unknown_event_is_damage(desk: Desk, tmp_path: Path) -> None:
    desk.do(DOWN, do="open")
    desk.store.append("2026-01-31-1", {"event": "danced"}, at="2026-01-31T08:00:00Z", who=WHO)
    with pytest.raises(DamagedError, match="line 2 of 2"):
        desk.store.load("2026-01-31-1")
    # It may be open, so runs belong to it.
    assert current(tmp_path, "") == "2026-01-31-1"


def test_full_disk_leaves_the_record_unchanged(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.do(DOWN, do="open")
    path = desk.store.state("2026-01-31-1")
    before = path.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, content: write(file, content[:10]))
    with pytest.raises(OSError, match="No space left"):
        desk.do(do="update", eta="soon")
    assert path.read_bytes() == before


findings = st.builds(
    Finding,
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(SEVERITIES),
    st.sampled_from(["unit", "probe", "ready"]),
    st.text(max_size=5),
)


@given(st.lists(findings, max_size=6), st.randoms(use_true_random=False))
def test_fingerprint_ignores_order_and_measured_values(found: list[Finding], dice: Any) -> None:
    shuffled = [Finding(each.host, "P3", each.rule, "another") for each in found]
    dice.shuffle(shuffled)
    assert state.fingerprint(found) == state.fingerprint(shuffled)


@given(st.lists(findings, min_size=1, max_size=6), findings)
def test_fingerprint_differs_for_other_findings(found: list[Finding], another: Finding) -> None:
    marks = {each.mark for each in found}
    same = state.fingerprint([*found, another]) == state.fingerprint(found)
    assert same == (another.mark in marks)


def test_run_belongs_to_the_given_incident_or_to_the_only_open_one(desk: Desk, tmp_path: Path) -> None:
    assert current(tmp_path, "") == ""
    desk.do(DOWN, do="open")
    assert current(tmp_path, "") == "2026-01-31-1"
    assert current(tmp_path, "other") == "other"
    desk.do(report(("katago-2", "P2", "memory")), do="open")
    with pytest.raises(RecordError, match=r"2 incidents are open \(2026-01-31-1, 2026-01-31-2\)"):
        current(tmp_path, "")
    lookup = incident_module.LookupModule(templar=Templar(DataLoader()))
    assert lookup.run([""], {"katago_records_dir": str(tmp_path)}) == [""]
    desk.do(do="close", incident="2026-01-31-1", resolution="r")
    assert lookup.run([""], {"katago_records_dir": str(tmp_path)}) == ["2026-01-31-2"]
    assert lookup.run(["other"], {}) == ["other"]
    assert open_incidents(tmp_path) == ["2026-01-31-2"]


def test_text_that_is_too_long_is_refused_with_its_name_and_length() -> None:
    with pytest.raises(incident_request.InputError, match=r"-e impact has 1001 characters\. The limit"):
        incident_request.parse("open", {"impact": "x" * 1001})


def test_text_keeps_its_lines_and_loses_control_characters() -> None:
    parsed = incident_request.parse("open", {"impact": "a\x1b[2J\r\nb ", "lead": "Ana “ü” {{ x }}"})
    assert (parsed.impact, parsed.lead) == ("a [2J\nb", "Ana “ü” {{ x }}")
    assert incident_request.parse("update", {"actions": ["a", " ", "b; c"]}).actions == ("a", "b; c")
