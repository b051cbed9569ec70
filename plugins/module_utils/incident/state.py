"""Computes an incident's state by replaying its record, with the allowed transitions and the deadlines.

Pure. The record is append-only: one JSON object a line, with `at` (UTC), `who` and `event`. A last line
without a line end comes from a writer that was killed. It is ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import events
from ansible_collections.katago.fleet.plugins.module_utils.severity import (
    RESPONSE,
    SEVERITIES,
    Level,
    Severity,
    rank,
)

Status = Literal["investigating", "identified", "monitoring", "resolved"]
Outcome = Literal["sending", "sent", "failed", "unknown"]
Kind = Literal["senior", "developers", "security"]
STATUSES: tuple[Status, ...] = get_args(Status)

UPDATE_EVERY = {
    "P0": timedelta(minutes=15),
    "P1": timedelta(minutes=15),
    "P2": timedelta(minutes=30),
    "P3": timedelta(minutes=30),
}
RESTORED_WITHIN = timedelta(minutes=10)
RECURS_WITHIN = timedelta(hours=24)
NOT_RESTORED = "not-restored"
"""The key of the trigger that the reminder timer answers automatically."""


DRILL_PREFIX = "drill-"
"""The ids of incidents that announce a drill start with it."""


class DamagedError(Exception):
    """A line of a record is not valid. The message names the file and the line."""


class RefusedError(Exception):
    """A request does not fit the incident. The message gives the reason and what is accepted instead."""


@dataclass(frozen=True)
class Finding:
    """A finding of triage on a host: a rule that failed. Unknown facts are not findings.

    `suspicious`: a possible break-in.
    """

    host: str
    level: Severity
    rule: str
    measured: str
    suspicious: bool = False

    @property
    def mark(self) -> str:
        """What identifies a finding across reports: the host and the rule, without the measured value."""
        return f"{self.host}/{self.rule}"


@dataclass(frozen=True)
class Public:
    """An entry of the status page."""

    number: int
    at: str
    status: Status
    text: str


@dataclass(frozen=True)
class Update:
    """An update. `number` counts from 1. `asked`: the request's parameters, to recognise a repetition."""

    number: int
    at: str
    actions: tuple[str, ...]
    asked: Mapping[str, Any]


@dataclass(frozen=True)
class Escalation:
    """A call to a contact. `number` counts from 1.

    `answers`: the keys of the triggers that it answers; None for all triggers at that time. `automatic`: no
    person ordered it. `kind`: whom the runbook wants called.
    """

    number: int
    at: str
    to: str
    why: str
    answers: frozenset[str] | None = None
    automatic: bool = False
    kind: Kind = "senior"


@dataclass(frozen=True)
class Trigger:
    """A reason for which the runbook wants somebody called.

    `key` identifies it within the incident, so that each is answered once.
    """

    key: str
    kind: Kind
    why: str


@dataclass
class Incident:
    """The state of an incident. Times are in UTC, as in records; an empty time means "not yet".

    `severity_by`: `triage` or a person. `worst`: the highest severity so far. `marks`: those of all
    findings. `levels`: the worst measured level of each host that triage saw; `unknown` only until it is
    measured. `load_balancers`: those of them that do not run the service. `bugs`: the new errors that are
    unexpected exceptions of the application. `deliveries`: the last outcome of each message and channel, by
    key. `computed`: the texts that come from triage and that no person replaced. `worsened`: when an alert
    that joined raised the severity. `unhealthy`: when each of its hosts was last unhealthy or unknown.
    `without_watch`: when a person resolved or closed it without a watch. `last_update_at`: when the team was
    last informed.
    """

    id: str
    opened_at: str
    opened_by: str
    started: str
    severity: Severity
    severity_by: str
    worst: Severity
    respond_by: str
    alert: str = ""
    fleet_size: int = 0
    load_balancers: set[str] = field(default_factory=set)
    findings: dict[str, Finding] = field(default_factory=dict)
    levels: dict[str, Level] = field(default_factory=dict)
    errors: set[str] = field(default_factory=set)
    unfamiliar: list[str] = field(default_factory=list)
    bugs: set[str] = field(default_factory=set)
    recurrence_of: str = ""
    recurrences: int = 0
    joins: int = 0
    status: Status = "investigating"
    resolved_at: str = ""
    closed_at: str = ""
    acknowledged_at: str = ""
    last_update_at: str = ""
    lead: str = ""
    impact: str = ""
    summary: str = ""
    next_steps: str = ""
    eta: str = ""
    resolution: str = ""
    updates: list[Update] = field(default_factory=list)
    escalations: list[Escalation] = field(default_factory=list)
    public: list[Public] = field(default_factory=list)
    overdue: list[str] = field(default_factory=list)
    deliveries: dict[str, Outcome] = field(default_factory=dict)
    unhealthy: dict[str, str] = field(default_factory=dict)
    without_watch: str = ""
    computed: set[str] = field(default_factory=set)
    worsened: list[str] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Whether it is not closed yet."""
        return not self.closed_at

    @property
    def marks(self) -> frozenset[str]:
        """The marks of all findings."""
        return frozenset(finding.mark for finding in self.findings.values())

    @property
    def host_levels(self) -> dict[str, Level]:
        """The level of each host that triage saw, or at least of each host with findings."""
        return {**levels_of(self.findings.values()), **self.levels}

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts with findings."""
        return tuple(sorted({finding.host for finding in self.findings.values()}))

    @property
    def update_due(self) -> str:
        """When the next update is due; empty for a closed incident."""
        return (
            timestamps.stamp(timestamps.parse(self.last_update_at) + UPDATE_EVERY[self.severity])
            if self.is_open
            else ""
        )

    def duration(self, now: datetime) -> timedelta:
        """The time from its start to its resolution, or until now."""
        return (
            timestamps.parse(self.resolved_at) - timestamps.parse(self.started)
            if self.resolved_at
            else now - timestamps.parse(self.started)
        )


@dataclass(frozen=True)
class Folded:
    """A replayed record: the incident, None for an empty record; whether the last line is incomplete."""

    incident: Incident | None
    torn: bool


def fold(content: bytes, name: str) -> Folded:
    """Replay the lines of a record. `name`: the file's name, for errors.

    Raises:
        DamagedError: if a line is not valid. An incomplete last line is ignored.
    """
    *whole, rest = content.split(b"\n")
    incident: Incident | None = None
    for number, line in enumerate(whole, start=1):
        try:
            incident = _apply(incident, events.parse(line))
        except ValueError as error:
            raise DamagedError(
                f"{name}, line {number} of {len(whole)} is damaged: {error}. Copy the file, then repair or"
                " remove that line. The other lines may be intact."
            ) from error
    return Folded(incident, bool(rest))


def _apply(incident: Incident | None, event: Mapping[str, Any]) -> Incident | None:
    kind, at = event["event"], event["at"]
    # The content of an incomplete line was never in effect.
    if kind == "torn":
        return incident
    if incident is None:
        if kind != "opened":
            raise ValueError(f"the event {kind!r} comes before the incident was opened")
        incident = Incident(**{name: event[name] for name in _OPENING}, opened_at=at, opened_by=event["who"])
    elif kind == "opened":
        raise ValueError("the incident was opened before")
    if kind not in _APPLIED:
        raise ValueError(f"event is {kind!r}, not one of {', '.join(_APPLIED)}")
    _APPLIED[kind](incident, at, event)
    return incident


_OPENING = events.REQUIRED["opened"]
_TEXTS = ("lead", "impact", "summary", "next_steps", "eta", "resolution")


def _opened(incident: Incident, at: str, event: Mapping[str, Any]) -> None:
    incident.alert = event.get("alert", "")
    incident.fleet_size = int(event.get("fleet_size", 0))
    incident.recurrence_of = event.get("recurrence_of", "")
    incident.last_update_at = at
    _saw(incident, event)
    _said(incident, at, event)


def _joined(incident: Incident, at: str, event: Mapping[str, Any]) -> None:
    incident.joins += 1
    incident.alert = incident.alert or event.get("alert", "")
    before = incident.severity
    _saw(incident, event)
    _moved(incident, at, event)
    _said(incident, at, event)
    if incident.severity != before and worse(incident.severity, before) == incident.severity:
        incident.worsened.append(at)


def _updated(incident: Incident, at: str, event: Mapping[str, Any]) -> None:
    _moved(incident, at, event)
    number = len(incident.updates) + 1
    incident.updates.append(Update(number, at, tuple(event.get("actions", ())), event.get("asked", {})))
    incident.last_update_at = at
    _said(incident, at, event)


def _escalated(incident: Incident, at: str, event: Mapping[str, Any]) -> None:
    _said(incident, at, event)
    answers = frozenset(event["answers"]) if "answers" in event else None
    call = Escalation(
        len(incident.escalations) + 1,
        at,
        event["to"],
        event["why"],
        answers,
        bool(event.get("automatic", False)),
        event.get("kind", "senior"),
    )
    incident.escalations.append(call)


def _closed(incident: Incident, at: str, event: Mapping[str, Any]) -> None:
    incident.status = "resolved"
    incident.resolved_at = incident.resolved_at or at
    incident.closed_at = at
    _said(incident, at, event)


def _became_overdue(incident: Incident, at: str, event: Mapping[str, Any]) -> None:
    incident.overdue.append(event["due"])


def _delivered(incident: Incident, at: str, event: Mapping[str, Any]) -> None:
    incident.deliveries[event["key"]] = event["event"]


_APPLIED: Mapping[str, Callable[[Incident, str, Mapping[str, Any]], None]] = {
    "opened": _opened,
    "joined": _joined,
    "updated": _updated,
    "escalated": _escalated,
    "closed": _closed,
    "overdue": _became_overdue,
    **dict.fromkeys(get_args(Outcome), _delivered),
}


def _saw(incident: Incident, event: Mapping[str, Any]) -> None:
    findings = [
        Finding(each["host"], each["level"], each["rule"], each["measured"], each.get("suspicious", False))
        for each in event.get("findings", ())
    ]
    incident.findings = merged(incident.findings, findings)
    incident.unhealthy |= {each.host: str(event["at"]) for each in findings}
    undecided = event.get("undecided", ())
    incident.unhealthy |= dict.fromkeys(undecided, str(event["at"]))
    incident.levels = joined_levels(
        incident.levels, event.get("levels") or levels_of(findings, undecided=undecided)
    )
    incident.load_balancers |= set(event.get("load_balancers", ()))
    incident.errors |= set(event.get("errors", ()))
    incident.bugs |= set(event.get("bugs", ()))
    incident.unfamiliar += [each for each in event.get("unfamiliar", ()) if each not in incident.unfamiliar]


def _said(incident: Incident, at: str, event: Mapping[str, Any]) -> None:
    for name in _TEXTS:
        if text := event.get(name):
            setattr(incident, name, str(text))
            if name in event.get("computed", ()):
                incident.computed.add(name)
            else:
                incident.computed.discard(name)
    if incident.lead and not incident.acknowledged_at:
        incident.acknowledged_at = at
    if text := event.get("public"):
        incident.public.append(Public(len(incident.public) + 1, at, incident.status, str(text)))


def _moved(incident: Incident, at: str, event: Mapping[str, Any]) -> None:
    """Change severity and status. Leaving `resolved` counts as a recurrence."""
    if severity := event.get("severity"):
        incident.severity, incident.severity_by = severity, event["severity_by"]
        incident.worst = worse(incident.worst, severity)
        incident.respond_by = min(incident.respond_by, respond_by(severity, timestamps.parse(at)))
    if event.get("without_watch"):
        incident.without_watch = at
    if (status := event.get("status", incident.status)) != incident.status:
        if status not in STATUSES:
            raise ValueError(f"status is {status!r}, not one of {', '.join(STATUSES)}")
        if incident.status == "resolved":
            incident.without_watch = ""
        incident.recurrences += incident.status == "resolved"
        incident.resolved_at = at if status == "resolved" else ""
        incident.status = status


def merged(before: Mapping[str, Finding], findings: Iterable[Finding]) -> dict[str, Finding]:
    """The findings by mark, with those of a new report, of which the worst with the same mark counts."""
    worst: dict[str, Finding] = {}
    for each in sorted(findings, key=lambda each: SEVERITIES.index(each.level)):
        worst.setdefault(each.mark, each)
    return {**before, **worst}


def levels_of(findings: Iterable[Finding], *, undecided: Iterable[str] = ()) -> dict[str, Level]:
    """The worst level of each host with findings; `unknown` for the other hosts in `undecided`."""
    levels: dict[str, Level] = dict.fromkeys(undecided, "unknown")
    for each in findings:
        levels[each.host] = max(levels.get(each.host, "healthy"), each.level, key=rank)
    return levels


def joined_levels(before: Mapping[str, Level], levels: Mapping[str, Level]) -> dict[str, Level]:
    """The levels so far with those of a new report, the worst of each host.

    A host that was unknown has the level that is measured later. A measured level stays if the host becomes
    unreachable.
    """
    joined = dict(before)
    for host, level in levels.items():
        if joined.get(host, "unknown") == "unknown" or rank(level) > rank(joined[host]):
            joined[host] = level
    return joined


def worse(one: Severity, other: Severity) -> Severity:
    """The worse of two severities."""
    return min(one, other, key=SEVERITIES.index)


def check_transition(incident: Incident, status: Status) -> None:
    """Check that the status may change as requested. The only earlier status allowed is `investigating`.

    Raises:
        RefusedError: if it may not. The message lists the accepted statuses.
    """
    here = STATUSES.index(incident.status)
    if status != "investigating" and STATUSES.index(status) < here:
        can = ", ".join(["investigating", *STATUSES[max(here, 1) :]])
        raise RefusedError(
            f"{incident.id} is {incident.status} and cannot change to {status}. Accepted: {can}."
        )


def check_open(incident: Incident) -> None:
    """Check that an incident is open.

    Raises:
        RefusedError: if it is closed.
    """
    if not incident.is_open:
        raise RefusedError(
            f"{incident.id} was closed at {incident.closed_at}. For a new problem, run"
            " ansible-playbook playbooks/incident_open.yml to open a new incident. To send undelivered"
            f" messages, run ansible-playbook playbooks/incident_deliver.yml -e incident={incident.id}"
        )


def fingerprint(findings: Iterable[Finding]) -> str:
    """An alert's fingerprint: 16 hexadecimal digits of its hosts and rules, in any order."""
    marks = "\n".join(sorted({each.mark for each in findings}))
    return hashlib.sha256(marks.encode()).hexdigest()[:16]


def same(
    others: Iterable[Incident], alert: str, findings: Sequence[Finding], closed_after: datetime | None = None
) -> Incident | None:
    """The open incident that an alert belongs to; None if there is none.

    If both have an alert name, the names decide. Otherwise one common finding (a rule on a host) is enough,
    because the other findings come and go during an incident. With `closed_after`, the newest matching
    incident that was closed since then.
    """
    marks = {each.mark for each in findings}
    for incident in sorted(others, key=lambda each: each.opened_at, reverse=True):
        if closed_after is None:
            eligible = incident.is_open
        else:
            eligible = not incident.is_open and timestamps.parse(incident.closed_at) >= closed_after
        named = bool(alert and incident.alert)
        if eligible and (incident.alert == alert if named else bool(marks & incident.marks)):
            return incident
    return None


def respond_by(severity: Severity, at: datetime) -> str:
    """The deadline of the first response."""
    return timestamps.stamp(at + RESPONSE[severity])


def awaits_restoration(incident: Incident) -> bool:
    """Whether somebody must be called if the service is not restored within RESTORED_WITHIN."""
    return incident.severity in ("P0", "P1") and incident.status in ("investigating", "identified")


def is_helped(incident: Incident) -> bool:
    """Whether somebody who can restore the service was called: by a person, or a senior engineer."""
    return any(not call.automatic or call.kind == "senior" for call in incident.escalations)


def triggers(incident: Incident, now: datetime) -> list[Trigger]:
    """The reasons for which the runbook wants somebody called now.

    Triggers that an escalation answered are left out. NOT_RESTORED is left out once somebody who can
    restore the service was called.
    """
    if not incident.is_open:
        return []
    current = []
    late = now - timestamps.parse(incident.opened_at) >= RESTORED_WITHIN
    if awaits_restoration(incident) and late and not is_helped(incident):
        why = f"the service was not restored within {RESTORED_WITHIN.seconds // 60} minutes"
        current.append(Trigger(NOT_RESTORED, "senior", why))
    if incident.recurrence_of:
        why = f"the closed incident {incident.recurrence_of} has recurred"
        current.append(Trigger(f"recurrence {incident.recurrence_of}", "senior", why))
    if incident.recurrences:
        why = "the incident recurred after it was resolved"
        current.append(Trigger(f"came-back {incident.recurrences}", "senior", why))
    for error in incident.unfamiliar:
        if error in incident.bugs:
            why = f"an application exception that no earlier incident had: {error}"
            current.append(Trigger(f"error {error}", "developers", why))
        else:
            why = f"an error that no earlier incident had: {error}"
            current.append(Trigger(f"error {error}", "senior", why))
    for finding in incident.findings.values():
        if finding.suspicious:
            why = f"{finding.host}: {finding.rule}: {finding.measured}"
            current.append(Trigger(f"security {finding.mark}", "security", why))
    return [each for each in current if not _is_answered(incident, each)]


def _is_answered(incident: Incident, trigger: Trigger) -> bool:
    return any(call.answers is None or trigger.key in call.answers for call in incident.escalations)
