"""The post-incident document: what the records tell, what people said of it, and what is not known.

Pure: sources and answers in, a document out, the same for the same.
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
_NOT_TOLD = "not told"


@dataclass(frozen=True)
class _Known:
    """What the parts of the document are made from."""

    sources: Sources
    said: answers.Answers
    standing: answers.Standing
    journals: Mapping[str, Journal]
    rows: Sequence[Row]
    impact: review_impact.Impact
    begin: float
    end: float

    @property
    def incident(self) -> state.Incident:
        return self.sources.incident


def build(sources: Sources, said: answers.Answers) -> Document:
    """The review of an incident."""
    journals = {host: timeline.merged_journal(sources.of(host)) for host in sources.hosts}
    begin, end = timeline.span(sources.incident, sources.state)
    impact = review_impact.Impact(
        tuple(
            review_impact.of_host(host, sources.of(host), journals[host], begin, end)
            for host in sources.hosts
        )
    )
    known = _Known(
        sources=sources,
        said=said,
        standing=answers.standing(sources.incident, said),
        journals=journals,
        rows=timeline.rows(sources, journals),
        impact=impact,
        begin=begin,
        end=end,
    )
    blocks = [
        *_status(known),
        *_questions(known, "Timeline"),
        *_questions(known, "Impact"),
        *_counted(known),
        *_graphs(known),
        *_questions(known, "Root cause"),
        *_candidates(known),
        *_action_items(known),
        *_missing(known),
        *_rows(known),
    ]
    return Document(f"Review of the incident {sources.incident.id}", blocks)


def clock(at: float) -> str:
    """A time in seconds since the epoch as documents show it, in UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def shown(stamp: str) -> str:
    """A time that records carry, as documents show it; a word for none."""
    return stamp.replace("T", " ").removesuffix("Z") if stamp else "not yet"


def _status(known: _Known) -> Iterator[Block]:
    incident, standing = known.incident, known.standing
    if standing.complete:
        late = f", after it was due ({shown(standing.due)})" if standing.late else ""
        yield Paragraph(f"The review is complete. It was concluded on {standing.concluded}{late}.", "good")
    else:
        by = f" by {shown(standing.due)}" if standing.due else ", within 48 hours of the close"
        words = f"The review is open: {standing.who} answers what is blank{by}."
        yield Paragraph(words, "warning")
        yield Bullets(standing.unanswered)
    yield Facts(
        (
            (
                "Severity",
                f"{incident.worst} at worst, {incident.severity} at last, by {incident.severity_by}",
            ),
            (
                "Status",
                incident.status + ("" if incident.is_open else f", closed {shown(incident.closed_at)}"),
            ),
            ("Lead", incident.lead or "none"),
            ("Impact", incident.impact or _NOT_TOLD),
            ("Summary", incident.summary or _NOT_TOLD),
            ("Resolution", incident.resolution or _NOT_TOLD),
            ("Times", "UTC, by the control node's clock"),
        )
    )


def _questions(known: _Known, part: str) -> Iterator[Block]:
    computed = _computed(known)
    yield Heading({"Timeline": "What happened", "Impact": "Impact", "Root cause": "Root cause"}[part])
    for question in answers.QUESTIONS:
        if question.part != part:
            continue
        yield Heading(question.words, 3)
        told = list(review_blocks.lines(known.said.answers.get(question.name, "")))
        yield from (Paragraph(line) for line in told)
        if question.name in computed:
            yield from (Paragraph(line) for line in computed[question.name])
        elif not told:
            blank = "Not told." if question.optional else "Not answered yet."
            yield Paragraph(blank, "plain" if question.optional else "warning")


def _computed(known: _Known) -> dict[str, list[str]]:
    """What the records say to questions."""
    incident = known.incident
    first = next((row for row in known.rows if row.kind == "error" and row.host != CONTROL), None)
    started = [f"{shown(incident.started)}, as recorded."]
    if first:
        started.append(f"The first error in the evidence: {clock(first.at)} on {first.host}: {first.what}.")
    waited = timestamps.parse(incident.opened_at) - timestamps.parse(incident.started)
    how = f"by the alert {incident.alert}" if incident.alert else f"by {incident.opened_by}"
    detected = f"{shown(incident.opened_at)} {how}, {messages.duration_text(waited)} after the start."
    acknowledged = (
        f"Acknowledged: {shown(incident.acknowledged_at)}; response due by {shown(incident.respond_by)}."
    )
    done = [
        *messages.timeline_actions([line.value for line in known.sources.timeline]),
        *messages.reported_actions(incident),
    ]
    actions = [f"{shown(each.at)} {each.what}" for each in sorted(done, key=lambda each: each.at)]
    resolved = "Not resolved."
    if incident.resolved_at:
        resolved = f"{shown(incident.resolved_at)}: {incident.resolution or _NOT_TOLD}."
    if incident.recurrences:
        resolved += f" It came back {messages.counted(incident.recurrences, 'time')} before."
    lasted = messages.duration_text(timedelta(seconds=known.end - known.begin))
    unresolved = "" if incident.resolved_at else " until the last that is on record; it is not resolved"
    return {
        "started": started,
        "detected": [detected, acknowledged],
        "actions": actions or ["None is on record."],
        "resolved": [resolved],
        "duration": [f"{lasted}{unresolved}."],
        "requests": _affected(known.impact),
    }


def _affected(impact: review_impact.Impact) -> list[str]:
    if not any(host.counted for host in impact.hosts):
        return ["Unknown: there is nothing that they could be counted by."]
    requests = impact.requests
    total, failed = metrics.judged(requests), metrics.failed(requests)
    share = f" ({100 * failed / total:.1f} %)" if total else ""
    least = "" if impact.complete else "At least "
    words = [f"{least}{failed:.0f} of {total:.0f} requests that were counted failed{share}."]
    if not impact.complete:
        words.append("Some of the time is not known; see below.")
    if other := {name: requests[name] for name in ("rejected", "cancelled") if requests.get(name)}:
        words.append("Besides: " + ", ".join(f"{count:.0f} {name}" for name, count in other.items()) + ".")
    return words


def _counted(known: _Known) -> Iterator[Block]:
    lines = []
    for host in known.impact.hosts:
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
        yield Heading("Requests, as they were counted", 3)
        yield Table(("Host", "From", "To", "Requests", "Failed", "Source"), tuple(lines))


def _graphs(known: _Known) -> Iterator[Block]:
    begin, end = known.begin - _GRAPH_BEFORE, known.end + _GRAPH_AFTER
    frame = charts.Frame(begin, end, (known.begin, known.end))
    marked = [row for row in known.rows if _is_marked(row) and begin <= row.at <= end][:_MOST_MARKS]
    marks = [charts.Mark(row.at, number) for number, row in enumerate(marked, 1)]
    rates, times = {}, {}
    for host, journal in known.journals.items():
        spans = [
            span for span in review_impact.windows(review_impact.scrapes(known.sources.of(host))[0])
            if span.end > begin
        ]  # fmt: skip
        if line := review_impact.rates(journal, spans, begin, end):
            rates[host] = line
        if line := review_impact.latencies(journal.calls, begin, end):
            times[host] = line
    yield Heading("Error rate and latency")
    width = messages.duration_text(timedelta(seconds=review_impact.bin_width(begin, end)))
    for title, unit, series in (
        (f"Requests that failed, in percent, for every {width}", "%", rates),
        (f"Median time of an analysis, in seconds, for every {width}", "s", times),
    ):
        if series:
            yield Figure(
                charts.steps(title, unit, series, frame, marks),
                f"{title}. The incident is shaded; there is no line where nothing is known.",
                tuple(_summary(host, line, unit) for host, line in series.items()),
            )
        else:
            yield Paragraph(f"{title}: not known, the evidence has no requests of the time.")
    if marked:
        yield Bullets(
            tuple(f"{number}: {clock(row.at)} {_on(row)}{row.what}" for number, row in enumerate(marked, 1))
        )


def _is_marked(row: Row) -> bool:
    acted = row.kind == "procedure" and not row.what.startswith("evidence:")
    status = row.kind == "people" and ("status " in row.what or row.what.startswith("closed"))
    return row.kind in _MARKED or acted or status


def _summary(host: str, line: Sequence[charts.Step], unit: str) -> str:
    most = max(line, key=lambda step: (step.value, -step.begin))
    return f"{host}: at most {most.value:g} {unit}, {clock(most.begin)} to {clock(most.end)}"


def _candidates(known: _Known) -> Iterator[Block]:
    found = causes.candidates(known.sources, known.rows)
    yield Heading("What may have caused it", 3)
    if not found:
        yield Paragraph("The records have no candidate.")
        return
    yield Paragraph("Candidates from the records, what was before the start first. People conclude.")
    yield Table(
        ("When", "Host", "What", "Seen", "Source"),
        tuple(
            (
                causes.relation(each.at, known.begin),
                each.host or "-",
                each.kind,
                each.what,
                each.source,
            )
            for each in found
        ),
    )


def _action_items(known: _Known) -> Iterator[Block]:
    yield Heading("Action items")
    if items := known.said.action_items:
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
    elif known.said.no_action_items:
        yield Paragraph(f"None: {known.said.no_action_items}")
    else:
        yield Paragraph("None yet.", "warning")


def _missing(known: _Known) -> Iterator[Block]:
    """What could not be had, read or verified."""
    sources = known.sources
    told = list(sources.unread)
    for host in sources.hosts:
        if not sources.of(host):
            told.append(f"{host}: there is no evidence of this host.")
    for each in sources.collections:
        told += _of_collection(each)
    for impact in known.impact.hosts:
        told += impact.problems
        told += [
            f"{impact.host}: its requests from {clock(gap.begin)} to {clock(gap.end)} are not known."
            for gap in impact.unknown
        ]
    told += timeline.clock_notes(sources)
    yield Heading("What is missing or could not be verified")
    if told:
        yield Bullets(tuple(told))
    else:
        yield Paragraph("Nothing: all that was kept is there, and is as it was kept.", "good")


def _of_collection(each: Collection) -> Iterator[str]:
    yield from (f"{each.path}: not verified: {problem}" for problem in each.problems)
    if each.absent and each.verified:
        yield f"{each.path}: absent: {', '.join(each.absent)}"
    yield from (f"{each.path}: withheld: {item}" for item in each.withheld)
    yield from (f"{each.path}: not whole: {item}" for item in each.failed)


def _rows(known: _Known) -> Iterator[Block]:
    yield Heading("Timeline")
    if not known.rows:
        yield Paragraph("Nothing is on record.")
        return
    yield Paragraph(
        "Every row as its source has it. Times of hosts are corrected by how far their clocks were wrong;"
        " ± says by how much a time may still be."
    )
    yield Table(
        ("Time", "Host", "Kind", "What", "Source"),
        tuple((_time(row), row.host, row.kind, _what(row), _source(row)) for row in known.rows),
    )


def _time(row: Row) -> str:
    if row.uncertainty is None:
        return f"{clock(row.at)} (clock not known)"
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
