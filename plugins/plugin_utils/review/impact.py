"""What an incident cost: its duration and the requests that failed, counted, and where nothing is known.

Pure. Requests are counted by the counters of the service between scrapes that evidence has. A counter that
began anew counts from the start of its process. What no two scrapes enclose is counted in the journal where
that has every line, and is unknown elsewhere: what is not known is never taken for nothing.
"""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ansible_collections.katago.fleet.plugins.module_utils.common import prometheus
from ansible_collections.katago.fleet.plugins.module_utils.service import metrics
from ansible_collections.katago.fleet.plugins.plugin_utils.review.charts import Step
from ansible_collections.katago.fleet.plugins.plugin_utils.review.sources import Collection
from ansible_collections.katago.fleet.plugins.plugin_utils.review.timeline import Call, Journal

METRICS = "metrics.txt"
_STARTED = "process_start_time_seconds"
_NOTHING = prometheus.Scrape({})
_WIDTHS = (60, 120, 300, 600, 900, 1800, 3600, 10800, 21600, 86400)
_MOST_BINS = 60
_NO_ANALYSIS = ("getEngineStatus", "startEngine", "stopEngine", "unknown")
# Seconds by which times of different clocks may differ that tell the same.
_DOUBT = 2.0
# Seconds after its directory was made within which a scrape was taken whose manifest does not say when.
_WITHIN = 10.0
JOURNAL = "journal"


@dataclass(frozen=True)
class Edge:
    """A time that is between two."""

    first: float
    last: float


@dataclass(frozen=True)
class Scrape:
    """The metrics of a host at a time, by the control node's clock; `started`: when its process did.

    It was taken between `at` and `within` seconds later.
    """

    at: float
    started: float | None
    samples: prometheus.Scrape
    path: str
    within: float = 0.0

    @property
    def edge(self) -> Edge:
        """When it was taken."""
        return Edge(self.at, self.at + self.within)


@dataclass(frozen=True)
class Span:
    """Requests between two times by how they ended, and what says so."""

    begins: Edge
    ends: Edge
    requests: Mapping[str, float]
    source: str

    @property
    def begin(self) -> float:
        """When it begins at the earliest."""
        return self.begins.first

    @property
    def end(self) -> float:
        """When it ends at the earliest."""
        return self.ends.first


@dataclass(frozen=True)
class Unknown:
    """A span of time of which nothing is known but, sometimes, how many requests failed at most; and why."""

    begin: float
    end: float
    at_most: float | None = None
    why: str = "nothing covers it"


@dataclass(frozen=True)
class _Gap:
    """What no two scrapes enclose, and how many requests failed in it at most."""

    begin: Edge
    end: Edge
    at_most: float | None = None


@dataclass(frozen=True)
class HostImpact:
    """What is counted of a host, and the spans of time of which nothing is known."""

    host: str
    counted: tuple[Span, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def requests(self) -> dict[str, float]:
        """All that was counted, by how it ended."""
        total: Counter[str] = Counter()
        for span in self.counted:
            total.update(span.requests)
        return dict(total)


@dataclass(frozen=True)
class Impact:
    """What is counted of all hosts."""

    hosts: tuple[HostImpact, ...] = field(default=())

    @property
    def complete(self) -> bool:
        """Whether every host is counted from beginning to end."""
        return bool(self.hosts) and all(not host.unknown for host in self.hosts)

    @property
    def requests(self) -> dict[str, float]:
        """All that was counted, by how it ended."""
        total: Counter[str] = Counter()
        for host in self.hosts:
            total.update(host.requests)
        return dict(total)


def scrapes(collections: Sequence[Collection]) -> tuple[list[Scrape], list[str]]:
    """The scrapes that evidence has of a host, the oldest first; a sentence for each that is none."""
    found, problems = [], []
    for collection in collections:
        item = collection.items.get(METRICS)
        if item is None or not item.text.strip():
            problems.append(f"{collection.path}: the service's metrics could not be had")
            continue
        try:
            samples = prometheus.parse(item.text)
        except ValueError as error:
            problems.append(f"{item.path}: {error}")
            continue
        started = samples.value(_STARTED)
        at, within = collection.at, _WITHIN
        if item.began is not None:
            at, within = item.corrected(item.began), item.seconds
        began = item.corrected(started) if started else None
        found.append(Scrape(at, began, samples, item.path, within))
    found.sort(key=lambda each: (each.at, each.path))
    return found, problems


def of_host(
    host: str, collections: Sequence[Collection], journal: Journal, begin: float, end: float
) -> HostImpact:
    """The requests of a host from the beginning to the end of an incident."""
    taken, problems = scrapes(collections)
    counted: list[Span] = []
    gaps: list[_Gap] = []
    at = _exactly(begin)
    for window in windows(taken):
        if window.end <= begin or window.begin >= end:
            continue
        if begin <= window.begin and window.ends.last <= end:
            if window.begins != at:
                gaps.append(_Gap(at, window.begins))
            counted.append(window)
            at = window.ends
            continue
        # It also has what was before, or after.
        most: float | None = metrics.failed(dict(window.requests))
        if window.begin > at.last:
            gaps.append(_Gap(at, _exactly(window.begins.last)))
            at = _exactly(window.begins.last)
        elif window.begin < begin < window.begins.last:
            most = None
        stop = _exactly(min(end, window.end))
        gaps.append(_Gap(at, stop, most))
        at = stop
    if at.last < end:
        gaps.append(_Gap(at, _exactly(end)))
    unknown: list[Unknown] = []
    for gap in gaps:
        spans, left = _by_journal(journal, gap)
        counted += spans
        unknown += left
    counted.sort(key=lambda each: each.begin)
    return HostImpact(host, tuple(counted), tuple(unknown), tuple(problems))


def _by_journal(journal: Journal, gap: _Gap) -> tuple[list[Span], list[Unknown]]:
    """What the journal has of a gap; calls of the while in which a scrape was taken may be in that too."""
    begin, end = gap.begin.last, max(gap.begin.last, gap.end.first)
    if not journal.covers(begin, end):
        return [], [Unknown(gap.begin.first, gap.end.last, gap.at_most)]
    counted, unknown = [], []
    if begin < end:
        counted.append(Span(_exactly(begin), _exactly(end), _calls(journal, begin, end), JOURNAL))
    for edge in (gap.begin, gap.end):
        calls = _calls(journal, edge.first, edge.last)
        covered = edge.first == edge.last or journal.covers(edge.first, edge.last)
        if calls or not covered:
            most = metrics.failed(calls) if covered else None
            unknown.append(Unknown(edge.first, edge.last, most, "a scrape was taken meanwhile"))
    return counted, unknown


def _exactly(at: float) -> Edge:
    return Edge(at, at)


def _calls(journal: Journal, begin: float, end: float) -> dict[str, float]:
    """How many calls ended in each way; what was at the beginning is in the scrape that ends there."""
    calls = Counter(call.status for call in journal.calls if begin < call.at <= end)
    return {name: float(count) for name, count in sorted(calls.items())}


def windows(taken: Sequence[Scrape]) -> Iterator[Span]:
    """What counters say between scrapes, in order; nothing of the time that a process lived unseen."""
    before: Scrape | None = None
    for each in _narrowed(taken):
        if before is not None and before.samples.value(_STARTED) == each.samples.value(_STARTED):
            start: float | None = before.at
            window = metrics.Window(before.samples, each.samples)
        else:
            start = each.started
            window = metrics.Window(_NOTHING, each.samples)
            if before is not None and start is not None and start < before.at - _DOUBT:
                # A process does not begin before the end of the one before it: a clock was moved.
                start = None
        requests = window.requests()
        if start is not None and requests is not None and start <= each.edge.last:
            begins = _exactly(start)
            if before is not None and start <= before.at:
                begins = before.edge
            yield Span(begins, each.edge, requests, each.path)
        before = each


def _narrowed(taken: Sequence[Scrape]) -> Iterator[Scrape]:
    """The same, each of them taken before the next one, and before the process of that if it is another."""
    for each, after in itertools.zip_longest(taken, taken[1:]):
        latest = each.edge.last
        if after is not None:
            is_other = each.samples.value(_STARTED) != after.samples.value(_STARTED)
            begun = after.started if is_other and after.started is not None else after.at
            latest = min(latest, begun, after.at)
        yield replace(each, within=max(0.0, latest - each.at))


def rates(journal: Journal, spans: Sequence[Span], begin: float, end: float) -> list[Step]:
    """The percentage of requests that failed, over time: by the journal, or else by the counters."""
    width = bin_width(begin, end)
    made = []
    for first, inside in _bins(journal.calls, begin, end, width):
        judged = [call for call in inside if call.status not in metrics.NOT_JUDGED]
        if judged and journal.covers(max(first, begin), min(first + width, end)):
            share = sum(call.status in metrics.FAILED for call in judged) / len(judged)
            made.append(Step(first, first + width, round(100 * share, 2)))
    binned = [step.begin for step in made]
    for span in spans:
        if not any(span.begin <= first < span.end for first in binned):
            total = metrics.judged(dict(span.requests))
            if total:
                share = metrics.failed(dict(span.requests)) / total
                made.append(Step(span.begin, span.end, round(100 * share, 2)))
    return made


def latencies(calls: Sequence[Call], begin: float, end: float) -> list[Step]:
    """The median time of analyses that succeeded, in seconds, over time."""
    width = bin_width(begin, end)
    made = []
    for first, inside in _bins(calls, begin, end, width):
        times = [
            call.seconds
            for call in inside
            if call.seconds is not None and call.status == "ok" and call.tool not in _NO_ANALYSIS
        ]
        if times:
            made.append(Step(first, first + width, round(statistics.median(times), 3)))
    return made


def bin_width(begin: float, end: float) -> int:
    """Seconds of a step of a graph: the least that makes it one of at most 60."""
    return next((each for each in _WIDTHS if (end - begin) / each <= _MOST_BINS), _WIDTHS[-1])


def _bins(calls: Sequence[Call], begin: float, end: float, width: int) -> Iterator[tuple[float, list[Call]]]:
    filled: dict[float, list[Call]] = {}
    for call in calls:
        if begin <= call.at < end:
            filled.setdefault(call.at // width * width, []).append(call)
    yield from sorted(filled.items())
