"""Plans what a request adds to an incident's record, or refuses the request. Pure."""

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
# Texts that are computed from triage's findings until a person sets them.
_COMPUTED = ("impact", "summary")

# A fleet that cannot be measured may be down. P1 is the cautious middle.
_UNKNOWN_IS: Severity = "P1"


@dataclass(frozen=True)
class PlanContext:
    """What a plan is made from.

    `report`: that of triage, None if triage was not run. `taken`: ids in use. `timelines`: the events of
    incidents, by id. `unwatched`: load balancers, which have no watch.
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
    unwatched: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Plan:
    """The lines for an incident's record, a sentence for the operator, and warnings."""

    incident: str
    events: tuple[dict[str, Any], ...]
    words: str
    warnings: tuple[str, ...] = ()


def plan(request: Request, context: PlanContext) -> Plan:
    """Plan the lines that a request adds.

    Raises:
        RefusedError: if the request is not possible. Nothing is planned then.
    """
    if request.verb == "open":
        return _open(request, context)
    incident = find(request.incident, context.all)
    if request.verb == "deliver":
        return Plan(incident.id, (), f"{incident.id} is {incident.status}.")
    state.check_open(incident)
    made = {"update": _update, "escalate": _escalate, "close": _close}[request.verb](
        request, incident, context
    )
    return Plan(made.incident, (*_overdue(incident, context.now), *made.events), made.words, made.warnings)


def find(name: str, all_incidents: Mapping[str, Incident]) -> Incident:
    """The incident with an id or, without one, the only open incident.

    Raises:
        RefusedError: if there is none, or several are open.
    """
    is_open = sorted(name for name, incident in all_incidents.items() if incident.is_open)
    listing = f"Open incidents: {', '.join(is_open) or 'none'}."
    if name:
        if name not in all_incidents:
            raise RefusedError(f"There is no incident {name!r}. {listing}")
        return all_incidents[name]
    if not is_open:
        raise RefusedError(
            "No incident is open. Open one with ansible-playbook playbooks/incident_open.yml."
            " incident_deliver.yml and incident_show.yml also accept a closed one: -e incident=ID."
        )
    if len(is_open) != 1:
        raise RefusedError(f"Several incidents are open. Give -e incident=ID. {listing}")
    return all_incidents[is_open[0]]


def _open(request: Request, context: PlanContext) -> Plan:
    report = context.report or {"hosts": {}, "verdict": "healthy"}
    findings = incident_report.findings(report)
    errors = incident_report.error_groups(report)
    undecided = incident_report.undecided(report)
    levels = incident_report.levels(report)
    load_balancers = sorted(context.unwatched & levels.keys())
    triaged = {
        "findings": [vars(each) for each in findings],
        "errors": sorted(errors),
        "undecided": undecided,
        "levels": levels,
        "load_balancers": load_balancers,
    }
    if request.incident in context.all:
        existing = context.all[request.incident]
        state.check_open(existing)
        return _join(request, context, existing, triaged)
    joined = state.same(context.all.values(), request.alert, findings)
    if joined and not request.incident:
        return _join(request, context, joined, triaged)
    severity = request.severity or _measured(report)
    if severity is None:
        raise RefusedError(
            f"Triage found all {len(report['hosts'])} hosts healthy, so no incident was opened. To open one"
            " anyway, give the severity and the impact: -e severity=P3 -e 'impact=\"<impact>\"'"
        )
    name = request.incident or _new_id(context)
    closed_after = context.now - state.RECURS_WITHIN
    previous = state.same(context.all.values(), request.alert, findings, closed_after)
    earlier_errors = _earlier_errors(context)
    public, warnings = _public(request.public, "investigating", context)
    texts = request.texts("lead", "impact", "summary", "next_steps", "eta")
    event = {
        "event": "opened",
        "id": name,
        "started": request.started or timestamps.stamp(context.now),
        "severity": severity,
        "severity_by": context.who if request.severity else "triage",
        "measured": report["verdict"] if context.report else "not measured",
        "worst": severity,
        "respond_by": state.respond_by(severity, context.now),
        "alert": request.alert,
        "fingerprint": state.fingerprint(findings),
        "fleet_size": len(report["hosts"]),
        "recurrence_of": previous.id if previous else "",
        # For the first incident there is nothing to compare its errors with.
        **_unfamiliar(report, errors - earlier_errors if context.all else set()),
        **triaged,
        "impact": messages.impact(findings, levels, len(levels), load_balancers),
        "summary": messages.summary(findings),
        "computed": [name for name in _COMPUTED if name not in texts],
        "public": public,
        **texts,
        # Reports count drills apart from incidents.
        **({"drill": name} if name.startswith(state.DRILL_PREFIX) else {}),
    }
    message = (
        f"Opened incident {name}: {severity} (set by {event['severity_by']})."
        f" Respond by {event['respond_by']}."
    )
    return Plan(name, (event,), message, warnings)


def _join(request: Request, context: PlanContext, existing: Incident, triaged: Mapping[str, Any]) -> Plan:
    texts = request.texts("lead", "impact", "summary", "next_steps", "eta")
    new = set(triaged["errors"]) - _earlier_errors(context) if len(context.all) > 1 else set()
    event = {
        "event": "joined",
        "alert": request.alert,
        **triaged,
        **_unfamiliar(context.report or {}, new),
        **texts,
    }
    measured = _measured(context.report) if context.report else None
    if request.severity and request.severity != existing.severity:
        event |= {"severity": request.severity, "severity_by": context.who}
    elif measured and existing.severity_by == "triage" and _is_worse(measured, existing.severity):
        event |= {"severity": measured, "severity_by": "triage"}
    back: Status | None = "investigating" if existing.status == "resolved" and triaged["findings"] else None
    public, warnings = _public(request.public, back, context)
    event |= {**({"status": back} if back else {}), **({"public": public} if public else {})}
    severity = event.get("severity", existing.severity)
    event |= _computed(existing, triaged, texts)
    message = (
        f"The alert joined incident {existing.id}, open since {existing.opened_at}:"
        f" {severity}, {event.get('status', existing.status)}, {existing.joins + 2} alerts so far."
    )
    return Plan(existing.id, (*_overdue(existing, context.now), event), message, warnings)


def _computed(existing: Incident, triaged: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """Impact and summary, computed from all findings so far. Texts that a person set are not replaced."""
    merged = state.merged(existing.findings, [state.Finding(**each) for each in triaged["findings"]])
    levels = state.joined_levels(existing.levels, triaged["levels"])
    worst = sorted(merged.values(), key=lambda each: (SEVERITIES.index(each.level), each.host, each.rule))
    computed = {
        "impact": messages.impact(
            worst,
            levels,
            existing.fleet_size,
            existing.load_balancers.union(triaged["load_balancers"]),
        ),
        "summary": messages.summary(worst),
    }
    new = {
        name: text
        for name, text in computed.items()
        if (name in existing.computed or not getattr(existing, name))
        and name not in texts
        and text != getattr(existing, name)
    }
    return {**new, "computed": list(new)} if new else {}


def _earlier_errors(context: PlanContext) -> set[str]:
    return {error for incident in context.all.values() for error in incident.errors}


def _unfamiliar(report: Mapping[str, Any], new: set[str]) -> dict[str, list[str]]:
    """Errors that no earlier incident had, and which of them are exceptions of the application."""
    own = incident_report.bugs(report) & new if new else set()
    return {"unfamiliar": sorted(new), "bugs": sorted(own)}


def calls(incident: Incident, roles: Sequence[str], senior: str, now: datetime) -> list[dict[str, Any]]:
    """The lines for automatic escalations: one for each contact that the runbook wants called.

    `roles`: those of the roster. If the runbook's role is not among them, `senior` is called. The reminder
    timer alone calls for a service that is not restored in time, so that nobody is called twice.
    """
    by_contact: dict[str, list[state.Trigger]] = {}
    for trigger in state.triggers(incident, now):
        if trigger.key != state.NOT_RESTORED:
            to = trigger.kind if trigger.kind != "senior" and trigger.kind in roles else senior
            by_contact.setdefault(to, []).append(trigger)
    return [
        {
            "event": "escalated",
            "to": to,
            "why": "; ".join(each.why for each in reasons[:_MOST_REASONS]),
            "answers": sorted(each.key for each in reasons),
            "automatic": True,
            # Whoever has the role `senior` can restore the service, whatever the reason for the call.
            "kind": "senior" if to == senior else reasons[0].kind,
        }
        for to, reasons in by_contact.items()
    ]


def _update(request: Request, incident: Incident, context: PlanContext) -> Plan:
    texts = request.texts("lead", "impact", "summary", "next_steps", "eta", "resolution")
    if request.status:
        state.check_transition(incident, request.status)
    if request.severity and request.severity != incident.severity:
        texts |= {"severity": request.severity, "severity_by": context.who}
    changed = request.status if request.status and request.status != incident.status else None
    public, warnings = _public(request.public, changed, context)
    event: dict[str, Any] = {
        **texts,
        **({"status": changed} if changed else {}),
        **({"actions": list(request.actions)} if request.actions else {}),
        **({"public": public} if public else {}),
        **(_unwatched(request, incident, context) if changed == "resolved" else {}),
    }
    if _is_repeated(request, incident, context.now):
        return Plan(incident.id, (), f"{incident.id} already has this update. It was not recorded again.")
    if not event:
        raise RefusedError(
            "The update changes nothing. Give at least one of status, impact, actions, next_steps, eta and"
            f" public. {incident.id} is {incident.status}."
        )
    message = f"Updated incident {incident.id}: {changed or incident.status}."
    return Plan(incident.id, ({"event": "updated", **event, "asked": _asked(request)},), message, warnings)


def _asked(request: Request) -> dict[str, Any]:
    """The parameters of an update, to recognise a repetition."""
    names = ("status", "severity", "lead", "impact", "summary", "next_steps", "eta", "resolution", "public")
    parameters = {name: getattr(request, name) for name in names if getattr(request, name)}
    return parameters | ({"actions": list(request.actions)} if request.actions else {})


def _is_repeated(request: Request, incident: Incident, now: datetime) -> bool:
    """Whether the newest update is the same: the first run was killed, or the command was run twice."""
    if not incident.updates:
        return False
    newest = incident.updates[-1]
    recent = now - timestamps.parse(newest.at) <= REPEATED_WITHIN
    return recent and dict(newest.asked) == _asked(request)


def _escalate(request: Request, incident: Incident, context: PlanContext) -> Plan:
    triggered = state.triggers(incident, context.now)
    why = request.why or "; ".join(each.why for each in triggered)
    if not why:
        raise RefusedError(
            "The runbook has no reason for an escalation now. Give yours: -e 'why=\"<reason>\"'"
        )
    newest = incident.escalations[-1] if incident.escalations else None
    if newest and (newest.to, newest.why) == (request.to, why):
        return Plan(
            incident.id,
            (),
            f"{request.to} was already called for this reason, at {newest.at}. Nothing changed.",
        )
    event = {
        "event": "escalated",
        "to": request.to,
        "why": why,
        "answers": sorted(each.key for each in triggered),
        **request.texts("lead", "impact", "summary"),
    }
    return Plan(incident.id, (event,), f"Escalated incident {incident.id} to {request.to}: {why}.")


def _close(request: Request, incident: Incident, context: PlanContext) -> Plan:
    if not (request.resolution or incident.resolution):
        raise RefusedError(
            f"{incident.id} has no resolution. Describe how it was resolved: -e 'resolution=\"<resolution>\"'"
        )
    if wording.is_filler(request.resolution or incident.resolution):
        raise RefusedError(f"The resolution is a placeholder: {request.resolution or incident.resolution!r}.")
    changed: Status | None = "resolved" if incident.status != "resolved" else None
    public, warnings = _public(request.public, changed, context)
    event = {
        "event": "closed",
        **request.texts("resolution", "impact"),
        **({"public": public} if public else {}),
        **_unwatched(request, incident, context),
    }
    end = timestamps.parse(incident.resolved_at) if incident.resolved_at else context.now
    duration = messages.duration_text(end - timestamps.parse(incident.started))
    message = f"Closed incident {incident.id}. It lasted {duration}."
    if "without_watch" in event:
        message += f" Recovery was not confirmed: {'; '.join(event['without_watch'])}."
    return Plan(incident.id, (event,), message, warnings)


def _unwatched(request: Request, incident: Incident, context: PlanContext) -> dict[str, Any]:
    """The record of an end without a confirmed recovery. Refuses it without `without_watch`."""
    timeline = context.timelines.get(incident.id, ())
    problems = closing.unmet(incident, timeline, context.unwatched)
    if problems and not request.without_watch:
        hosts = closing.hosts(incident, timeline, context.unwatched)
        raise RefusedError(
            f"The recovery of {incident.id} is not confirmed: {'; '.join(problems)}. Run"
            f" ansible-playbook playbooks/watch.yml -e incident={incident.id} -l {','.join(hosts)}"
            " to watch for 15 minutes. If the watch has finished, run"
            f" ansible-playbook playbooks/watch_show.yml -e incident={incident.id} -l {','.join(hosts)}"
            " to fetch its verdict. To end the incident without a watch, add -e without_watch=true; your name"
            " is recorded."
        )
    return {"without_watch": problems} if problems else {}


def _overdue(incident: Incident, now: datetime) -> tuple[dict[str, Any], ...]:
    """The line for an overdue update, unless it was recorded before."""
    due = incident.update_due
    if incident.is_open and timestamps.stamp(now) > due and due not in incident.overdue:
        return ({"event": "overdue", "due": due},)
    return ()


def _public(requested: str, status: Status | None, context: PlanContext) -> tuple[str, tuple[str, ...]]:
    """The public text: that of the request, or the site's text for a new status. With warnings.

    A requested text that must not be published is refused. If the site's own text is missing or must not be
    published, the default text is used, with a warning. This way an incident can always be recorded, and the
    status page never shows an outdated status.
    """
    if requested:
        if problems := list(wording.public_problems(requested, context.hosts, context.jargon)):
            raise RefusedError(
                f"{'; '.join(problems)}. Write it for players, without internal terms: -e 'public=\"<text>\"'"
            )
        return requested, ()
    if status is None:
        return "", ()
    text, ours = context.public_texts.get(status) or "", statuspage.TEXTS[status]
    if text == ours:
        return ours, ()
    instead = f"The status page shows the default text instead: {ours!r}"
    if not text:
        return ours, (f"incident_public_texts has no text for {status}. {instead}",)
    if problems := list(wording.public_problems(text, context.hosts, context.jargon)):
        return ours, (
            f"incident_public_texts.{status} cannot be published: {'; '.join(problems)}. {instead}",
        )
    return text, ()


def _measured(report: Mapping[str, Any]) -> Severity | None:
    verdict = report["verdict"]
    if verdict == "unknown":
        return _UNKNOWN_IS
    return next((each for each in SEVERITIES if each == verdict), None)


def _is_worse(one: Severity, other: Severity) -> bool:
    return SEVERITIES.index(one) < SEVERITIES.index(other)


def _new_id(context: PlanContext) -> str:
    """The day and the first free number on it, such as 2026-11-24-1."""
    day = f"{context.now:%Y-%m-%d}"
    number = 1
    while f"{day}-{number}" in context.taken:
        number += 1
    return f"{day}-{number}"
