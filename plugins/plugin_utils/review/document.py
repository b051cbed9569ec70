"""Builds the post-incident review from the records and the answers of people. Lists what is unknown.

Pure: the same sources and answers always give the same document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import messages, state
from ansible_collections.katago.fleet.plugins.module_utils.service import metrics
from ansible_collections.katago.fleet.plugins.plugin_utils.review import answers, causes, charts, timeline
from ansible_collections.katago.fleet.plugins.plugin_utils.review import blocks as review_blocks
from ansible_collections.katago.fleet.plugins.plugin_utils.review import impact as review_impact
from ansible_collections.katago.fleet.plugins.plugin_utils.review.blocks import (
    Block,
    Bullets,
    Document,
    Facts,
    Figure,
    Heading,
    Paragraph,
    Table,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.review.sources import Collection, Sources
from ansible_collections.katago.fleet.plugins.plugin_utils.review.timeline import CONTROL, Journal, Row

_MARKED = ("alert", "release", "change")
_MOST_MARKS = 9
_GRAPH_BEFORE, _GRAPH_AFTER = 900.0, 300.0
_NOT_REPORTED = "not reported"


@dataclass(frozen=True)
class _Context:
    """What the parts of the document are made from."""

    sources: Sources
    answer_set: answers.Answers
    standing: answers.Standing
    journals: Mapping[str, Journal]
    rows: Sequence[Row]
    impact: review_impact.Impact
    begin: float
    end: float

    @property
    def incident(self) -> state.Incident:
        return self.sources.incident


def build(sources: Sources, answer_set: answers.Answers) -> Document:
    """The review of an incident."""
    journals = {host: timeline.merged_journal(sources.of(host)) for host in sources.hosts}
    begin, end = timeline.span(sources.incident, sources.state)
    impact = review_impact.Impact(
        tuple(
            review_impact.of_host(host, sources.of(host), journals[host], begin, end)
            for host in sources.hosts
        )
    )
    context = _Context(
        sources=sources,
        answer_set=answer_set,
        standing=answers.standing(sources.incident, answer_set),
        journals=journals,
        rows=timeline.rows(sources, journals),
        impact=impact,
        begin=begin,
        end=end,
    )
    blocks = [
        *_status(context),
        *_questions(context, "Timeline"),
        *_questions(context, "Impact"),
        *_counted(context),
        *_graphs(context),
        *_questions(context, "Root cause"),
        *_candidates(context),
        *_action_items(context),
        *_missing(context),
        *_rows(context),
    ]
    return Document(f"Review of the incident {sources.incident.id}", blocks)


def clock(at: float) -> str:
    """A time in seconds since the epoch as documents show it, in UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def shown(stamp: str) -> str:
    """A time from a record as documents show it; `not yet` for an empty one."""
    return stamp.replace("T", " ").removesuffix("Z") if stamp else "not yet"


def _status(context: _Context) -> Iterator[Block]:
    incident, standing = context.incident, context.standing
    if standing.complete:
        late = f", after its due date ({shown(standing.due)})" if standing.late else ""
        yield Paragraph(f"The review is complete. It was concluded on {standing.concluded}{late}.", "good")
    else:
        by = f"by {shown(standing.due)}" if standing.due else "within 48 hours of the close"
        text = f"The review is open. Responsible: {standing.who}. Due {by}. Still missing:"
        yield Paragraph(text, "warning")
        yield Bullets(standing.unanswered)
    yield Facts(
        (
            (
                "Severity",
                f"highest {incident.worst}, last {incident.severity} (set by {incident.severity_by})",
            ),
            (
                "Status",
                incident.status + ("" if incident.is_open else f", closed {shown(incident.closed_at)}"),
            ),
            ("Lead", incident.lead or "none"),
            ("Impact", messages.impact_by_level(incident) or _NOT_REPORTED),
            ("Summary", incident.summary or _NOT_REPORTED),
            ("Resolution", incident.resolution or _NOT_REPORTED),
            ("Times", "UTC, clock of the control node"),
        )
    )


def _questions(context: _Context, part: str) -> Iterator[Block]:
    computed = _computed(context)
    yield Heading({"Timeline": "What happened", "Impact": "Impact", "Root cause": "Root cause"}[part])
    for question in answers.QUESTIONS:
        if question.part != part:
            continue
        yield Heading(question.text, 3)
        answer = list(review_blocks.lines(context.answer_set.answers.get(question.name, "")))
        yield from (Paragraph(line) for line in answer)
        if question.name in computed:
            yield from (Paragraph(line) for line in computed[question.name])
        elif not answer:
            blank = "Not provided." if question.optional else "Not answered yet."
            yield Paragraph(blank, "plain" if question.optional else "warning")


def _computed(context: _Context) -> dict[str, list[str]]:
    """The answers that the records give, by question."""
    incident = context.incident
    first = next((row for row in context.rows if row.kind == "error" and row.host != CONTROL), None)
    started = [f"{shown(incident.started)}, as recorded."]
    if first:
        started.append(f"The first error in the evidence: {clock(first.at)} on {first.host}: {first.what}.")
    waited = timestamps.parse(incident.opened_at) - timestamps.parse(incident.started)
    how = f"by the alert {incident.alert}" if incident.alert else f"by {incident.opened_by}"
    detected = f"{shown(incident.opened_at)} {how}, {messages.duration_text(waited)} after the start."
    acknowledged = (
        f"Acknowledged: {shown(incident.acknowledged_at)}; response due by {shown(incident.respond_by)}."
    )
    taken = [
        *messages.timeline_actions([line.value for line in context.sources.timeline]),
        *messages.reported_actions(incident),
    ]
    actions = [f"{shown(each.at)} {each.what}" for each in sorted(taken, key=lambda each: each.at)]
    resolved = "Not resolved yet."
    if incident.resolved_at:
        resolved = f"{shown(incident.resolved_at)}: {incident.resolution or _NOT_REPORTED}."
    if incident.recurrences:
        resolved += f" It recurred {messages.counted(incident.recurrences, 'time')} before."
    duration = messages.duration_text(timedelta(seconds=context.end - context.begin))
    unresolved = "" if incident.resolved_at else " until the last recorded event; not resolved yet"
    return {
        "started": started,
        "detected": [detected, acknowledged],
        "actions": actions or ["No actions are recorded."],
        "resolved": [resolved],
        "duration": [f"{duration}{unresolved}."],
        "requests": _affected(context.impact),
    }


def _affected(impact: review_impact.Impact) -> list[str]:
    if not any(host.counted for host in impact.hosts):
        return ["Unknown: the evidence has no usable counters and no complete journal."]
    requests = impact.requests
    total, failed = metrics.judged(requests), metrics.failed(requests)
    share = f" ({100 * failed / total:.1f} %)" if total else ""
    least = "" if impact.complete else "At least "
    sentences = [f"{least}{failed:.0f} of {total:.0f} counted requests failed{share}."]
    if not impact.complete:
        sentences.append("Some periods are unknown; the table below lists them.")
    if other := {name: requests[name] for name in ("rejected", "cancelled") if requests.get(name)}:
        counts = ", ".join(f"{count:.0f} {name}" for name, count in other.items())
        sentences.append(f"Not included: {counts}.")
    return sentences


def _counted(context: _Context) -> Iterator[Block]:
    lines = []
    for host in context.impact.hosts:
        for span in host.counted:
            requests = dict(span.requests)
            lines.append(
                (
                    *(host.host, clock(span.begin), clock(span.end)),
                    f"{metrics.judged(requests):.0f}",
                    f"{metrics.failed(requests):.0f}",
                    span.source,
                )
            )
        for gap in host.unknown:
            most = f"at most {gap.at_most:.0f}" if gap.at_most is not None else "unknown"
            lines.append((host.host, clock(gap.begin), clock(gap.end), "unknown", most, gap.why))
    if lines:
        lines.sort(key=lambda line: (line[0], line[1]))
        yield Heading("Requests by host and period", 3)
        yield Table(("Host", "From", "To", "Requests", "Failed", "Source"), tuple(lines))


def _graphs(context: _Context) -> Iterator[Block]:
    begin, end = context.begin - _GRAPH_BEFORE, context.end + _GRAPH_AFTER
    frame = charts.Frame(begin, end, (context.begin, context.end))
    marked = [row for row in context.rows if _is_marked(row) and begin <= row.at <= end][:_MOST_MARKS]
    marks = [charts.Mark(row.at, number) for number, row in enumerate(marked, 1)]
    rates, times = {}, {}
    for host, journal in context.journals.items():
        spans = [
            span for span in review_impact.windows(review_impact.scrapes(context.sources.of(host))[0])
            if span.end > begin
        ]  # fmt: skip
        if line := review_impact.rates(journal, spans, begin, end):
            rates[host] = line
        if line := review_impact.latencies(journal.calls, begin, end):
            times[host] = line
    yield Heading("Error rate and latency")
    width = messages.duration_text(timedelta(seconds=review_impact.bin_width(begin, end)))
    for title, unit, series in (
        (f"Failed requests in percent, per {width}", "%", rates),
        (f"Median time of an analysis in seconds, per {width}", "s", times),
    ):
        if series:
            yield Figure(
                charts.steps(title, unit, series, frame, marks),
                f"{title}. The incident is shaded. Gaps are periods without data.",
                tuple(_summary(host, line, unit) for host, line in series.items()),
            )
        else:
            yield Paragraph(f"{title}: unknown. The evidence has no requests from this period.")
    if marked:
        yield Bullets(
            tuple(f"{number}: {clock(row.at)} {_on(row)}{row.what}" for number, row in enumerate(marked, 1))
        )


def _is_marked(row: Row) -> bool:
    acted = row.kind == "procedure" and not row.what.startswith("evidence:")
    status = row.kind == "people" and ("status: " in row.what or row.what.startswith("closed"))
    return row.kind in _MARKED or acted or status


def _summary(host: str, line: Sequence[charts.Step], unit: str) -> str:
    most = max(line, key=lambda step: (step.value, -step.begin))
    return f"{host}: maximum {most.value:g} {unit}, from {clock(most.begin)} to {clock(most.end)}"


def _candidates(context: _Context) -> Iterator[Block]:
    candidates = causes.candidates(context.sources, context.rows)
    yield Heading("Possible causes", 3)
    if not candidates:
        yield Paragraph("The records show no possible cause.")
        return
    yield Paragraph(
        "Candidates from the records; those before the start come first. People decide which is the cause."
    )
    yield Table(
        ("When", "Host", "Kind", "Observation", "Source"),
        tuple(
            (
                causes.relation(each.at, context.begin),
                each.host or "-",
                each.kind,
                each.what,
                each.source,
            )
            for each in candidates
        ),
    )


def _action_items(context: _Context) -> Iterator[Block]:
    yield Heading("Action items")
    if items := context.answer_set.action_items:
        yield Table(
            ("Action", "Owner", "Due", "Priority", "Status"),
            tuple(
                (
                    *(item.what, item.owner, str(item.due), item.priority),
                    item.status + (f" {item.done_on}" if item.done_on else ""),
                )
                for item in items
            ),
        )
    elif context.answer_set.no_action_items:
        yield Paragraph(f"None: {context.answer_set.no_action_items}")
    else:
        yield Paragraph("None yet.", "warning")


def _missing(context: _Context) -> Iterator[Block]:
    """Data that is missing, unreadable or not verified."""
    sources = context.sources
    notes = list(sources.unread)
    for host in sources.hosts:
        if not sources.of(host):
            notes.append(f"{host}: no evidence was collected from this host.")
    for each in sources.collections:
        notes += _of_collection(each)
    for impact in context.impact.hosts:
        notes += impact.problems
        notes += [
            f"{impact.host}: the requests from {clock(gap.begin)} to {clock(gap.end)} are unknown."
            for gap in impact.unknown
        ]
    notes += timeline.clock_notes(sources)
    yield Heading("Missing or unverified data")
    if notes:
        yield Bullets(tuple(notes))
    else:
        yield Paragraph("Nothing is missing. All evidence is complete and verified.", "good")


def _of_collection(each: Collection) -> Iterator[str]:
    yield from (f"{each.path}: not verified: {problem}" for problem in each.problems)
    if each.absent and each.verified:
        yield f"{each.path}: absent: {', '.join(each.absent)}"
    yield from (f"{each.path}: withheld: {item}" for item in each.withheld)
    yield from (f"{each.path}: incomplete: {item}" for item in each.failed)


def _rows(context: _Context) -> Iterator[Block]:
    yield Heading("Timeline")
    if not context.rows:
        yield Paragraph("No events are recorded.")
        return
    yield Paragraph(
        "Each row names its source. Times from hosts are corrected for the error of the host's clock."
        " ± is the remaining uncertainty."
    )
    yield Table(
        ("Time", "Host", "Kind", "Event", "Source"),
        tuple((_time(row), row.host, row.kind, _what(row), _source(row)) for row in context.rows),
    )


def _time(row: Row) -> str:
    if row.uncertainty is None:
        return f"{clock(row.at)} (clock unknown)"
    return clock(row.at) + (f" ±{row.uncertainty:.1f} s" if row.uncertainty >= 0.5 else "")


def _what(row: Row) -> str:
    if row.times > 1:
        return f"{row.what} ({row.times} times until {clock(row.until)})"
    return row.what


def _source(row: Row) -> str:
    place = f"{row.source}, line {row.line}" if row.line else row.source
    return place if row.verified else f"{place} (not verified)"


def _on(row: Row) -> str:
    return "" if row.host == CONTROL else f"{row.host}: "
