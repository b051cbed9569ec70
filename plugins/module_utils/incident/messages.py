"""Renders the messages of an incident from its state, with the fields that the runbook asks for.

A message is not rendered if a required field is missing. The error names the field.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import state, wording
from ansible_collections.katago.fleet.plugins.module_utils.severity import Level, rank

Audience = Literal["team", "escalation", "public"]

# The runbook's names for the statuses.
_TEAM_STATUS = {
    "investigating": "Investigating",
    "identified": "Mitigating",
    "monitoring": "Mitigating (monitoring)",
    "resolved": "Resolved",
}
_EFFECT: Mapping[Level, str] = {
    "P0": "is down",
    "P1": "is severely degraded",
    "P2": "is partly degraded",
    "P3": "has minor problems",
    "unknown": "is in an unknown state",
}
_SLOWER = "is slower"
_SUSPICIOUS = "may be compromised"
_MOST_FINDINGS = 3
_NO_ACTION = ("begun", "refused")
_MOST_ACTIONS = 20
# The ids that drills give to their incidents.
_DRILL = re.compile(r"drill-\d{4}-\d{2}-\d{2}-\d+")


class MissingError(Exception):
    """A message cannot be rendered. The text names every missing field and the command that sets it."""


@dataclass(frozen=True)
class Message:
    """A message to send. `name` identifies it within its incident; `subject` is one line."""

    name: str
    audience: Audience
    subject: str
    text: str
    to: str = ""


@dataclass(frozen=True)
class Action:
    """An action that was taken: a procedure on a host, or an action that a person reported."""

    at: str
    what: str


@dataclass(frozen=True)
class Contact:
    """A person to call. `role` is the key in the roster."""

    role: str
    name: str
    email: str = ""
    phone: str = ""


@dataclass(frozen=True)
class Setting:
    """Texts that come from the inventory: the service's name and the status page's address."""

    service: str
    status_page: str = ""


def impact(
    findings: Iterable[state.Finding],
    levels: Mapping[str, Level],
    fleet_size: int,
    load_balancers: Collection[str] = (),
) -> str:
    """The impact, computed from the level and the findings of each host; empty if all are healthy.

    `levels`: by host. Each host is counted once, at its worst level. `load_balancers`: those hosts that do
    not run the service. `fleet_size`: the number of hosts, `load_balancers` included.
    """
    by_host: dict[str, list[state.Finding]] = {}
    for finding in findings:
        by_host.setdefault(finding.host, []).append(finding)
    affected: dict[str, list[str]] = {}
    for host, level in sorted(levels.items(), key=lambda each: (-rank(each[1]), each[0])):
        if level != "healthy":
            affected.setdefault(_effect(level, by_host.get(host, ())), []).append(host)
    size = max(fleet_size, len(levels)) - len(load_balancers)
    services: list[str] = []
    proxies: list[str] = []
    for effect, hosts in affected.items():
        if serving := sorted(set(hosts).difference(load_balancers)):
            of = "" if services else f" of {counted(size, 'host')}"
            services.append(f"{effect} on {len(serving)}{of} ({', '.join(serving)})")
        proxies += [f"the load balancer {host} {effect}" for host in sorted(set(hosts) & {*load_balancers})]
    parts = [*([f"the service {', '.join(services)}"] if services else []), *proxies]
    text = "; ".join(parts)
    return text[:1].upper() + text[1:]


def _effect(level: Level, findings: Sequence[state.Finding]) -> str:
    """What a host's worst findings mean for the service on it."""
    worst = [each for each in findings if each.level == level]
    if worst and all(each.rule == "performance" for each in worst):
        return _SLOWER
    if worst and all(each.suspicious for each in worst):
        return _SUSPICIOUS
    return _EFFECT[level]


def hosts_text(incident: state.Incident) -> str:
    """The affected hosts, by level if their levels differ; empty without affected hosts.

    Such as `2 of 3 hosts`, or `3 of 3 hosts: P0 on katago-1, P3 on katago-2 and katago-3`. Load balancers
    are counted apart: `1 of 3 hosts and 1 of 2 load balancers`.
    """
    levels, proxies = incident.host_levels, incident.load_balancers
    affected = sorted(host for host in levels if levels[host] != "healthy")
    if not affected:
        return ""
    affected_proxies = proxies.intersection(affected)
    affected_hosts = len(affected) - len(affected_proxies)
    size = max(incident.fleet_size, len(levels)) - len(proxies)
    counts = [f"{affected_hosts} of {counted(size, 'host')}"] if affected_hosts else []
    if affected_proxies:
        counts.append(f"{len(affected_proxies)} of {counted(len(proxies), 'load balancer')}")
    text = " and ".join(counts)
    by_level = {level: [host for host in affected if levels[host] == level] for level in _EFFECT}
    named = [f"{level} on {' and '.join(hosts)}" for level, hosts in by_level.items() if hosts]
    return text if len(named) == 1 else f"{text}: {', '.join(named)}"


def impact_by_level(incident: state.Incident) -> str:
    """The impact with the hosts of each level, if their levels differ; empty if it was not reported."""
    hosts = hosts_text(incident)
    return f"{incident.impact} ({hosts})" if incident.impact and ":" in hosts else incident.impact


def summary(findings: Sequence[state.Finding]) -> str:
    """The worst findings on one line; empty without findings. `findings`: the worst first."""
    shown = [f"{each.host}: {each.level} {each.rule}: {each.measured}" for each in findings[:_MOST_FINDINGS]]
    more = [f"and {len(findings) - _MOST_FINDINGS} more"] if len(findings) > _MOST_FINDINGS else []
    return wording.one_line("; ".join([*shown, *more]))


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
    """The newest update. `actions`: those since the previous update. Raises MissingError."""
    newest = incident.updates[-1]
    _need(incident, "lead", "impact", *([] if incident.status == "resolved" else ["next_steps"]))
    typed = [Action(newest.at, each) for each in newest.actions]
    fields = {
        "Time": newest.at,
        "Status": _TEAM_STATUS[incident.status],
        "Impact": incident.impact,
        "Actions taken": _bullets([*actions, *typed]),
        "Next steps": incident.next_steps or "watch the service, then close the incident",
        "ETA": incident.eta or "unknown",
        "Lead": incident.lead,
        "Next update by": incident.update_due or "no further update",
    }
    subject = f"UPDATE: {setting.service} incident"
    return _message(f"update-{newest.number}", "team", subject, fields, incident.id)


def worsened(incident: state.Incident, actions: Sequence[Action], setting: Setting) -> Message:
    """The update after an alert raised the severity. It is sent without a lead too. Raises MissingError."""
    _need(incident, "impact")
    fields = {
        "Time": incident.worsened[-1],
        "Status": _TEAM_STATUS[incident.status],
        "Severity": f"raised to {incident.severity}",
        "Impact": incident.impact,
        "Actions taken": _bullets(actions),
        "Next steps": incident.next_steps or "not decided yet",
        "ETA": incident.eta or "unknown",
        "Lead": incident.lead or "nobody yet",
        "Next update by": incident.update_due or "no further update",
    }
    subject = f"UPDATE: {setting.service} incident has become worse"
    return _message(f"worse-{len(incident.worsened)}", "team", subject, fields, incident.id)


def stand_down(incident: state.Incident, actions: Sequence[Action], setting: Setting) -> Message:
    """The stand-down: duration, impact and resolution, from the record. Raises MissingError."""
    _need(incident, "impact", "resolution")
    fields = {
        "Service": setting.service,
        "Duration": duration_text(incident.duration(timestamps.parse(incident.closed_at))),
        "Impact": final_impact(incident),
        "Resolution": incident.resolution + (f"\n{_bullets(actions)}" if actions else ""),
        "Incident": incident.id,
    }
    subject = f"INCIDENT RESOLVED: {incident.resolved_at}"
    return _message("stand-down", "team", subject, fields, incident.id)


def final_impact(incident: state.Incident) -> str:
    """The impact of the whole incident: its text, highest severity, hosts by level, number of alerts."""
    facts = [f"highest severity {incident.worst}"]
    if hosts := hosts_text(incident):
        facts.append(hosts)
    if incident.joins:
        facts.append(f"{incident.joins + 1} alerts")
    if incident.recurrences:
        facts.append(f"recurred {counted(incident.recurrences, 'time')}")
    return f"{incident.impact} ({', '.join(facts)})"


def escalation(
    incident: state.Incident,
    call: state.Escalation,
    actions: Sequence[Action],
    contact: Contact,
    now: datetime,
    setting: Setting,
) -> Message:
    """A call to a contact. An automatic escalation does not need a lead. Raises MissingError."""
    _need(incident, *([] if call.automatic else ["lead"]), "summary", "impact")
    fields = {
        "Incident ID": incident.id,
        "Severity": incident.severity,
        "Duration": duration_text(incident.duration(now)),
        "Current responder": incident.lead or "nobody yet",
        "Summary": incident.summary,
        "Impact": incident.impact,
        "Actions taken": _bullets(actions),
        "Why escalating": call.why,
        "Next person": f"{contact.name} ({contact.role})",
    }
    subject = f"ESCALATION NEEDED: {setting.service} incident"
    return _message(f"escalation-{call.number}", "escalation", subject, fields, incident.id, to=contact.email)


def overdue(incident: state.Incident, number: int, setting: Setting) -> Message:
    """A reminder of an update that is overdue. `number`: which reminder it is, from 1."""
    fields = {
        "Incident": incident.id,
        "Severity": incident.severity,
        "Update due": incident.update_due,
        "Lead": incident.lead or "nobody yet",
        "Next steps": (
            f"ansible-playbook playbooks/incident_update.yml -e incident={incident.id}"
            " -e 'next_steps=\"<next steps>\"'"
        ),
    }
    name = f"overdue-{incident.update_due.replace(':', '')}-{number}"
    return _message(name, "team", f"OVERDUE: update of the {setting.service} incident", fields, incident.id)


def not_restored(incident: state.Incident, contact: Contact | None, setting: Setting) -> Message:
    """The automatic call to a contact when the service was not restored in time."""
    fields = {
        "Incident ID": incident.id,
        "Severity": incident.severity,
        "Started": incident.started,
        "Current responder": incident.lead or "nobody yet",
        "Summary": incident.summary or "not reported",
        "Impact": incident.impact or "not reported",
        "Why escalating": f"the service was not restored within {duration_text(state.RESTORED_WITHIN)}",
        "Next person": f"{contact.name} ({contact.role})" if contact else "no valid contact in the roster",
    }
    subject = f"ESCALATION NEEDED: {setting.service} incident"
    to = contact.email if contact else ""
    return _message("not-restored", "escalation", subject, fields, incident.id, to=to)


def public(incident: state.Incident) -> Message:
    """The newest entry of the status page, for channels that take text."""
    entry = incident.public[-1]
    mark = _mark(incident.id)
    return Message(
        f"status-{entry.number}",
        "public",
        f"{mark}{entry.status.capitalize()}: {entry.at}",
        f"{mark}{entry.at} - {entry.text}",
    )


def timeline_actions(
    events: Sequence[Mapping[str, object]], after: str = "", before: str = ""
) -> list[Action]:
    """The results of procedures in the incident's timeline, without attempts that were refused.

    `after`, `before`: bounds, both inclusive.
    """
    return [
        Action(str(event["at"]), _done(event))
        for event in events
        if event.get("procedure")
        and event.get("result") not in _NO_ACTION
        and (not after or str(event["at"]) >= after)
        and (not before or str(event["at"]) <= before)
    ]


def reported_actions(incident: state.Incident) -> list[Action]:
    """The actions that people reported, in all updates."""
    return [Action(update.at, each) for update in incident.updates for each in update.actions]


def duration_text(span: timedelta) -> str:
    """A duration for people, to the minute, such as `1 h 5 min`; below one minute, to the second."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    days, rest = divmod(seconds // 60, 24 * 60)
    hours, minutes = divmod(rest, 60)
    parts = [f"{value} {unit}" for value, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if value]
    return " ".join(parts)


def counted(number: int, what: str) -> str:
    """A number with its noun: `1 alert`, `2 alerts`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _done(event: Mapping[str, object]) -> str:
    first, *_ = [*str(event.get("message") or "").splitlines(), ""]
    return f"{event['procedure']} on {event.get('host')}: {event.get('result')}. {first}".strip()


def _bullets(actions: Sequence[Action]) -> str:
    if not actions:
        return "- none yet"
    shown = sorted(actions, key=lambda each: each.at)[-_MOST_ACTIONS:]
    omitted = len(actions) - len(shown)
    lines = [f"- {each.at} {wording.one_line(each.what)}" for each in shown]
    header = [f"- {counted(omitted, 'earlier action')} not shown"] if omitted else []
    return "\n".join([*header, *lines])


def _need(incident: state.Incident, *names: str) -> None:
    fields = {name: getattr(incident, name) for name in names}
    missing = [name for name, value in fields.items() if not value]
    fillers = [name for name, value in fields.items() if value and wording.is_filler(value)]
    problems = [f"{name} is missing" for name in missing]
    problems += [f"{name} is a placeholder ({fields[name]!r})" for name in fillers]
    if problems:
        flags = " ".join(f"-e '{name}=\"<{name}>\"'" for name in [*missing, *fillers])
        raise MissingError(
            f"{'; '.join(problems)}. Run"
            f" ansible-playbook playbooks/incident_update.yml -e incident={incident.id} {flags}"
            f" to set {'it' if len(problems) == 1 else 'them'} and send the message"
        )


def _message(
    name: str, audience: Audience, subject: str, fields: Mapping[str, str], incident_id: str, to: str = ""
) -> Message:
    subject = _mark(incident_id) + subject
    lines = [subject]
    for label, value in fields.items():
        lines.append(f"{label}:\n{value}" if value.startswith("- ") else f"{label}: {_indented(value)}")
    return Message(name, audience, wording.one_line(f"{subject} [{incident_id}]"), "\n".join(lines), to)


def _mark(incident_id: str) -> str:
    """How every message of a drill begins, so that nobody takes it for a real incident; empty for others."""
    return "DRILL: " if _DRILL.fullmatch(incident_id) else ""


def _indented(text: str) -> str:
    """A text whose further lines cannot be taken for fields of the message."""
    first, *more = text.split("\n")
    return "\n".join([first, *(line if line.startswith("- ") else f"  {line}" for line in more)])


def moment(at: datetime) -> str:
    """A time for people, in UTC, to the minute."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
