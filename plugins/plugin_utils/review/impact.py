"""Counts the requests and failures of an incident, and finds the periods that are unknown.

Pure. Requests are counted with the service's counters between scrapes in the evidence. A counter that was
reset counts from the start of its process. A period that is not between two scrapes is counted in the
journal if the journal has every line. Otherwise it is unknown. Unknown never counts as zero.
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
# Seconds by which two clocks may disagree about the same event.
_DOUBT = 2.0
# A scrape without a time in the manifest was taken within this many seconds after its directory was made.
_WITHIN = 10.0
JOURNAL = "journal"


@dataclass(frozen=True)
class Edge:
    """An uncertain time: between `first` and `last`."""

    first: float
    last: float


@dataclass(frozen=True)
class Scrape:
    """The metrics of a host, by the control node's clock. `started`: when its process started.

    The scrape was taken between `at` and `within` seconds later.
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
    """The requests in a period by result, and their source."""

    begins: Edge
    ends: Edge
    requests: Mapping[str, float]
    source: str

    @property
    def begin(self) -> float:
        """The earliest time of its beginning."""
        return self.begins.first

    @property
    def end(self) -> float:
        """The earliest time of its end."""
        return self.ends.first


@dataclass(frozen=True)
class Unknown:
    """A period without data. `at_most`: the most requests that can have failed in it, None if unknown."""

    begin: float
    end: float
    at_most: float | None = None
    why: str = "no data"


@dataclass(frozen=True)
class _Gap:
    """A period that is not between two scrapes, and the most requests that can have failed in it."""

    begin: Edge
    end: Edge
    at_most: float | None = None


@dataclass(frozen=True)
class HostImpact:
    """The counted periods of a host, and the unknown ones."""

    host: str
    counted: tuple[Span, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def requests(self) -> dict[str, float]:
        """The number of all counted requests, by result."""
        total: Counter[str] = Counter()
        for span in self.counted:
            total.update(span.requests)
        return dict(total)


@dataclass(frozen=True)
class Impact:
    """The impact on all hosts."""

    hosts: tuple[HostImpact, ...] = field(default=())

    @property
    def complete(self) -> bool:
        """Whether every host is counted for the whole incident."""
        return bool(self.hosts) and all(not host.unknown for host in self.hosts)

    @property
    def requests(self) -> dict[str, float]:
        """The number of all counted requests, by result."""
        total: Counter[str] = Counter()
        for host in self.hosts:
            total.update(host.requests)
        return dict(total)


def scrapes(collections: Sequence[Collection]) -> tuple[list[Scrape], list[str]]:
    """The scrapes of a host in its evidence, the oldest first, and a clause for each that is unusable."""
    usable, problems = [], []
    for collection in collections:
        item = collection.items.get(METRICS)
        if item is None or not item.text.strip():
            problems.append(f"{collection.path}: the service's metrics are missing")
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
        usable.append(Scrape(at, began, samples, item.path, within))
    usable.sort(key=lambda each: (each.at, each.path))
    return usable, problems


def of_host(
    host: str, collections: Sequence[Collection], journal: Journal, begin: float, end: float
) -> HostImpact:
    """The requests of a host from the start to the end of an incident."""
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
        # The window also includes requests before or after the incident.
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
        spans, remaining = _by_journal(journal, gap)
        counted += spans
        unknown += remaining
    counted.sort(key=lambda each: each.begin)
    return HostImpact(host, tuple(counted), tuple(unknown), tuple(problems))


def _by_journal(journal: Journal, gap: _Gap) -> tuple[list[Span], list[Unknown]]:
    """Count a gap in the journal. Calls during a scrape are uncertain: the scrape may include them."""
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
            unknown.append(Unknown(edge.first, edge.last, most, "during a scrape"))
    return counted, unknown


def _exactly(at: float) -> Edge:
    return Edge(at, at)


def _calls(journal: Journal, begin: float, end: float) -> dict[str, float]:
    """The number of calls by result. Calls at the very beginning belong to the scrape that ends there."""
    calls = Counter(call.status for call in journal.calls if begin < call.at <= end)
    return {name: float(count) for name, count in sorted(calls.items())}


def windows(taken: Sequence[Scrape]) -> Iterator[Span]:
    """The requests between scrapes, in order. A new process counts from its start, if that is known."""
    before: Scrape | None = None
    for each in _narrowed(taken):
        if before is not None and before.samples.value(_STARTED) == each.samples.value(_STARTED):
            start: float | None = before.at
            window = metrics.Window(before.samples, each.samples)
        else:
            start = each.started
            window = metrics.Window(_NOTHING, each.samples)
            if before is not None and start is not None and start < before.at - _DOUBT:
                # A process cannot start before the previous one ended, so a clock was changed.
                start = None
        requests = window.requests()
        if start is not None and requests is not None and start <= each.edge.last:
            begins = _exactly(start)
            if before is not None and start <= before.at:
                begins = before.edge
            yield Span(begins, each.edge, requests, each.path)
        before = each


def _narrowed(taken: Sequence[Scrape]) -> Iterator[Scrape]:
    """Limit the uncertainty of each scrape: it was taken before the next one, and before a new process."""
    for each, after in itertools.zip_longest(taken, taken[1:]):
        latest = each.edge.last
        if after is not None:
            is_other = each.samples.value(_STARTED) != after.samples.value(_STARTED)
            process_start = after.started if is_other and after.started is not None else after.at
            latest = min(latest, process_start, after.at)
        yield replace(each, within=max(0.0, latest - each.at))


def rates(journal: Journal, spans: Sequence[Span], begin: float, end: float) -> list[Step]:
    """The percentage of failed requests over time: from the journal or, without it, from the counters."""
    width = bin_width(begin, end)
    drawn = []
    for first, inside in _bins(journal.calls, begin, end, width):
        judged = [call for call in inside if call.status not in metrics.NOT_JUDGED]
        if judged and journal.covers(max(first, begin), min(first + width, end)):
            share = sum(call.status in metrics.FAILED for call in judged) / len(judged)
            drawn.append(Step(first, first + width, round(100 * share, 2)))
    binned = [step.begin for step in drawn]
    for span in spans:
        if not any(span.begin <= first < span.end for first in binned):
            total = metrics.judged(dict(span.requests))
            if total:
                share = metrics.failed(dict(span.requests)) / total
                drawn.append(Step(span.begin, span.end, round(100 * share, 2)))
    return drawn


def latencies(calls: Sequence[Call], begin: float, end: float) -> list[Step]:
    """The median time of successful analyses over time, in seconds."""
    width = bin_width(begin, end)
    drawn = []
    for first, inside in _bins(calls, begin, end, width):
        times = [
            call.seconds
            for call in inside
            if call.seconds is not None and call.status == "ok" and call.tool not in _NO_ANALYSIS
        ]
        if times:
            drawn.append(Step(first, first + width, round(statistics.median(times), 3)))
    return drawn


def bin_width(begin: float, end: float) -> int:
    """The width of a graph's step in seconds: the smallest that gives at most 60 steps."""
    return next((each for each in _WIDTHS if (end - begin) / each <= _MOST_BINS), _WIDTHS[-1])


def _bins(calls: Sequence[Call], begin: float, end: float, width: int) -> Iterator[tuple[float, list[Call]]]:
    filled: dict[float, list[Call]] = {}
    for call in calls:
        if begin <= call.at < end:
            filled.setdefault(call.at // width * width, []).append(call)
    yield from sorted(filled.items())
