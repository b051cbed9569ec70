"""The messages of an incident, with the runbook's fields, rendered from its state.

A message that lacks a field is not rendered; the field is named instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import state, wording
from ansible_collections.katago.fleet.plugins.module_utils.severity import Severity

Audience = Literal["team", "escalation", "public"]

# The runbook's words for the states that it has.
_TEAM_STATUS = {
    "investigating": "Investigating",
    "identified": "Mitigating",
    "monitoring": "Mitigating (watching)",
    "resolved": "Resolved",
}
_EFFECT = {
    "P0": "The service is down on",
    "P1": "Much of what the service does fails on",
    "P2": "Some of what the service does fails on",
    "P3": "Minor trouble on",
}
_MOST_FINDINGS = 3
_MOST_ACTIONS = 20


class MissingError(Exception):
    """A message cannot be rendered; the text names every field that is missing."""


@dataclass(frozen=True)
class Message:
    """What is to be sent: `name` tells it within its incident; `subject` is one line."""

    name: str
    audience: Audience
    subject: str
    text: str
    to: str = ""


@dataclass(frozen=True)
class Action:
    """Something that was done: a procedure on a host, or what a person tells."""

    at: str
    what: str


@dataclass(frozen=True)
class Contact:
    """Somebody to call. `role` is the key of the roster."""

    role: str
    name: str
    email: str = ""
    phone: str = ""


@dataclass(frozen=True)
class Setting:
    """What messages say besides the incident's state: the service's name, the status page's address."""

    service: str
    status_page: str = ""


def impact(found: Sequence[state.Finding], severity: Severity, fleet_size: int) -> str:
    """The impact as far as it can be computed; empty when nothing was found on any host."""
    hosts = sorted({finding.host for finding in found})
    if not hosts:
        return ""
    return f"{_EFFECT[severity]} {len(hosts)} of {max(fleet_size, len(hosts))} hosts ({', '.join(hosts)})"


def summary(found: Sequence[state.Finding]) -> str:
    """The worst findings in words; empty when there are none."""
    told = [f"{each.host}: {each.level} {each.rule}: {each.measured}" for each in found[:_MOST_FINDINGS]]
    more = [f"and {len(found) - _MOST_FINDINGS} more"] if len(found) > _MOST_FINDINGS else []
    return wording.one_line("; ".join([*told, *more]))


def declaration(incident: state.Incident, setting: Setting) -> Message:
    """The declaration. Raises MissingError."""
    _need(incident, "lead", "impact")
    fields = {
        "Service": setting.service,
        "Impact": incident.impact,
        "Started": incident.started,
        "Lead": incident.lead,
        "Respond by": incident.respond_by,
        "Incident": incident.id,
        **({"Status page": setting.status_page} if setting.status_page else {}),
    }
    return _message("declaration", "team", f"INCIDENT DECLARED: {incident.severity}", fields, incident.id)


def update(incident: state.Incident, actions: Sequence[Action], setting: Setting) -> Message:
    """The newest update; `actions` are those since the one before. Raises MissingError."""
    newest = incident.updates[-1]
    _need(incident, "lead", "impact", *([] if incident.status == "resolved" else ["next_steps"]))
    typed = [Action(newest.at, each) for each in newest.actions]
    fields = {
        "Time": newest.at,
        "Status": _TEAM_STATUS[incident.status],
        "Impact": incident.impact,
        "Actions taken": _bullets([*actions, *typed]),
        "Next steps": incident.next_steps or "watch, then close",
        "ETA": incident.eta or "not known",
        "Lead": incident.lead,
        "Next update by": incident.update_due or "none follows",
    }
    subject = f"UPDATE: {setting.service} incident"
    return _message(f"update-{newest.number}", "team", subject, fields, incident.id)


def worsened(incident: state.Incident, actions: Sequence[Action], setting: Setting) -> Message:
    """The update that an alert which makes it worse owes; it waits for nobody. Raises MissingError."""
    _need(incident, "impact")
    fields = {
        "Time": incident.worsened[-1],
        "Status": _TEAM_STATUS[incident.status],
        "Severity": f"{incident.severity} now",
        "Impact": incident.impact,
        "Actions taken": _bullets(actions),
        "Next steps": incident.next_steps or "not told",
        "ETA": incident.eta or "not known",
        "Lead": incident.lead or "none",
        "Next update by": incident.update_due or "none follows",
    }
    subject = f"UPDATE: {setting.service} incident is worse"
    return _message(f"worse-{len(incident.worsened)}", "team", subject, fields, incident.id)


def stand_down(incident: state.Incident, actions: Sequence[Action], setting: Setting) -> Message:
    """The end, its duration, impact and resolution computed from the record. Raises MissingError."""
    _need(incident, "impact", "resolution")
    fields = {
        "Service": setting.service,
        "Duration": words(incident.duration(timestamps.parse(incident.closed_at))),
        "Impact": final_impact(incident),
        "Resolution": incident.resolution + (f"\n{_bullets(actions)}" if actions else ""),
        "Incident": incident.id,
    }
    subject = f"INCIDENT RESOLVED: {incident.resolved_at}"
    return _message("stand-down", "team", subject, fields, incident.id)


def final_impact(incident: state.Incident) -> str:
    """The impact from first to last: what was said of it, the worst severity, the hosts, the alerts."""
    facts = [f"{incident.worst} at worst"]
    if incident.hosts:
        facts.append(f"{len(incident.hosts)} of {incident.fleet_size or len(incident.hosts)} hosts")
    if incident.joins:
        facts.append(f"{incident.joins + 1} alerts")
    if incident.recurrences:
        facts.append(f"came back {counted(incident.recurrences, 'time')}")
    return f"{incident.impact} ({', '.join(facts)})"


def escalation(
    incident: state.Incident,
    call: state.Escalation,
    actions: Sequence[Action],
    contact: Contact,
    now: datetime,
    setting: Setting,
) -> Message:
    """A call for somebody else; one that nobody ordered does not wait for a lead. Raises MissingError."""
    _need(incident, *([] if call.automatic else ["lead"]), "summary", "impact")
    fields = {
        "Incident ID": incident.id,
        "Severity": incident.severity,
        "Duration": words(incident.duration(now)),
        "Current responder": incident.lead or "none",
        "Summary": incident.summary,
        "Impact": incident.impact,
        "Actions taken": _bullets(actions),
        "Why escalating": call.why,
        "Next person": f"{contact.name} ({contact.role})",
    }
    subject = f"ESCALATION NEEDED: {setting.service} incident"
    return _message(f"escalation-{call.number}", "escalation", subject, fields, incident.id, to=contact.email)


def overdue(incident: state.Incident, number: int, setting: Setting) -> Message:
    """The reminder of an update that did not come, the first or a later one."""
    fields = {
        "Incident": incident.id,
        "Severity": incident.severity,
        "Update due": incident.update_due,
        "Lead": incident.lead or "none",
        "Next steps": f"ansible-playbook playbooks/incident.yml -e do=update -e incident={incident.id} ...",
    }
    name = f"overdue-{incident.update_due.replace(':', '')}-{number}"
    return _message(name, "team", f"OVERDUE: update of the {setting.service} incident", fields, incident.id)


def not_restored(incident: state.Incident, contact: Contact | None, setting: Setting) -> Message:
    """The call for somebody else when the service is not back in time, without anybody's order."""
    fields = {
        "Incident ID": incident.id,
        "Severity": incident.severity,
        "Started": incident.started,
        "Current responder": incident.lead or "none",
        "Summary": incident.summary or "not told",
        "Impact": incident.impact or "not told",
        "Why escalating": f"not restored within {words(state.RESTORED_WITHIN)}",
        "Next person": f"{contact.name} ({contact.role})" if contact else "nobody is named",
    }
    subject = f"ESCALATION NEEDED: {setting.service} incident"
    to = contact.email if contact else ""
    return _message("not-restored", "escalation", subject, fields, incident.id, to=to)


def public(incident: state.Incident) -> Message:
    """The newest entry of the status page, for sinks that take texts."""
    entry = incident.public[-1]
    return Message(
        f"status-{entry.number}",
        "public",
        f"{entry.status.capitalize()}: {entry.at}",
        f"{entry.at} - {entry.text}",
    )


def timeline_actions(
    events: Sequence[Mapping[str, object]], after: str = "", before: str = ""
) -> list[Action]:
    """What procedures did by the incident's timeline, the beginning of each left out; times inclusive."""
    return [
        Action(str(event["at"]), _done(event))
        for event in events
        if event.get("procedure")
        and event.get("result") != "begun"
        and (not after or str(event["at"]) >= after)
        and (not before or str(event["at"]) <= before)
    ]


def told_actions(incident: state.Incident) -> list[Action]:
    """What people told that they did, in all updates."""
    return [Action(update.at, each) for update in incident.updates for each in update.actions]


def words(span: timedelta) -> str:
    """A span in words, to the minute; below one, to the second: `1 h 5 min`."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    days, rest = divmod(seconds // 60, 24 * 60)
    hours, minutes = divmod(rest, 60)
    parts = [f"{value} {unit}" for value, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if value]
    return " ".join(parts)


def counted(number: int, what: str) -> str:
    """A number of things: `1 alert`, `2 alerts`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _done(event: Mapping[str, object]) -> str:
    first, *_ = [*str(event.get("message") or "").splitlines(), ""]
    return f"{event['procedure']} on {event.get('host')}: {event.get('result')}. {first}".strip()


def _bullets(actions: Sequence[Action]) -> str:
    if not actions:
        return "- none yet"
    shown = sorted(actions, key=lambda each: each.at)[-_MOST_ACTIONS:]
    left_out = len(actions) - len(shown)
    lines = [f"- {each.at} {wording.one_line(each.what)}" for each in shown]
    return "\n".join([*([f"- {left_out} earlier ones"] if left_out else []), *lines])


def _need(incident: state.Incident, *names: str) -> None:
    given = {name: getattr(incident, name) for name in names}
    missing = [name for name, value in given.items() if not value]
    fillers = [name for name, value in given.items() if value and wording.is_filler(value)]
    problems = [f"it has no {name}" for name in missing]
    problems += [f"its {name} is a placeholder: {given[name]!r}" for name in fillers]
    if problems:
        flags = " ".join(f"-e '{name}=\"...\"'" for name in [*missing, *fillers])
        raise MissingError(
            f"{'; '.join(problems)}. Give {flags} to playbooks/incident_update.yml -e incident={incident.id}"
        )


def _message(
    name: str, audience: Audience, subject: str, fields: Mapping[str, str], incident_id: str, to: str = ""
) -> Message:
    lines = [subject]
    for label, value in fields.items():
        lines.append(f"{label}:\n{value}" if value.startswith("- ") else f"{label}: {_indented(value)}")
    return Message(name, audience, wording.one_line(f"{subject} [{incident_id}]"), "\n".join(lines), to)


def _indented(text: str) -> str:
    """A text whose further lines cannot be taken for fields of the message."""
    first, *more = text.split("\n")
    return "\n".join([first, *(line if line.startswith("- ") else f"  {line}" for line in more)])


def moment(at: datetime) -> str:
    """A time for people: UTC, to the minute."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
