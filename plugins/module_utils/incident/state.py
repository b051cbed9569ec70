"""An incident's state, folded from the lines of its record; what may follow on what, and when what is due.

Pure. The record is only appended to, one JSON object a line with `at` (UTC), `who` and `event`. A last
line without its end was cut short by the death of its writer and counts for nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import events
from ansible_collections.katago.fleet.plugins.module_utils.severity import RESPONSE, SEVERITIES, Severity

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
"""The key of the trigger that a timekeeper answers by itself."""


class DamagedError(Exception):
    """A line of a record says nothing that can be understood; the message names file and line."""


class RefusedError(Exception):
    """An incident does not take this; the message says why and what it would take, in sentences."""


@dataclass(frozen=True)
class Finding:
    """What triage found on a host: a rule's reason, apart from what could not be decided.

    `suspicious`: somebody may have got in.
    """

    host: str
    level: Severity
    rule: str
    measured: str
    suspicious: bool = False

    @property
    def mark(self) -> str:
        """What makes it the same as an earlier one: figures change, host and rule do not."""
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
    """What an update said, with the number of updates up to it. `asked` is how it was asked for."""

    number: int
    at: str
    actions: tuple[str, ...]
    asked: Mapping[str, Any]


@dataclass(frozen=True)
class Escalation:
    """A call for somebody else, with the number of calls up to it.

    `answers`: the keys of the triggers that it answers, None for all that there were. `automatic` when
    nobody ordered it; `kind` is whom the runbook means by it.
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
    """Why the runbook would have somebody called: who, in its words, and why.

    `key` tells it from others of the incident, so that each is answered once.
    """

    key: str
    kind: Kind
    why: str


@dataclass
class Incident:
    """An incident as its record tells it; times in UTC as records carry them, empty for not yet.

    `severity_by` is `triage` or a person. `worst` is the worst severity it had. `marks` are those of all
    findings; `bugs` are the unfamiliar errors that are the application's own. `deliveries` are the last
    words on each message and sink, by key. `computed` are the texts that triage said and nobody else since,
    `worsened` the times at which an alert that joined made it worse. `ill` is when each of its hosts was
    last ill or unknown, `without_watch` when a person let it end without a watch.
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
    findings: dict[str, Finding] = field(default_factory=dict)
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
    told_at: str = ""
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
    ill: dict[str, str] = field(default_factory=dict)
    without_watch: str = ""
    computed: set[str] = field(default_factory=set)
    worsened: list[str] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Whether it was not closed yet."""
        return not self.closed_at

    @property
    def marks(self) -> frozenset[str]:
        """What the findings are told by."""
        return frozenset(finding.mark for finding in self.findings.values())

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts with findings."""
        return tuple(sorted({finding.host for finding in self.findings.values()}))

    @property
    def update_due(self) -> str:
        """When the next update is due; empty for a closed one."""
        return (
            timestamps.stamp(timestamps.parse(self.told_at) + UPDATE_EVERY[self.severity])
            if self.is_open
            else ""
        )

    def duration(self, now: datetime) -> timedelta:
        """From its start to its resolution, or until now."""
        return (
            timestamps.parse(self.resolved_at) - timestamps.parse(self.started)
            if self.resolved_at
            else now - timestamps.parse(self.started)
        )


@dataclass(frozen=True)
class Folded:
    """What a record tells: the incident, None when nothing is told; whether its last line was cut short."""

    incident: Incident | None
    torn: bool


def fold(content: bytes, name: str) -> Folded:
    """The state that the lines of a record make; `name` is the file's, for errors.

    Raises:
        DamagedError: if a line but a last one without its end cannot be understood.
    """
    *whole, rest = content.split(b"\n")
    incident: Incident | None = None
    for number, line in enumerate(whole, start=1):
        try:
            incident = _apply(incident, events.parse(line))
        except ValueError as error:
            raise DamagedError(
                f"{name}, line {number} of {len(whole)} is damaged: {error}. Its other lines may be whole:"
                " look at the line, mend it or take it out, and keep a copy of the file"
            ) from error
    return Folded(incident, bool(rest))


def _apply(incident: Incident | None, event: Mapping[str, Any]) -> Incident | None:
    kind, at = event["event"], event["at"]
    # What a torn line had said never was.
    if kind == "torn":
        return incident
    if incident is None:
        if kind != "opened":
            raise ValueError(f"it says {kind} of an incident that was not opened")
        incident = Incident(**{name: event[name] for name in _OPENING}, opened_at=at, opened_by=event["who"])
    elif kind == "opened":
        raise ValueError("it opens what is open")
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
    incident.told_at = at
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
    incident.told_at = at
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
    for entry in event.get("findings", ()):
        finding = Finding(
            entry["host"], entry["level"], entry["rule"], entry["measured"], entry.get("suspicious", False)
        )
        incident.findings[finding.mark] = finding
        incident.ill[finding.host] = str(event["at"])
    incident.ill |= dict.fromkeys(event.get("undecided", ()), str(event["at"]))
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
    """To another severity, to another status; from `resolved` back is a recurrence."""
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


def worse(one: Severity, other: Severity) -> Severity:
    """The worse of two severities."""
    return min(one, other, key=SEVERITIES.index)


def check_transition(incident: Incident, status: Status) -> None:
    """Refuse a status that cannot follow; the only way back leads to `investigating`.

    Raises:
        RefusedError: saying what can follow.
    """
    here = STATUSES.index(incident.status)
    if status != "investigating" and STATUSES.index(status) < here:
        can = ", ".join(["investigating", *STATUSES[max(here, 1) :]])
        raise RefusedError(f"{incident.id} is {incident.status}; {status} cannot follow. Accepted: {can}.")


def check_open(incident: Incident) -> None:
    """Refuse to go on with what is closed.

    Raises:
        RefusedError: if it is.
    """
    if not incident.is_open:
        raise RefusedError(
            f"{incident.id} was closed at {incident.closed_at}. What happens now is another incident"
            " (-e do=open); what of it was not sent, -e do=tell sends."
        )


def fingerprint(found: Iterable[Finding]) -> str:
    """What tells an alert from others: 16 hexadecimal digits of its hosts and rules, in any order."""
    marks = "\n".join(sorted({each.mark for each in found}))
    return hashlib.sha256(marks.encode()).hexdigest()[:16]


def same(
    others: Iterable[Incident], alert: str, found: Sequence[Finding], closed_after: datetime | None = None
) -> Incident | None:
    """The open incident that an alert belongs to, None for none.

    Where both have a name, it decides. Otherwise a rule on a host that both have does: while things get
    worse or better, the rest of what triage finds comes and goes. With `closed_after`, the newest
    incident of the same that was closed since then instead.
    """
    marks = {each.mark for each in found}
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
    """Whether so much fails that a senior engineer is called unless it is mended soon."""
    return incident.severity in ("P0", "P1") and incident.status in ("investigating", "identified")


def is_helped(incident: Incident) -> bool:
    """Whether somebody was called who may restore it: by a person, or as a senior engineer is."""
    return any(not call.automatic or call.kind == "senior" for call in incident.escalations)


def triggers(incident: Incident, now: datetime) -> list[Trigger]:
    """Why the runbook would have somebody called: [] while it would not.

    What an escalation answered is left out; and while a senior engineer was called, so is the time.
    """
    if not incident.is_open:
        return []
    found = []
    late = now - timestamps.parse(incident.opened_at) >= RESTORED_WITHIN
    if awaits_restoration(incident) and late and not is_helped(incident):
        words = f"not restored within {RESTORED_WITHIN.seconds // 60} minutes"
        found.append(Trigger(NOT_RESTORED, "senior", words))
    if incident.recurrence_of:
        words = f"it is {incident.recurrence_of} again, which was closed"
        found.append(Trigger(f"recurrence {incident.recurrence_of}", "senior", words))
    if incident.recurrences:
        words = "it came back after it was resolved"
        found.append(Trigger(f"came-back {incident.recurrences}", "senior", words))
    for error in incident.unfamiliar:
        if error in incident.bugs:
            words = f"an exception of the application never seen before: {error}"
            found.append(Trigger(f"error {error}", "developers", words))
        else:
            found.append(Trigger(f"error {error}", "senior", f"an error never seen before: {error}"))
    for finding in incident.findings.values():
        if finding.suspicious:
            words = f"{finding.host}: {finding.rule}: {finding.measured}"
            found.append(Trigger(f"security {finding.mark}", "security", words))
    return [each for each in found if not _is_answered(incident, each)]


def _is_answered(incident: Incident, trigger: Trigger) -> bool:
    return any(call.answers is None or trigger.key in call.answers for call in incident.escalations)
