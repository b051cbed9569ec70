"""Builds the quarterly report: incidents, trends, procedures, action items and contacts.

Pure. The report shows the state at the end of a day, `as_of`, and ignores later records. Answers of people
and the roster have no dates; their current state is used. An incident belongs to the quarter in which it was
opened, even if it started in the previous one, so that finished reports never change.
"""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import messages, state
from ansible_collections.katago.fleet.plugins.module_utils.severity import RESPONSE, SEVERITIES
from ansible_collections.katago.fleet.plugins.plugin_utils.review import answers
from ansible_collections.katago.fleet.plugins.plugin_utils.review.blocks import (
    Block,
    Bullets,
    Document,
    Facts,
    Heading,
    Paragraph,
    Table,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.run import outcome

_FORM = re.compile(r"(?P<year>20\d\d)[Qq](?P<number>[1-4])")
RESULTS: tuple[outcome.Result, ...] = ("ok", "changed", "refused", "partial", "unknown")
_UNKNOWN = "unknown"


class QuarterError(Exception):
    """A text is not a quarter. The message shows a valid one."""


@dataclass(frozen=True)
class Quarter:
    """A quarter of a year. `number`: 1 to 4."""

    year: int
    number: int

    @property
    def name(self) -> str:
        """The name, such as 2026Q4."""
        return f"{self.year}Q{self.number}"

    @property
    def first(self) -> date:
        """Its first day."""
        return date(self.year, 3 * self.number - 2, 1)

    @property
    def last(self) -> date:
        """Its last day."""
        return self.after.first - timedelta(days=1)

    @property
    def after(self) -> Quarter:
        """The next quarter."""
        return Quarter(self.year + self.number // 4, self.number % 4 + 1)

    @property
    def before(self) -> Quarter:
        """The previous quarter."""
        return Quarter(self.year - (self.number == 1), (self.number - 2) % 4 + 1)

    def has(self, at: str) -> bool:
        """Whether a time from a record is in the quarter."""
        return self.first <= timestamps.parse(at).date() <= self.last


@dataclass(frozen=True)
class Record:
    """An incident or a drill, with its timeline and the answers of people.

    `lines`: the lines of its record, to replay it up to the end of a day.
    """

    incident: state.Incident
    timeline: Sequence[Mapping[str, Any]] = ()
    answer_set: answers.Answers = field(default_factory=answers.Answers)
    is_drill: bool = False
    lines: bytes = b""

    def at_end_of(self, day: date) -> Record | None:
        """The state at the end of a day; None if it was not recorded by then.

        Answers of people have no dates; their current state is used.
        """
        *lines, _ = self.lines.split(b"\n")
        by_then = [line for line in lines if _day_of(json.loads(line)) <= day]
        incident = state.fold(b"".join(line + b"\n" for line in by_then), self.incident.id).incident
        if incident is None:
            return None
        timeline = tuple(event for event in self.timeline if _day_of(event) <= day)
        return replace(self, incident=incident, timeline=timeline)

    @property
    def responded_at(self) -> str:
        """The first response: a lead, an update, an escalation or a procedure; empty if there was none."""
        acted = [
            str(event["at"])
            for event in self.timeline
            if event.get("procedure") and str(event["at"]) >= self.incident.opened_at
        ]
        reported = [
            *(update.at for update in self.incident.updates),
            *(call.at for call in self.incident.escalations),
        ]
        times = [*acted, *reported, *filter(None, (self.incident.acknowledged_at, self.incident.closed_at))]
        return min(times, default="")


@dataclass(frozen=True)
class Records:
    """All records. `other`: procedures outside of incidents. `unread`: unreadable records, with reasons.

    `times`: those of records that are read elsewhere, such as drills. They only show how new the newest is.
    """

    all: Sequence[Record] = ()
    other: Sequence[Mapping[str, Any]] = ()
    unread: Sequence[str] = field(default=())
    times: Sequence[str] = ()


def parse(text: str) -> Quarter:
    """The quarter of a text such as 2026Q4.

    Raises:
        QuarterError: for anything else.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise QuarterError(f"-e quarter is {text!r}. Give a quarter such as 2026Q4.")
    return Quarter(int(match["year"]), int(match["number"]))


def of_day(day: date) -> Quarter:
    """The quarter of a day."""
    return Quarter(day.year, (day.month + 2) // 3)


def newest(records: Records) -> date | None:
    """The day of the newest record; None without records."""
    times = [
        at
        for record in records.all
        for at in (
            *(record.incident.opened_at, record.incident.closed_at, record.incident.last_update_at),
            *(str(event["at"]) for event in record.timeline),
        )
        if at
    ]
    times += [*(str(event["at"]) for event in records.other), *records.times]
    return timestamps.parse(max(times)).date() if times else None


def default_as_of(records: Records, quarter: Quarter) -> date:
    """The quarter's last day or, while the quarter continues, the day of the newest record."""
    latest = newest(records)
    return min(quarter.last, max(latest, quarter.first)) if latest else quarter.last


def build(
    records: Records, quarter: Quarter, as_of: date, roster: object, drills: Sequence[Block] = ()
) -> Document:
    """The report on a quarter, with the state at the end of a day. `drills`: its blocks about drills."""
    replayed = (record.at_end_of(as_of) for record in records.all)
    current = [record for record in replayed if record is not None]
    real = [record for record in current if not record.is_drill]
    now = _of(real, quarter)
    blocks = [
        Facts(
            (
                ("Quarter", f"{quarter.first} to {quarter.last}"),
                (
                    "As of",
                    f"end of {as_of}" + (" (before the end of the quarter)" if as_of < quarter.last else ""),
                ),
                ("Times", "UTC"),
            )
        ),
        *_severities(now, _of(real, quarter.before), quarter),
        *_incidents(now, as_of),
        *_trends(now, _of(real, quarter.before), quarter),
        *_recurrences(now),
        *_procedures(records, quarter, as_of),
        Heading("Drills"),
        *drills,
        *_drills(_of([record for record in current if record.is_drill], quarter), is_alone=not drills),
        *_actions(current, quarter, as_of),
        *_reviews(now, as_of),
        *_contacts(roster, as_of),
    ]
    if records.unread:
        blocks += [Heading("Unreadable records"), Bullets(tuple(records.unread))]
    return Document(f"Incident report for {quarter.name}", blocks)


def _day_of(line: Mapping[str, Any]) -> date:
    return timestamps.parse(str(line["at"])).date()


def seconds(begin: str, end: str) -> float | None:
    """The seconds from one time to another; None if one of them is empty."""
    if not begin or not end:
        return None
    return (timestamps.parse(end) - timestamps.parse(begin)).total_seconds()


def to_acknowledge(record: Record) -> float | None:
    """The seconds from the opening until somebody took the lead."""
    return seconds(record.incident.opened_at, record.incident.acknowledged_at)


def to_respond(record: Record) -> float | None:
    """The seconds from the opening to the first response."""
    return seconds(record.incident.opened_at, record.responded_at)


def to_resolve(record: Record) -> float | None:
    """The seconds from the start to the resolution."""
    return seconds(record.incident.started, record.incident.resolved_at)


def in_time(record: Record) -> bool | None:
    """Whether the first response met the runbook's deadline; None if there was no response yet."""
    return record.responded_at <= record.incident.respond_by if record.responded_at else None


def change_text(now: float, before: float) -> str:
    """The change from one value to another, such as `+50 %`."""
    if now == before:
        return "unchanged"
    return f"{100 * (now - before) / before:+.0f} %" if before else "new"


def overdue_items(records: Sequence[Record], on: date) -> list[tuple[Record, answers.ActionItem]]:
    """The overdue action items, the oldest due date first."""
    overdue = [
        (record, item) for record in records for item in record.answer_set.action_items if item.is_overdue(on)
    ]
    return sorted(overdue, key=lambda each: (each[1].due, each[0].incident.id, each[1].number))


def _of(records: Sequence[Record], quarter: Quarter) -> list[Record]:
    return sorted(
        (record for record in records if quarter.has(record.incident.opened_at)),
        key=lambda record: (record.incident.started, record.incident.id),
    )


def _severities(now: Sequence[Record], before: Sequence[Record], quarter: Quarter) -> Iterator[Block]:
    yield Heading("Incidents by severity")
    rows: list[tuple[str, ...]] = []
    for severity in SEVERITIES:
        of_it = [record for record in now if record.incident.worst == severity]
        met = [in_time(record) for record in of_it]
        rows.append(
            (
                severity,
                str(len(of_it)),
                str(sum(record.incident.worst == severity for record in before)),
                messages.duration_text(RESPONSE[severity]),
                f"{met.count(True)} of {len(met)}" if met else "-",
            )
        )
    rows.append(("Total", str(len(now)), str(len(before)), "", ""))
    head = ("Highest severity", quarter.name, quarter.before.name, "Response target", "Target met")
    yield Table(head, tuple(rows))


def _incidents(now: Sequence[Record], as_of: date) -> Iterator[Block]:
    yield Heading("All incidents")
    if not now:
        yield Paragraph("No incidents.")
        return
    met = {True: "met", False: "missed", None: _UNKNOWN}
    yield Table(
        ("Incident", "Severity", "Started", "Acknowledged", "Responded", "Target", "Resolved", "Impact"),
        tuple(
            (
                record.incident.id,
                record.incident.worst,
                record.incident.started.replace("T", " ").removesuffix("Z"),
                *(_span(measure(record)) for measure in (to_acknowledge, to_respond)),
                met[in_time(record)],
                _span(to_resolve(record)),
                messages.impact_by_level(record.incident) or "not reported",
            )
            for record in now
        ),
    )
    late = sum(len(record.incident.overdue) for record in now)
    yield Paragraph(
        "Times to acknowledge and to respond are measured from the opening of the incident, times to resolve"
        " from its start."
        f" {messages.counted(late, 'update')} {'was' if late == 1 else 'were'} overdue."
    )


def _trends(now: Sequence[Record], before: Sequence[Record], quarter: Quarter) -> Iterator[Block]:
    measures: tuple[tuple[str, Callable[[Record], float | None]], ...] = (
        ("Median time to acknowledge", to_acknowledge),
        ("Median time to respond", to_respond),
        ("Median time to resolve", to_resolve),
    )
    rows: list[tuple[str, ...]] = [
        ("Incidents", str(len(now)), str(len(before)), change_text(len(now), len(before)))
    ]
    for name, measure in measures:
        values = [_median(each, measure) for each in (now, before)]
        change = "-" if None in values else change_text(values[0] or 0, values[1] or 0)
        rows.append((name, *(_span(value) for value in values), change))
    counts: tuple[tuple[str, Callable[[Record], int]], ...] = (
        ("Escalations", lambda record: len(record.incident.escalations)),
        ("Updates overdue", lambda record: len(record.incident.overdue)),
    )
    for name, count in counts:
        newer, older = (sum(map(count, each)) for each in (now, before))
        rows.append((name, str(newer), str(older), change_text(newer, older)))
    yield Heading("Trends")
    yield Table(("Measure", quarter.name, quarter.before.name, "Change"), tuple(rows))
    current = Counter(finding.rule for record in now for finding in record.incident.findings.values())
    earlier = Counter(finding.rule for record in before for finding in record.incident.findings.values())
    if current or earlier:
        yield Heading("Findings of triage", 3)
        rules = sorted({*current, *earlier}, key=lambda rule: (-current[rule], -earlier[rule], rule))
        yield Table(
            ("Rule", quarter.name, quarter.before.name),
            tuple((rule, str(current[rule]), str(earlier[rule])) for rule in rules),
        )


def _recurrences(now: Sequence[Record]) -> Iterator[Block]:
    yield Heading("Recurrences")
    recurrences = [
        f"{record.incident.id}: recurrence of {record.incident.recurrence_of}"
        for record in now
        if record.incident.recurrence_of
    ]
    recurrences += [
        f"{record.incident.id}: recurred {messages.counted(record.incident.recurrences, 'time')} after it was"
        " resolved"
        for record in now
        if record.incident.recurrences
    ]
    yield Bullets(tuple(recurrences)) if recurrences else Paragraph("No recurrences.")


def _procedures(records: Records, quarter: Quarter, as_of: date) -> Iterator[Block]:
    counts: dict[str, Counter[str]] = {}
    real = (event for record in records.all if not record.is_drill for event in record.timeline)
    for event in (*real, *records.other):
        result = str(event.get("result"))
        at = str(event["at"])
        in_it = quarter.has(at) and timestamps.parse(at).date() <= as_of
        if event.get("procedure") and result in RESULTS and in_it:
            counts.setdefault(str(event["procedure"]), Counter())[result] += 1
    yield Heading("Procedures by result")
    if not counts:
        yield Paragraph("No procedures were run.")
        return
    yield Table(
        ("Procedure", *RESULTS, "Total"),
        tuple(
            (name, *(str(count[result]) for result in RESULTS), str(count.total()))
            for name, count in sorted(counts.items())
        ),
    )
    yield Paragraph("Each host counts once for each run, during incidents and at other times.")


def _drills(drills: Sequence[Record], *, is_alone: bool) -> Iterator[Block]:
    """The incidents of drills. `is_alone`: nothing else in the report is about drills."""
    if not drills:
        if is_alone:
            yield Paragraph("No drills are recorded.")
        return
    if not is_alone:
        yield Heading("Incidents of drills", 3)
    yield Table(
        ("Drill", "Severity", "Started", "Acknowledged", "Responded", "Resolved"),
        tuple(
            (
                record.incident.id,
                record.incident.worst,
                record.incident.started.replace("T", " ").removesuffix("Z"),
                *(_span(measure(record)) for measure in (to_acknowledge, to_respond, to_resolve)),
            )
            for record in drills
        ),
    )


def _actions(records: Sequence[Record], quarter: Quarter, as_of: date) -> Iterator[Block]:
    items = [(record, item) for record in records for item in record.answer_set.action_items]
    is_open = [(record, item) for record, item in items if item.is_open(as_of)]
    ended = [
        item
        for _, item in items
        if item.done_on and quarter.first <= item.done_on <= min(quarter.last, as_of)
    ]
    overdue = [item for _, item in is_open if item.is_overdue(as_of)]
    yield Heading("Action items")
    yield Paragraph(
        f"{len(is_open)} open, {len(overdue)} of them overdue. {len(ended)} done or dropped in this quarter.",
        "warning" if overdue else "plain",
    )
    if is_open:
        is_open.sort(key=lambda each: (each[1].due, each[0].incident.id, each[1].number))
        yield Table(
            ("Incident", "Action", "Owner", "Due", "Priority", "Status"),
            tuple(
                (
                    *(record.incident.id, item.what, item.owner, str(item.due), item.priority),
                    "overdue" if item.is_overdue(as_of) else "open",
                )
                for record, item in is_open
            ),
        )


def _reviews(now: Sequence[Record], as_of: date) -> Iterator[Block]:
    yield Heading("Reviews")
    end = timestamps.stamp(datetime.combine(as_of, datetime.max.time(), UTC))
    rows = []
    for record in now:
        standing = answers.standing(record.incident, record.answer_set)
        concluded = standing.concluded is not None and standing.concluded <= as_of
        if standing.complete and concluded:
            status = "complete, but late" if standing.late else "complete"
        elif record.incident.is_open or record.incident.closed_at > end:
            status = "incident still open"
        else:
            status = "overdue" if end > standing.due else "open"
        due = standing.due.replace("T", " ").removesuffix("Z") or "-"
        rows.append((record.incident.id, status, due, standing.who))
    if rows:
        yield Table(("Incident", "Review", "Due", "Responsible"), tuple(rows))
    else:
        yield Paragraph("No incidents to review.")


def _contacts(roster: object, as_of: date) -> Iterator[Block]:
    yield Heading("Contacts")
    contacts = roster.get("contacts") if isinstance(roster, Mapping) else None
    if not isinstance(roster, Mapping) or not contacts:
        yield Paragraph("No contacts are configured (incident_roster). Nobody can be called.", "warning")
        return
    due = str(roster.get("verify_by") or "")
    try:
        overdue = date.fromisoformat(due) < as_of
    except ValueError:
        yield Paragraph(f"incident_roster.verify_by is {due!r}, which is not a date.", "warning")
        return
    text = f"{messages.counted(len(contacts), 'contact')}, to be verified by {due}"
    yield Paragraph(f"{text}: overdue." if overdue else f"{text}.", "warning" if overdue else "plain")


def _median(records: Sequence[Record], measure: Callable[[Record], float | None]) -> float | None:
    values = [value for value in map(measure, records) if value is not None]
    return statistics.median(values) if values else None


def _span(value: float | None) -> str:
    return _UNKNOWN if value is None else messages.duration_text(timedelta(seconds=value))
