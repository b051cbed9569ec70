"""What a load generator measured, in a fixed amount of memory, however long it runs. Pure."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TypedDict

from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.client import OK, Kind, Result

LOWEST_SECONDS = 1e-4
HIGHEST_SECONDS = 1e3
MOST_PERIODS = 120
MOST_HOSTS = 256
"""The most names of hosts that are counted separately; load balancers report them."""
OTHER_HOSTS = "others"
_FINE = 1.02
# The latencies of a period are only drawn, so they need not be as exact as those of the whole run.
_COARSE = 1.1


class Latency(TypedDict):
    """Seconds of the calls that succeeded; null if none did."""

    median: float | None
    p95: float | None
    p99: float | None
    max: float | None


class Row(TypedDict):
    """The totals of a group of calls. `failed`: by kind. `sessions`: those that were used."""

    calls: int
    failed: dict[str, int]
    latency: Latency
    sessions: int
    sessions_lost: int


class Period(TypedDict):
    """A part of the run. `start`: seconds since the run's start."""

    start: float
    ok: int
    failed: int
    latency: Latency


class Histogram:
    """Durations in buckets, each of which is wider than the one below it by the factor `precision`."""

    def __init__(self, precision: float = _FINE) -> None:
        self._step = math.log(precision)
        self._counts = [0] * (math.ceil(math.log(HIGHEST_SECONDS / LOWEST_SECONDS) / self._step) + 1)
        self._highest = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        inside = min(max(seconds, LOWEST_SECONDS), HIGHEST_SECONDS)
        self._counts[int(math.log(inside / LOWEST_SECONDS) / self._step)] += 1
        self._highest = max(self._highest, seconds)

    def absorb(self, other: Histogram) -> None:
        """Add the durations of another histogram of the same precision."""
        self._counts = [own + more for own, more in zip(self._counts, other._counts, strict=True)]
        self._highest = max(self._highest, other._highest)

    def quantile(self, share: float) -> float | None:
        """The duration that `share` of the calls did not exceed, rounded up to a bucket."""
        rank = max(1, math.ceil(share * sum(self._counts)))
        seen = 0
        for number, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return min(self._upper(number), self._highest)
        return None

    def latency(self) -> Latency:
        """The quantiles that are shown."""
        rounded = {
            name: None if value is None else round(value, 5)
            for name, value in (
                ("median", self.quantile(0.5)),
                ("p95", self.quantile(0.95)),
                ("p99", self.quantile(0.99)),
                ("max", self._highest or None),
            )
        }
        return Latency(median=rounded["median"], p95=rounded["p95"], p99=rounded["p99"], max=rounded["max"])

    def bars(self, most: int) -> list[tuple[float, float, int]]:
        """At most `most` ranges from the lowest duration to the highest: from, to, and how many."""
        used = [number for number, count in enumerate(self._counts) if count]
        if not used:
            return []
        first, last = used[0], used[-1]
        width = math.ceil((last - first + 1) / most)
        return [
            (self._upper(start - 1), self._upper(start + width - 1), sum(self._counts[start : start + width]))
            for start in range(first, last + 1, width)
        ]

    def _upper(self, number: int) -> float:
        return LOWEST_SECONDS * math.exp(self._step * (number + 1))


@dataclass
class Tally:
    """The totals of a group of calls."""

    calls: int = 0
    failed: Counter[Kind] = field(default_factory=Counter)
    histogram: Histogram = field(default_factory=Histogram)
    sessions: int = 0
    sessions_lost: int = 0

    def add(self, result: Result, *, new_session: bool) -> None:
        """Count a call."""
        self.calls += 1
        self.sessions += new_session
        self.sessions_lost += result.session_lost
        if result.kind == OK:
            self.histogram.add(result.seconds)
        else:
            self.failed[result.kind] += 1

    def row(self) -> Row:
        """The totals as JSON."""
        return Row(
            calls=self.calls,
            failed=dict(self.failed.most_common()),
            latency=self.histogram.latency(),
            sessions=self.sessions,
            sessions_lost=self.sessions_lost,
        )


@dataclass
class _Part:
    ok: int = 0
    failed: int = 0
    histogram: Histogram = field(default_factory=lambda: Histogram(_COARSE))

    def absorb(self, other: _Part) -> None:
        self.ok += other.ok
        self.failed += other.failed
        self.histogram.absorb(other.histogram)


class Timeline:
    """The calls by the time when they ended, in at most `MOST_PERIODS` periods.

    Periods are 1 s at first. They become twice as long whenever there would be too many.
    """

    def __init__(self) -> None:
        self.width = 1.0
        self._parts: list[_Part] = []

    def add(self, result: Result, at: float) -> None:
        """Count a call that ended `at` seconds after the run's start."""
        while at >= self.width * MOST_PERIODS:
            self._halve()
        number = int(at / self.width)
        while len(self._parts) <= number:
            self._parts.append(_Part())
        part = self._parts[number]
        if result.kind == OK:
            part.ok += 1
            part.histogram.add(result.seconds)
        else:
            part.failed += 1

    def periods(self) -> list[Period]:
        """The periods from the first to the last one in which a call ended."""
        return [
            Period(
                start=number * self.width,
                ok=part.ok,
                failed=part.failed,
                latency=part.histogram.latency(),
            )
            for number, part in enumerate(self._parts)
        ]

    def _halve(self) -> None:
        for first, second in zip(self._parts[::2], self._parts[1::2], strict=False):
            first.absorb(second)
        self._parts = self._parts[::2]
        self.width *= 2


class Guard:
    """Decides when a run does harm: it reports overload, or most calls fail, for a stated time.

    A second is bad if `_OVERLOADED` of its calls were refused for overload or could not start, or if
    `_FAILED` of them failed. A second in which no call ended is neither good nor bad.
    """

    _OVERLOADED = 0.1
    _FAILED = 0.5
    _REFUSALS: tuple[Kind, ...] = ("overloaded", "not_started")

    def __init__(self, seconds: float) -> None:
        self._limit = seconds
        self._second = 0
        self._calls: Counter[str] = Counter()
        self._bad_since: float | None = None
        self._reason = ""

    def add(self, result: Result, at: float) -> str:
        """Count a call that ended `at` seconds after the start. Return why the run must stop; else empty."""
        second = int(at)
        if second != self._second:
            self._judge()
            self._second, self._calls = second, Counter()
        self._calls["calls"] += 1
        self._calls["refused"] += result.kind in self._REFUSALS
        self._calls["failed"] += result.kind != OK
        if self._bad_since is not None and at - self._bad_since >= self._limit:
            return f"{self._reason} for {self._limit:g} s"
        return ""

    def _judge(self) -> None:
        calls = self._calls["calls"]
        if not calls:
            return
        if self._calls["refused"] >= self._OVERLOADED * calls:
            self._reason = "the service reported overload"
        elif self._calls["failed"] >= self._FAILED * calls:
            self._reason = "at least half of the calls failed"
        else:
            self._bad_since = None
            return
        if self._bad_since is None:
            self._bad_since = float(self._second)


class Statistics:
    """Everything that a run measured. Not for several threads at the same time."""

    def __init__(self) -> None:
        self.total = Tally()
        self.generations: dict[str, Tally] = {}
        self.hosts: dict[str, Tally] = {}
        self.timeline = Timeline()
        self.reasons: dict[Kind, str] = {}
        self._last_session: dict[int, int] = {}

    def add(self, result: Result, at: float, *, generation: str, target: str, client: int) -> None:
        """Count a call that ended `at` seconds after the start. `client`: the number of its client."""
        new_session = bool(result.session) and self._last_session.get(client) != result.session
        if new_session:
            self._last_session[client] = result.session
        host = result.host or target
        if host not in self.hosts and len(self.hosts) >= MOST_HOSTS:
            host = OTHER_HOSTS
        for tally in (
            self.total,
            self.generations.setdefault(generation, Tally()),
            self.hosts.setdefault(host, Tally()),
        ):
            tally.add(result, new_session=new_session)
        self.timeline.add(result, at)
        if result.kind != OK:
            self.reasons.setdefault(result.kind, result.reason)
