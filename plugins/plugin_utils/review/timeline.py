"""An incident's timeline: what its record, its runs and the journals of its hosts tell, in one order.

Pure. Times of hosts are corrected by how far their clocks were ahead when the evidence was kept, so rows of
all hosts are in the order in which things happened. Each row names file and line that it is from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import messages
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
"""Seconds before the start of which a timeline tells, and after the end of which it does not."""
AFTER = 900.0
CHANGES_BEFORE = 86400.0
"""Seconds before the start of which it tells changes of releases."""
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
# What systemd says of every end, and tells nothing.
_NOISE = re.compile(r"Consumed .* CPU time|Scheduled restart job")


@dataclass(frozen=True)
class Row:
    """Something that happened, in seconds since the epoch by the control node's clock.

    `until` and `times` are those of what was repeated. `uncertainty`: seconds by which the time may be
    wrong, None when the host's clock is not known. `verified`: whether its source is as it was kept.
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
    """A tool call of a host's journal. `seconds` is how long it took, None when that is not told."""

    at: float
    status: str
    seconds: float | None
    tool: str


@dataclass(frozen=True)
class Journal:
    """A host's own journal, merged of all that was kept.

    `covered`: from when to when it has every line. `complete`: whether lines of the level of calls are in
    it, without which no call in it is no call at all.
    """

    rows: tuple[Row, ...] = ()
    calls: tuple[Call, ...] = ()
    covered: tuple[tuple[float, float], ...] = ()
    complete: bool = False

    def covers(self, begin: float, end: float) -> bool:
        """Whether it has every call between two times."""
        return self.complete and any(first <= begin and end <= last for first, last in self.covered)


def span(incident: incident_state.Incident, state: Sequence[Line]) -> tuple[float, float]:
    """Start and end of an incident: to its resolution, or to the last that is on record."""
    begin = timestamps.parse(incident.started).timestamp()
    last = max((timestamps.parse(line.value["at"]).timestamp() for line in state), default=begin)
    end = timestamps.parse(incident.resolved_at).timestamp() if incident.resolved_at else last
    return begin, max(begin, end)


def rows(sources: Sources, journals: Mapping[str, Journal]) -> list[Row]:
    """The timeline, in order."""
    begin, end = span(sources.incident, sources.state)
    found = [*state_rows(sources), *run_rows(sources), *evidence_rows(sources), *release_rows(sources)]
    for each in journals.values():
        found += each.rows
    for host in sources.hosts:
        found += resource_rows(sources.of(host))
    earliest = {"release": begin - CHANGES_BEFORE}
    shown = [
        row
        for row in found
        if row.host == CONTROL or earliest.get(row.kind, begin - BEFORE) <= row.at <= end + AFTER
    ]
    return collapse(ordered(shown))


def ordered(found: Iterable[Row]) -> list[Row]:
    """Rows by time; those of the same time by host, source and line, so that any order gives this one."""
    return sorted(found, key=lambda row: (row.at, row.host, row.source, row.line, row.what))


def collapse(found: Sequence[Row]) -> list[Row]:
    """Rows in which what a host repeats within minutes is one, with how often and until when."""
    kept: list[Row] = []
    last: dict[tuple[str, str, str], int] = {}
    for row in found:
        key = (row.host, row.kind, row.what)
        place = last.get(key)
        if place is not None and row.at - (kept[place].until or kept[place].at) <= _REPEATS_WITHIN.get(
            row.kind, _REPEATS
        ):
            kept[place] = replace(kept[place], times=kept[place].times + row.times, until=row.until or row.at)
            continue
        last[key] = len(kept)
        kept.append(row)
    return kept


def state_rows(sources: Sources) -> Iterator[Row]:
    """What the incident's record tells."""
    for line in sources.state:
        for kind, what in _state_words(line.value):
            yield _control(line, f"incidents/{sources.incident.id}/state.jsonl", kind, what)


def run_rows(sources: Sources) -> Iterator[Row]:
    """What procedures did, runs of playbooks, and tasks of them that failed."""
    path = f"incidents/{sources.incident.id}/timeline.jsonl"
    runs: dict[tuple[str, str], list[Line]] = {}
    for line in sources.timeline:
        event = line.value
        host = str(event.get("host") or CONTROL)
        if event.get("procedure"):
            words = " ".join(str(event.get("message") or "").split("\n")[0].split())
            if event.get("result") != "begun" or words:
                what = f"{event['procedure']}: {event.get('result')}. {words}".strip()
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
            words = ", ".join(
                f"{name} {event[name]}" for name in ("event", "key", "message", "why") if event.get(name)
            )
            yield _control(line, path, "message", f"{event.get('who', '?')}: {words}")
    for group in runs.values():
        yield _run(group, path)


def evidence_rows(sources: Sources) -> Iterator[Row]:
    """When evidence was kept."""
    for each in sources.collections:
        kept = messages.counted(len(each.items), "item")
        what = f"evidence kept: {kept}" + (f", {len(each.absent)} absent" if each.absent else "")
        yield Row(each.at, each.host, "evidence", what, each.path, verified=each.verified)


def release_rows(sources: Sources) -> Iterator[Row]:
    """Switches of releases and verdicts on them, each by the earliest evidence that has it."""
    for host in sources.hosts:
        seen: set[str] = set()
        for collection in sources.of(host):
            item = collection.items.get(paths.HISTORY.name)
            for number, value in parsed_lines(item.text) if item else ():
                key = repr(sorted(value.items())) if value else ""
                at = _seconds((value or {}).get("at"))
                if item is None or value is None or at is None or key in seen:
                    continue
                seen.add(key)
                yield _host_row(collection, item, at, "release", _release_words(value), number)


def resource_rows(collections: Sequence[Collection]) -> Iterator[Row]:
    """What kernel and host wrote of memory, disks and crashes."""
    for collection, item, number, entry in _entries(collections, ("journal-host.jsonl",)):
        text = journal.message(entry)
        if _RESOURCES.search(text):
            at = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
            yield _host_row(collection, item, at, "resource", text[:200], number)


def merged_journal(collections: Sequence[Collection]) -> Journal:
    """The service's journal of a host, of all that was kept of it; each line by the earliest evidence."""
    found, calls, covered = [], [], []
    complete = False
    for collection, item, number, entry in _entries(collections, JOURNALS):
        at = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        fields = journal.fields(entry)
        if fields is not None and fields["level"] == "info":
            complete = True
        if fields is not None and fields.get("event") == "call":
            calls.append(_call(item.corrected(at), fields))
        for kind, what in _journal_words(entry, fields):
            found.append(_host_row(collection, item, at, kind, what, number))
    for collection in collections:
        for name in JOURNALS:
            kept = collection.items.get(name)
            times = _times(kept) if kept else []
            if kept is not None and times:
                # journalctl tells the oldest first, so one that was cut lacks the newest.
                read = collection.at if kept.began is None else kept.corrected(kept.began)
                until = read if kept.whole else kept.corrected(times[-1])
                # When it was before a clock was moved is not known.
                covered.append((max(kept.corrected(times[0]), kept.since), until))
    calls.sort(key=lambda call: call.at)
    return Journal(tuple(found), tuple(calls), tuple(joined(covered)), complete)


def joined(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans of time in order, those that touch made one; those that end before they begin left out."""
    made: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if end < begin:
            continue
        if made and begin <= made[-1][1]:
            made[-1] = (made[-1][0], max(end, made[-1][1]))
        else:
            made.append((begin, end))
    return made


def clock_notes(sources: Sources) -> list[str]:
    """A sentence for every host whose clock was wrong by a second or more, or moved, or is not known."""
    notes = []
    for host in sources.hosts:
        clocks = [
            (item.offset, item.uncertainty) for each in sources.of(host) for item in each.items.values()
        ]
        known = [(offset, doubt) for offset, doubt in clocks if offset is not None]
        if clocks and not known:
            notes.append(f"{host}: how far its clock was wrong is not known; its times are its own.")
            continue
        if not known:
            continue
        low, high = min(known), max(known)
        if high[0] - low[0] > 1 + low[1] + high[1]:
            notes.append(
                f"{host}: its clock was moved meanwhile, from {low[0]:+.1f} s to {high[0]:+.1f} s; each row"
                " is corrected by the earliest evidence that has it, and its order is not known where ± is as"
                " much as that."
            )
        elif abs(high[0]) >= 1 or abs(low[0]) >= 1:
            doubt = max(each for _, each in known)
            where = "ahead" if high[0] > 0 else "behind"
            notes.append(
                f"{host}: its clock was {abs(high[0]):.1f} s {where} (within {doubt:.1f} s); corrected."
            )
    return notes


def _entries(
    collections: Sequence[Collection], names: Sequence[str]
) -> Iterator[tuple[Collection, Item, int, Mapping[str, Any]]]:
    """The entries of a host's journals, each once, by the earliest evidence that has it."""
    seen: set[str] = set()
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
                if key not in seen:
                    seen.add(key)
                    yield collection, item, number, entry


def _times(item: Item) -> list[float]:
    """The times of its entries, by the host's clock."""
    return [
        int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        for _, entry in parsed_lines(item.text)
        if entry is not None and str(entry.get("__REALTIME_TIMESTAMP", "")).isdigit()
    ]


def _call(at: float, fields: Mapping[str, Any]) -> Call:
    seconds = fields.get("seconds")
    took = float(seconds) if isinstance(seconds, int | float) else None
    return Call(at, str(fields.get("status")), took, str(fields.get("tool")))


def _journal_words(entry: Mapping[str, Any], fields: Mapping[str, Any] | None) -> Iterator[tuple[Kind, str]]:
    """What a line of the service's journal tells; nothing of most lines."""
    if fields is None:
        text = journal.message(entry).strip()
        if str(entry.get("_PID")) == "1":
            if not _NOISE.search(text):
                yield "service", f"systemd: {text[:200]}"
        elif text:
            yield "error", "lines that are no JSON, such as those of a traceback"
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
        told = ", ".join(
            f"{name} {fields[name]}" for name in ("path", "why", "expiresAt") if fields.get(name)
        )
        yield "change", f"{event}: {told}" if told else event
    else:
        for group in journal.groups([entry]):
            yield "error", f"{group['event']}: {group['code']}" if group["code"] else str(group["event"])


def _state_words(event: Mapping[str, Any]) -> Iterator[tuple[Kind, str]]:
    kind = event["event"]
    if kind == "opened":
        alert = f" by the alert {event['alert']}" if event.get("alert") else ""
        found = f": {event['summary']}" if event.get("summary") else ""
        yield "alert", f"opened{alert} as {event['severity']} (by {event['severity_by']}){found}"
        if event.get("lead"):
            yield "people", f"{event['lead']} leads"
    elif kind == "joined":
        alert = f" {event['alert']}" if event.get("alert") else ""
        worse = f"; {event['severity']} now" if event.get("severity") else ""
        yield "alert", f"the same alert{alert} again{worse}"
    elif kind == "updated":
        yield "people", f"update: {_said(event) or 'nothing new'}"
    elif kind == "escalated":
        yield "people", f"escalated to {event.get('to')}: {event.get('why')}"
    elif kind == "closed":
        yield "people", f"closed: {_said(event) or 'by the resolution told before'}"
    elif kind == "overdue":
        yield "message", f"the update due at {event.get('due')} was overdue"
    elif kind in ("sent", "failed", "unknown"):
        words = {"sent": "sent", "failed": "not taken", "unknown": "not known whether it was sent"}[kind]
        yield "message", f"{words}: {event.get('key')}" + (f" ({event['why']})" if event.get("why") else "")


def _said(event: Mapping[str, Any]) -> str:
    names = ("status", "severity", "lead", "impact", "summary", "next_steps", "eta", "resolution")
    told = [f"{name.replace('_', ' ')} {event[name]}" for name in names if event.get(name)]
    return "; ".join([*told, *(f"did: {each}" for each in event.get("actions", ()))])


def _release_words(value: Mapping[str, Any]) -> str:
    if value.get("verdict"):
        return f"{value.get('release')} found {value['verdict']}: {value.get('why')}"
    before = f" from {value['previous']}" if value.get("previous") else ""
    return (
        f"switched to {value.get('release')}{before} ({value.get('how', 'deployment')}) by {value.get('who')}"
    )


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
