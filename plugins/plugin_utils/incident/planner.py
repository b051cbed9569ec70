"""What a request means for an incident: the lines that are added to its record. Pure; refuses or plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import messages, state, wording
from ansible_collections.katago.fleet.plugins.module_utils.incident import report as incident_report
from ansible_collections.katago.fleet.plugins.module_utils.incident.state import (
    Incident,
    RefusedError,
    Status,
)
from ansible_collections.katago.fleet.plugins.module_utils.severity import SEVERITIES, Severity
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import closing, statuspage
from ansible_collections.katago.fleet.plugins.plugin_utils.incident.request import Request

REPEATED_WITHIN = timedelta(minutes=5)
_MOST_REASONS = 5
# What is computed from triage's findings until a person says it.
_COMPUTED = ("impact", "summary")

# Nobody can say that what cannot be measured works; nor that it does not.
_UNKNOWN_IS: Severity = "P1"


@dataclass(frozen=True)
class Known:
    """What a plan is made from.

    `report` is triage's, None when it was not run; `taken` are ids in use; `timelines` are the events of
    incidents by id.
    """

    now: datetime
    who: str
    all: Mapping[str, Incident]
    taken: frozenset[str] = frozenset()
    report: Mapping[str, Any] | None = None
    public_texts: Mapping[str, str] = field(default_factory=dict)
    hosts: Sequence[str] = ()
    jargon: Sequence[str] = ()
    timelines: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Lines for the record of an incident, what they mean in a sentence, and what is wrong nevertheless."""

    incident: str
    events: tuple[dict[str, Any], ...]
    words: str
    warnings: tuple[str, ...] = ()


def plan(request: Request, known: Known) -> Plan:
    """The lines that a request adds.

    Raises:
        RefusedError: if it cannot be followed; nothing is planned then.
    """
    if request.verb == "open":
        return _open(request, known)
    incident = find(request.incident, known.all)
    if request.verb == "deliver":
        return Plan(incident.id, (), f"{incident.id} is {incident.status}.")
    state.check_open(incident)
    made = {"update": _update, "escalate": _escalate, "close": _close}[request.verb](request, incident, known)
    return Plan(made.incident, (*_overdue(incident, known.now), *made.events), made.words, made.warnings)


def find(given: str, all_incidents: Mapping[str, Incident]) -> Incident:
    """The incident that is given, or else the only one that is open.

    Raises:
        RefusedError: if there is none, or several are open.
    """
    is_open = sorted(name for name, incident in all_incidents.items() if incident.is_open)
    there = f"Open: {', '.join(is_open) or 'none'}."
    if given:
        if given not in all_incidents:
            raise RefusedError(f"There is no incident {given!r}. {there}")
        return all_incidents[given]
    if len(is_open) != 1:
        raise RefusedError(f"Say which incident: -e incident=ID. {there}")
    return all_incidents[is_open[0]]


def _open(request: Request, known: Known) -> Plan:
    report = known.report or {"hosts": {}, "verdict": "healthy"}
    found = incident_report.findings(report)
    errors = incident_report.error_groups(report)
    undecided = incident_report.undecided(report)
    saw = {"findings": [vars(each) for each in found], "errors": sorted(errors), "undecided": undecided}
    if request.incident in known.all:
        there = known.all[request.incident]
        state.check_open(there)
        return _join(request, known, there, saw)
    joined = state.same(known.all.values(), request.alert, found)
    if joined and not request.incident:
        return _join(request, known, joined, saw)
    severity = request.severity or _measured(report)
    if severity is None:
        raise RefusedError(
            f"Triage found all {len(report['hosts'])} hosts healthy, which is no incident. If you know"
            " better: -e severity=P3 -e impact=..."
        )
    name = request.incident or _new_id(known)
    closed_after = known.now - state.RECURS_WITHIN
    before = state.same(known.all.values(), request.alert, found, closed_after)
    seen = _seen(known)
    public, warnings = _public(request.public, "investigating", known)
    said = request.texts("lead", "impact", "summary", "next_steps", "eta")
    event = {
        "event": "opened",
        "id": name,
        "started": request.started or timestamps.stamp(known.now),
        "severity": severity,
        "severity_by": known.who if request.severity else "triage",
        "measured": report["verdict"] if known.report else "not measured",
        "worst": severity,
        "respond_by": state.respond_by(severity, known.now),
        "alert": request.alert,
        "fingerprint": state.fingerprint(found),
        "fleet_size": len(report["hosts"]),
        "recurrence_of": before.id if before else "",
        # The first incident has nothing that its errors could be unlike.
        **_unfamiliar(report, errors - seen if known.all else set()),
        **saw,
        "impact": messages.impact(found, severity, len(report["hosts"])),
        "summary": messages.summary(found),
        "computed": [name for name in _COMPUTED if name not in said],
        "public": public,
        **said,
    }
    words = f"{name} is opened: {severity} by {event['severity_by']}; respond by {event['respond_by']}."
    return Plan(name, (event,), words, warnings)


def _join(request: Request, known: Known, there: Incident, saw: Mapping[str, Any]) -> Plan:
    said = request.texts("lead", "impact", "summary", "next_steps", "eta")
    new = set(saw["errors"]) - _seen(known) if len(known.all) > 1 else set()
    event = {"event": "joined", "alert": request.alert, **saw, **_unfamiliar(known.report or {}, new), **said}
    measured = _measured(known.report) if known.report else None
    if request.severity and request.severity != there.severity:
        event |= {"severity": request.severity, "severity_by": known.who}
    elif measured and there.severity_by == "triage" and _is_worse(measured, there.severity):
        event |= {"severity": measured, "severity_by": "triage"}
    back: Status | None = "investigating" if there.status == "resolved" and saw["findings"] else None
    public, warnings = _public(request.public, back, known)
    event |= {**({"status": back} if back else {}), **({"public": public} if public else {})}
    severity = event.get("severity", there.severity)
    event |= _computed(there, saw["findings"], severity, said)
    words = (
        f"It is {there.id}, which is open since {there.opened_at} and {event.get('status', there.status)};"
        f" {there.joins + 2} alerts by now, {severity}."
    )
    return Plan(there.id, (*_overdue(there, known.now), event), words, warnings)


def _computed(
    there: Incident, found: Sequence[Mapping[str, Any]], severity: Severity, said: Mapping[str, str]
) -> dict[str, Any]:
    """Impact and summary of all that was found by now, where triage said them; what people say stays."""
    merged = {**there.findings, **{each.mark: each for each in (state.Finding(**one) for one in found)}}
    worst = sorted(merged.values(), key=lambda each: (SEVERITIES.index(each.level), each.host, each.rule))
    texts = {
        "impact": messages.impact(worst, severity, there.fleet_size),
        "summary": messages.summary(worst),
    }
    new = {
        name: text
        for name, text in texts.items()
        if (name in there.computed or not getattr(there, name))
        and name not in said
        and text != getattr(there, name)
    }
    return {**new, "computed": list(new)} if new else {}


def _seen(known: Known) -> set[str]:
    return {error for incident in known.all.values() for error in incident.errors}


def _unfamiliar(report: Mapping[str, Any], new: set[str]) -> dict[str, list[str]]:
    """Errors that no incident had before, and which of them are the application's own."""
    own = incident_report.bugs(report) & new if new else set()
    return {"unfamiliar": sorted(new), "bugs": sorted(own)}


def calls(incident: Incident, roles: Sequence[str], senior: str, now: datetime) -> list[dict[str, Any]]:
    """The lines that call somebody for what the runbook would have them called for, nobody ordering it.

    `roles` are those of the roster; who has none of the runbook's is called by the role `senior`. That a
    service is not restored in time is left to the timekeeper, or two would call.
    """
    wanted: dict[str, list[state.Trigger]] = {}
    for trigger in state.triggers(incident, now):
        if trigger.key != state.NOT_RESTORED:
            to = trigger.kind if trigger.kind != "senior" and trigger.kind in roles else senior
            wanted.setdefault(to, []).append(trigger)
    return [
        {
            "event": "escalated",
            "to": to,
            "why": "; ".join(each.why for each in found[:_MOST_REASONS]),
            "answers": sorted(each.key for each in found),
            "automatic": True,
            # A call for any of it reaches somebody who may restore the service, when that is one of it.
            "kind": "senior" if to == senior else found[0].kind,
        }
        for to, found in wanted.items()
    ]


def _update(request: Request, incident: Incident, known: Known) -> Plan:
    said = request.texts("lead", "impact", "summary", "next_steps", "eta", "resolution")
    if request.status:
        state.check_transition(incident, request.status)
    if request.severity and request.severity != incident.severity:
        said |= {"severity": request.severity, "severity_by": known.who}
    changed = request.status if request.status and request.status != incident.status else None
    public, warnings = _public(request.public, changed, known)
    event: dict[str, Any] = {
        **said,
        **({"status": changed} if changed else {}),
        **({"actions": list(request.actions)} if request.actions else {}),
        **({"public": public} if public else {}),
        **(_unwatched(request, incident, known) if changed == "resolved" else {}),
    }
    if _is_repeated(request, incident, known.now):
        return Plan(incident.id, (), f"{incident.id} was told so already.")
    if not event:
        raise RefusedError(
            f"An update says something new: give status, impact, actions, next_steps, eta or public."
            f" {incident.id} is {incident.status}."
        )
    words = f"{incident.id} is updated: {changed or incident.status}."
    return Plan(incident.id, ({"event": "updated", **event, "asked": _asked(request)},), words, warnings)


def _asked(request: Request) -> dict[str, Any]:
    """What an update was asked with, by which its repetition is known."""
    names = ("status", "severity", "lead", "impact", "summary", "next_steps", "eta", "resolution", "public")
    given = {name: getattr(request, name) for name in names if getattr(request, name)}
    return given | ({"actions": list(request.actions)} if request.actions else {})


def _is_repeated(request: Request, incident: Incident, now: datetime) -> bool:
    """Whether the newest update is this one, of a run that was killed or of a second press of the key."""
    if not incident.updates:
        return False
    newest = incident.updates[-1]
    recent = now - timestamps.parse(newest.at) <= REPEATED_WITHIN
    return recent and dict(newest.asked) == _asked(request)


def _escalate(request: Request, incident: Incident, known: Known) -> Plan:
    triggered = state.triggers(incident, known.now)
    why = request.why or "; ".join(each.why for each in triggered)
    if not why:
        raise RefusedError("Nothing of the runbook's triggers this escalation; say the reason: -e why=...")
    newest = incident.escalations[-1] if incident.escalations else None
    if newest and (newest.to, newest.why) == (request.to, why):
        return Plan(incident.id, (), f"{request.to} was called for this already, at {newest.at}.")
    event = {
        "event": "escalated",
        "to": request.to,
        "why": why,
        "answers": sorted(each.key for each in triggered),
        **request.texts("lead", "impact", "summary"),
    }
    return Plan(incident.id, (event,), f"{incident.id} is escalated to {request.to}: {why}.")


def _close(request: Request, incident: Incident, known: Known) -> Plan:
    if not (request.resolution or incident.resolution):
        raise RefusedError(
            f"{incident.id} has no resolution; say how it was resolved: -e 'resolution=\"...\"'"
        )
    if wording.is_filler(request.resolution or incident.resolution):
        raise RefusedError(f"The resolution is a placeholder: {request.resolution or incident.resolution!r}.")
    changed: Status | None = "resolved" if incident.status != "resolved" else None
    public, warnings = _public(request.public, changed, known)
    event = {
        "event": "closed",
        **request.texts("resolution", "impact"),
        **({"public": public} if public else {}),
        **_unwatched(request, incident, known),
    }
    end = timestamps.parse(incident.resolved_at) if incident.resolved_at else known.now
    lasted = messages.words(end - timestamps.parse(incident.started))
    words = f"{incident.id} is closed; it lasted {lasted}."
    if "without_watch" in event:
        words += f" It is not known that it is over: {'; '.join(event['without_watch'])}."
    return Plan(incident.id, (event,), words, warnings)


def _unwatched(request: Request, incident: Incident, known: Known) -> dict[str, Any]:
    """What the record says of an end without a watch; refuses one that nobody asked for by name."""
    problems = closing.unmet(incident, known.timelines.get(incident.id, ()))
    if problems and not request.without_watch:
        hosts = closing.hosts(incident, known.timelines.get(incident.id, ()))
        raise RefusedError(
            f"It is not known that {incident.id} is over: {'; '.join(problems)}. Watch it for 15 minutes:"
            f" ansible-playbook playbooks/watch.yml -e incident={incident.id} -l {','.join(hosts)}"
            " (watch_show.yml shows a verdict that is there). To end it without: -e without_watch=true,"
            " which is recorded with your name."
        )
    return {"without_watch": problems} if problems else {}


def _overdue(incident: Incident, now: datetime) -> tuple[dict[str, Any], ...]:
    """The update that is overdue, unless it is on record."""
    due = incident.update_due
    if incident.is_open and timestamps.stamp(now) > due and due not in incident.overdue:
        return ({"event": "overdue", "due": due},)
    return ()


def _public(given: str, status: Status | None, known: Known) -> tuple[str, tuple[str, ...]]:
    """What the public is told: what is given, or else the site's text for a status that it comes to.

    What is given and does not belong in public is refused. In the place of a site's own that does not, with
    a warning, and of one that is not there, goes the project's: nothing may keep an incident from being
    recorded at night, and without a text the page would go on saying what is over.
    """
    if given:
        if problems := list(wording.public_problems(given, known.hosts, known.jargon)):
            raise RefusedError(f"{'; '.join(problems)}. Say it so that players understand it: -e public=...")
        return given, ()
    if status is None:
        return "", ()
    text, ours = known.public_texts.get(status) or "", statuspage.TEXTS[status]
    if text == ours:
        return ours, ()
    where = f"The status page says {ours!r}: incident_public_texts"
    if not text:
        return ours, (f"{where} has no text for {status}.",)
    if problems := list(wording.public_problems(text, known.hosts, known.jargon)):
        return ours, (f"{where}.{status} cannot be told, {'; '.join(problems)}.",)
    return text, ()


def _measured(report: Mapping[str, Any]) -> Severity | None:
    verdict = report["verdict"]
    if verdict == "unknown":
        return _UNKNOWN_IS
    return next((each for each in SEVERITIES if each == verdict), None)


def _is_worse(one: Severity, other: Severity) -> bool:
    return SEVERITIES.index(one) < SEVERITIES.index(other)


def _new_id(known: Known) -> str:
    """The day and the first number that no incident of it has."""
    day = f"{known.now:%Y-%m-%d}"
    number = 1
    while f"{day}-{number}" in known.taken:
        number += 1
    return f"{day}-{number}"
