"""Builds an incident's timeline from its record, its runs and the journals of its hosts.

Pure. Times from hosts are corrected for the error of the host's clock at the time of the evidence, so that
the rows of all hosts are in chronological order. Each row names its file and line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import messages, reminder_timer
from ansible_collections.katago.fleet.plugins.module_utils.incident import state as incident_state
from ansible_collections.katago.fleet.plugins.module_utils.service import journal, metrics
from ansible_collections.katago.fleet.plugins.plugin_utils.review.sources import (
    Collection,
    Item,
    Line,
    Sources,
    parsed_lines,
)

Kind = Literal[
    "alert", "people", "message", "procedure", "run", "evidence", "release", "change", "service", "engine",
    "error", "resource",
]  # fmt: skip

CONTROL = "control node"
JOURNALS = ("journal.jsonl", "journal-long.jsonl")
BEFORE = 3600.0
"""Seconds before the incident's start that the timeline includes."""
AFTER = 900.0
"""Seconds after the incident's end that the timeline includes."""
CHANGES_BEFORE = 86400.0
"""Seconds before the start from which it includes changes of releases."""
SWITCHED = "switched to "
"""The start of every row about a switch of releases."""
_VERDICTS = {"good": "validated", "bad": "rejected"}
_REPEATS_WITHIN = {"error": 300.0, "resource": 300.0, "alert": 300.0}
_REPEATS = 60.0
_SAME_RUN = 300.0
_CHANGES = ("overlay_in_force", "overlay_lifted", "overlay_expired", "reloaded", "admin", "tokens_reloaded")
_ENGINE = ("engine_state", "engine_started", "engine_restarting")
_SERVICE = ("listening", "draining", "stopped")
_RESOURCES = re.compile(
    r"out of memory|oom-kill|oom_reaper|no space left|i/o error|read-only file system|segfault|NVRM"
    r"|too many open files",
    re.I,
)
# Lines that systemd writes for every stop. They have no information.
_NOISE = re.compile(r"Consumed .* CPU time|Scheduled restart job")


@dataclass(frozen=True)
class Row:
    """An event. Times are in seconds since the epoch, by the control node's clock.

    `until`, `times`: the last time and the number of repetitions. `uncertainty`: that of the time in
    seconds, None if the error of the host's clock is unknown. `verified`: whether the source is verified.
    """

    at: float
    host: str
    kind: Kind
    what: str
    source: str
    line: int = 0
    until: float = 0.0
    times: int = 1
    uncertainty: float | None = 0.0
    verified: bool = True


@dataclass(frozen=True)
class Call:
    """A tool call in a host's journal. `seconds`: its duration, None if not recorded."""

    at: float
    status: str
    seconds: float | None
    tool: str


@dataclass(frozen=True)
class Journal:
    """A host's journal, merged from all evidence.

    `covered`: the periods in which it has every line. `complete`: whether it has lines at the level of
    calls. Without them, a period without calls in the journal may still have had calls.
    """

    rows: tuple[Row, ...] = ()
    calls: tuple[Call, ...] = ()
    covered: tuple[tuple[float, float], ...] = ()
    complete: bool = False

    def covers(self, begin: float, end: float) -> bool:
        """Whether it has every call between two times."""
        return self.complete and any(first <= begin and end <= last for first, last in self.covered)


def span(incident: incident_state.Incident, state: Sequence[Line]) -> tuple[float, float]:
    """The start and end of an incident. It ends with its resolution or else with the last recorded event."""
    begin = timestamps.parse(incident.started).timestamp()
    last = max((timestamps.parse(line.value["at"]).timestamp() for line in state), default=begin)
    end = timestamps.parse(incident.resolved_at).timestamp() if incident.resolved_at else last
    return begin, max(begin, end)


def rows(sources: Sources, journals: Mapping[str, Journal]) -> list[Row]:
    """The timeline, in order."""
    begin, end = span(sources.incident, sources.state)
    unordered = [*state_rows(sources), *run_rows(sources), *evidence_rows(sources), *release_rows(sources)]
    for each in journals.values():
        unordered += each.rows
    for host in sources.hosts:
        unordered += resource_rows(sources.of(host))
    earliest = {"release": begin - CHANGES_BEFORE}
    shown = [
        row
        for row in unordered
        if row.host == CONTROL or earliest.get(row.kind, begin - BEFORE) <= row.at <= end + AFTER
    ]
    return collapse(ordered(shown))


def ordered(unordered: Iterable[Row]) -> list[Row]:
    """Rows by time, then by host, source and line, so that the order does not depend on the input's order."""
    return sorted(unordered, key=lambda row: (row.at, row.host, row.source, row.line, row.what))


def collapse(ordered_rows: Sequence[Row]) -> list[Row]:
    """Merge rows that a host repeats within minutes into one, with their number and the last time."""
    merged: list[Row] = []
    last: dict[tuple[str, str, str], int] = {}
    for row in ordered_rows:
        key = (row.host, row.kind, row.what)
        place = last.get(key)
        if place is not None and row.at - (merged[place].until or merged[place].at) <= _REPEATS_WITHIN.get(
            row.kind, _REPEATS
        ):
            merged[place] = replace(
                merged[place], times=merged[place].times + row.times, until=row.until or row.at
            )
            continue
        last[key] = len(merged)
        merged.append(row)
    return merged


def state_rows(sources: Sources) -> Iterator[Row]:
    """The events in the incident's record."""
    for line in sources.state:
        for kind, what in _state_texts(line.value):
            yield _control(line, f"incidents/{sources.incident.id}/state.jsonl", kind, what)


def run_rows(sources: Sources) -> Iterator[Row]:
    """The results of procedures, the runs of playbooks, and their failed tasks."""
    path = f"incidents/{sources.incident.id}/timeline.jsonl"
    runs: dict[tuple[str, str], list[Line]] = {}
    for line in sources.timeline:
        event = line.value
        host = str(event.get("host") or CONTROL)
        if event.get("procedure"):
            text = " ".join(str(event.get("message") or "").split("\n")[0].split())
            if event.get("result") != "begun" or text:
                result = "started" if event.get("result") == "begun" else event.get("result")
                what = f"{event['procedure']}: {result}. {text}".strip()
                yield replace(_control(line, path, "procedure", what), host=host)
        elif event.get("task"):
            key = (str(event.get("who")), str(event.get("command")))
            group = runs.setdefault(key, [])
            if group and _at(line) - _at(group[-1]) > _SAME_RUN:
                yield _run(group, path)
                group.clear()
            group.append(line)
            if event.get("result") in ("failed", "unreachable"):
                what = f"task {event['task']!r}: {event['result']}"
                yield replace(_control(line, path, "run", what), host=host)
        else:
            text = ", ".join(
                str(event[name]) for name in ("event", "key", "message", "why") if event.get(name)
            )
            who = event.get("who", "?")
            who = "reminder timer" if who == reminder_timer.WHO else who
            yield _control(line, path, "message", f"{who}: {text}")
    for group in runs.values():
        yield _run(group, path)


def evidence_rows(sources: Sources) -> Iterator[Row]:
    """The collections of evidence."""
    for each in sources.collections:
        count = messages.counted(len(each.items), "item")
        what = f"evidence collected: {count}" + (f", {len(each.absent)} missing" if each.absent else "")
        yield Row(each.at, each.host, "evidence", what, each.path, verified=each.verified)


def release_rows(sources: Sources) -> Iterator[Row]:
    """Switches and verdicts of releases, each from the earliest evidence that contains it."""
    for host in sources.hosts:
        listed: set[str] = set()
        for collection in sources.of(host):
            item = collection.items.get(paths.HISTORY.name)
            for number, value in parsed_lines(item.text) if item else ():
                key = repr(sorted(value.items())) if value else ""
                at = _seconds((value or {}).get("at"))
                if item is None or value is None or at is None or key in listed:
                    continue
                listed.add(key)
                yield _host_row(collection, item, at, "release", _release_text(value), number)


def resource_rows(collections: Sequence[Collection]) -> Iterator[Row]:
    """Lines of the host's journal about memory, disks and crashes."""
    for collection, item, number, entry in _entries(collections, ("journal-host.jsonl",)):
        text = journal.message(entry)
        if _RESOURCES.search(text):
            at = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
            yield _host_row(collection, item, at, "resource", text[:200], number)


def merged_journal(collections: Sequence[Collection]) -> Journal:
    """The service's journal on a host, from all evidence; each line from the earliest evidence."""
    journal_rows, calls, covered = [], [], []
    complete = False
    for collection, item, number, entry in _entries(collections, JOURNALS):
        at = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        fields = journal.fields(entry)
        if fields is not None and fields["level"] == "info":
            complete = True
        if fields is not None and fields.get("event") == "call":
            calls.append(_call(item.corrected(at), fields))
        for kind, what in _journal_texts(entry, fields):
            journal_rows.append(_host_row(collection, item, at, kind, what, number))
    for collection in collections:
        for name in JOURNALS:
            item_of_journal = collection.items.get(name)
            times = _times(item_of_journal) if item_of_journal else []
            if item_of_journal is not None and times:
                # journalctl writes the oldest line first, so a journal that was cut lacks the newest lines.
                read = (
                    collection.at
                    if item_of_journal.began is None
                    else item_of_journal.corrected(item_of_journal.began)
                )
                until = read if item_of_journal.whole else item_of_journal.corrected(times[-1])
                # Times before a change of the clock are uncertain.
                start = max(item_of_journal.corrected(times[0]), item_of_journal.since)
                covered.append((start, until))
    calls.sort(key=lambda call: call.at)
    return Journal(tuple(journal_rows), tuple(calls), tuple(joined(covered)), complete)


def joined(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Periods in order. Overlapping ones are merged; those that end before they begin are left out."""
    merged: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if end < begin:
            continue
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def clock_notes(sources: Sources) -> list[str]:
    """A sentence for each host whose clock was wrong by a second or more, was changed, or is unknown."""
    notes = []
    for host in sources.hosts:
        clocks = [
            (item.offset, item.uncertainty) for each in sources.of(host) for item in each.items.values()
        ]
        offsets = [(offset, doubt) for offset, doubt in clocks if offset is not None]
        if clocks and not offsets:
            notes.append(f"{host}: the error of its clock is unknown. Its times are not corrected.")
            continue
        if not offsets:
            continue
        low, high = min(offsets), max(offsets)
        if high[0] - low[0] > 1 + low[1] + high[1]:
            notes.append(
                f"{host}: its clock was changed during the incident; its error was between {low[0]:+.1f} s"
                f" and {high[0]:+.1f} s. Each row is corrected by the earliest evidence with it. Where ±"
                " is as large as this change, the order of rows is uncertain."
            )
        elif abs(high[0]) >= 1 or abs(low[0]) >= 1:
            doubt = max(each for _, each in offsets)
            where = "ahead" if high[0] > 0 else "behind"
            notes.append(
                f"{host}: its clock was {abs(high[0]):.1f} s {where} (±{doubt:.1f} s). Times are corrected."
            )
    return notes


def _entries(
    collections: Sequence[Collection], names: Sequence[str]
) -> Iterator[tuple[Collection, Item, int, Mapping[str, Any]]]:
    """The entries of a host's journals, each once, from the earliest evidence that contains it."""
    listed: set[str] = set()
    for collection in sorted(collections, key=lambda each: (each.at, each.path)):
        for name in names:
            item = collection.items.get(name)
            for number, entry in parsed_lines(item.text) if item else ():
                if item is None or entry is None or not str(entry.get("__REALTIME_TIMESTAMP", "")).isdigit():
                    continue
                key = str(
                    entry.get("__CURSOR")
                    or [entry["__REALTIME_TIMESTAMP"], entry.get("_PID"), entry.get("MESSAGE")]
                )
                if key not in listed:
                    listed.add(key)
                    yield collection, item, number, entry


def _times(item: Item) -> list[float]:
    """The times of a journal's entries, by the host's clock."""
    return [
        int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        for _, entry in parsed_lines(item.text)
        if entry is not None and str(entry.get("__REALTIME_TIMESTAMP", "")).isdigit()
    ]


def _call(at: float, fields: Mapping[str, Any]) -> Call:
    seconds = fields.get("seconds")
    took = float(seconds) if isinstance(seconds, int | float) else None
    return Call(at, str(fields.get("status")), took, str(fields.get("tool")))


def _journal_texts(entry: Mapping[str, Any], fields: Mapping[str, Any] | None) -> Iterator[tuple[Kind, str]]:
    """The row for a line of the service's journal; none for most lines."""
    if fields is None:
        text = journal.message(entry).strip()
        if str(entry.get("_PID")) == "1":
            if not _NOISE.search(text):
                yield "service", f"systemd: {text[:200]}"
        elif text:
            yield "error", "log lines that are not JSON, such as a traceback"
        return
    event = str(fields.get("event", ""))
    reason = f": {fields['reason']}" if fields.get("reason") else ""
    if event == "call":
        if fields.get("status") in metrics.FAILED:
            code = f" ({fields['code']})" if fields.get("code") else ""
            yield "error", f"call of {fields.get('tool')}: {fields['status']}{code}"
    elif event in _ENGINE:
        yield "engine", f"{event}: {fields['state']}{reason}" if fields.get("state") else f"{event}{reason}"
    elif event in _SERVICE:
        release = f", release {fields['release']}" if fields.get("release") else ""
        yield "service", f"{event}{release}"
    elif event in _CHANGES:
        details = ", ".join(
            f"{name} {fields[name]}" for name in ("path", "why", "expiresAt") if fields.get(name)
        )
        yield "change", f"{event}: {details}" if details else event
    else:
        for group in journal.groups([entry]):
            yield "error", f"{group['event']}: {group['code']}" if group["code"] else str(group["event"])


def _state_texts(event: Mapping[str, Any]) -> Iterator[tuple[Kind, str]]:
    kind = event["event"]
    if kind == "opened":
        alert = f" by the alert {event['alert']}" if event.get("alert") else ""
        summary = f": {event['summary']}" if event.get("summary") else ""
        yield "alert", f"opened{alert} as {event['severity']} (set by {event['severity_by']}){summary}"
        if event.get("lead"):
            yield "people", f"{event['lead']} takes the lead"
    elif kind == "joined":
        alert = f" {event['alert']}" if event.get("alert") else ""
        severity = f"; severity now {event['severity']}" if event.get("severity") else ""
        yield "alert", f"repeated alert{alert}{severity}"
    elif kind == "updated":
        yield "people", f"update: {_fields_text(event) or 'no text'}"
    elif kind == "escalated":
        how = " automatically" if event.get("automatic") else ""
        yield "people", f"escalated{how} to {event.get('to')}: {event.get('why')}"
    elif kind == "closed":
        yield "people", f"closed: {_fields_text(event) or 'resolution as recorded before'}"
    elif kind == "overdue":
        yield "message", f"the update due at {event.get('due')} was overdue"
    elif kind in ("sent", "failed", "unknown"):
        outcome = {"sent": "sent", "failed": "not accepted", "unknown": "unknown whether it was sent"}[kind]
        yield "message", f"{outcome}: {event.get('key')}" + (f" ({event['why']})" if event.get("why") else "")


def _fields_text(event: Mapping[str, Any]) -> str:
    names = ("status", "severity", "lead", "impact", "summary", "next_steps", "eta", "resolution")
    fields = [f"{name.replace('_', ' ')}: {event[name]}" for name in names if event.get(name)]
    return "; ".join([*fields, *(f"action: {each}" for each in event.get("actions", ()))])


def _release_text(value: Mapping[str, Any]) -> str:
    if verdict := value.get("verdict"):
        return f"{value.get('release')} {_VERDICTS.get(verdict, verdict)}: {value.get('why')}"
    previous = f" from {value['previous']}" if value.get("previous") else ""
    how = value.get("how", "deployment")
    return f"{SWITCHED}{value.get('release')}{previous} ({how}) by {value.get('who')}"


def _run(group: Sequence[Line], path: str) -> Row:
    results = [str(line.value.get("result")) for line in group]
    counts = ", ".join(
        f"{results.count(name)} {name}" for name in ("changed", "failed", "unreachable") if name in results
    )
    hosts = {str(line.value.get("host")) for line in group}
    what = (
        f"{group[0].value.get('command')}: {messages.counted(len(group), 'result')} on"
        f" {messages.counted(len(hosts), 'host')}{f', {counts}' if counts else ''}"
    )
    return replace(_control(group[0], path, "run", what), until=_at(group[-1]))


def _control(line: Line, path: str, kind: Kind, what: str) -> Row:
    return Row(_at(line), CONTROL, kind, what, path, line.number)


def _host_row(collection: Collection, item: Item, at: float, kind: Kind, what: str, number: int) -> Row:
    return Row(
        item.corrected(at),
        collection.host,
        kind,
        what,
        item.path,
        number,
        uncertainty=None if item.offset is None else item.uncertainty + item.moved,
        verified=collection.verified,
    )


def _at(line: Line) -> float:
    return timestamps.parse(str(line.value["at"])).timestamp()


def _seconds(at: object) -> float | None:
    try:
        return timestamps.parse(str(at)).timestamp()
    except ValueError:
        return None
