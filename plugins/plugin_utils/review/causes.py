"""Finds possible causes of an incident in its timeline and evidence, for people to judge.

Pure. A candidate has an observation, its time and its source. It does not claim to be the cause.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from ansible_collections.katago.fleet.plugins.module_utils.incident import messages, state
from ansible_collections.katago.fleet.plugins.module_utils.triage import rules_host
from ansible_collections.katago.fleet.plugins.plugin_utils.review.sources import Collection, Item, Sources
from ansible_collections.katago.fleet.plugins.plugin_utils.review.timeline import CONTROL, SWITCHED, Row, span

_RESOURCE_RULES = ("filesystems", "memory", "pressure", "limits")
_CONFIG_RULES = ("config", "release", "engines")
_ENDED = re.compile(r"engine_state: (?:backoff|config_error|hung)\b")
_FAILED = re.compile(r"systemd: .*(?:Failed with result|Main process exited|oom-kill)", re.I)
_LONG_BEFORE = 1800.0
# These filesystems are read-only and therefore always full.
_ALWAYS_FULL = ("squashfs", "iso9660")


@dataclass(frozen=True)
class Candidate:
    """A possible cause. `kind`: a heading for people. `at`: None if the time is unknown."""

    kind: str
    at: float | None
    host: str
    what: str
    source: str


def candidates(sources: Sources, rows: Sequence[Row]) -> list[Candidate]:
    """All candidates: first those before the start, the latest first; then those after it, in order."""
    begin, _ = span(sources.incident, sources.state)
    unordered = [
        *_changes(rows, begin),
        *_ends(rows),
        *_resources(sources, rows),
        *_first_errors(sources, rows, begin),
        *_findings(sources.incident),
    ]

    def order(each: Candidate) -> tuple[int, float, str, str]:
        place = 2 if each.at is None else 0 if each.at <= begin else 1
        return place, abs((each.at or begin) - begin), each.host, each.what

    return sorted(unordered, key=order)


def relation(at: float | None, begin: float) -> str:
    """The time in relation to the start."""
    if at is None:
        return "during triage"
    distance = messages.duration_text(timedelta(seconds=abs(at - begin)))
    return f"{distance} {'before' if at <= begin else 'after'} the start"


def _changes(rows: Sequence[Row], begin: float) -> Iterator[Candidate]:
    """The newest change of each host before the start: a release, limits, a procedure."""
    newest: dict[tuple[str, str], Row] = {}
    for row in rows:
        changed = row.kind == "change" or (row.kind == "release" and row.what.startswith(SWITCHED))
        acted = row.kind == "procedure" and ": changed" in row.what
        if row.at <= begin and (changed or acted):
            newest[row.host, row.kind] = row
    for row in newest.values():
        yield _candidate("Change before the incident", row)


def _ends(rows: Sequence[Row]) -> Iterator[Candidate]:
    """The first failure of each host's engine, and the first unexpected stop of its service."""
    listed: set[tuple[str, str]] = set()
    for row in rows:
        if row.kind == "engine" and _ENDED.match(row.what):
            kind = "Engine failure"
        elif row.kind == "service" and _FAILED.match(row.what):
            kind = "Service stopped unexpectedly"
        else:
            continue
        if (row.host, kind) not in listed:
            listed.add((row.host, kind))
            yield _candidate(kind, row)


def _resources(sources: Sources, rows: Sequence[Row]) -> Iterator[Candidate]:
    kind = "Resource exhausted"
    hosts: set[str] = set()
    for row in rows:
        if row.kind == "resource" and row.host not in hosts:
            hosts.add(row.host)
            yield _candidate(kind, row)
    listed: set[tuple[str, str]] = set()
    for collection in sources.collections:
        for what, item in exhausted(collection):
            # List each filesystem once.
            if (collection.host, what.partition(":")[0]) not in listed:
                listed.add((collection.host, what.partition(":")[0]))
                yield Candidate(kind, collection.at, collection.host, what, item.path)
    for finding in sources.incident.findings.values():
        if finding.rule in _RESOURCE_RULES:
            yield _finding(kind, finding)


def exhausted(collection: Collection) -> Iterator[tuple[str, Item]]:
    """Full filesystems (space or inodes) and exhausted memory, according to the evidence."""
    for name, what in (("disk.txt", "disk space"), ("inodes.txt", "inodes")):
        item = collection.items.get(name)
        for line in item.text.splitlines() if item else ():
            # The last two columns of df -P. Only disk.txt has the filesystem's type.
            match = re.match(r"(\S+)\s+(?:(\S*[a-z]\S*)\s+)?.*\s(\d+)%\s+(/.*)$", line)
            full = match and 100 - int(match[3]) <= rules_host.EXHAUSTED_PERCENT
            if item and match and full and match[2] not in _ALWAYS_FULL:
                yield f"{what} on {match[4]}: {match[3]} % used", item
    item = collection.items.get("memory.txt")
    figures = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB", item.text, re.M)) if item else {}
    if item and len(figures) == 2 and int(figures["MemTotal"]):
        available = 100 * int(figures["MemAvailable"]) / int(figures["MemTotal"])
        if available <= rules_host.MEMORY_EXHAUSTED_PERCENT:
            yield f"memory: {available:.1f} % available", item


def _first_errors(sources: Sources, rows: Sequence[Row], begin: float) -> Iterator[Candidate]:
    """The first occurrence of each kind of error, unless it was long before the start."""
    first: dict[str, Row] = {}
    for row in rows:
        if row.kind == "error":
            first.setdefault(row.what, row)
    for row in first.values():
        if row.at >= begin - _LONG_BEFORE:
            yield _candidate("First occurrence of an error", row)
    for error in sources.incident.unfamiliar:
        yield Candidate("Error that no earlier incident had", None, "", error, "state.jsonl")


def _findings(incident: state.Incident) -> Iterator[Candidate]:
    if incident.recurrence_of:
        what = f"recurrence of {incident.recurrence_of}"
        yield Candidate("Recurrence", None, "", what, "state.jsonl")
    for finding in incident.findings.values():
        if finding.rule in _CONFIG_RULES:
            yield _finding("Unexpected configuration or release", finding)


def _finding(kind: str, finding: state.Finding) -> Candidate:
    return Candidate(kind, None, finding.host, f"{finding.rule}: {finding.measured}", "state.jsonl")


def _candidate(kind: str, row: Row) -> Candidate:
    source = f"{row.source}:{row.line}" if row.line else row.source
    return Candidate(kind, row.at, row.host if row.host != CONTROL else "", row.what, source)
