"""What a service did between two scrapes of its metrics: requests by status, latencies, cache hits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.katago.fleet.plugins.module_utils.common.prometheus import Scrape

# Statuses of the service's own failures, and statuses that are the caller's fault [server/README.md, Errors].
FAILED = ("unavailable", "timeout", "error")
NOT_JUDGED = ("invalid", "rejected")


@dataclass(frozen=True)
class Window:
    """Two scrapes of one service."""

    before: Scrape
    after: Scrape

    @property
    def restarted(self) -> bool:
        """Whether the service was restarted in between, which reset all counters to 0."""
        name = "process_start_time_seconds"
        return self.before.value(name) != self.after.value(name)

    def rise(self, name: str, **labels: str) -> float | None:
        """By how much a counter rose, also across a reset; None if it is missing or NaN."""
        before, after = self.before.value(name, **labels), self.after.value(name, **labels)
        if after is None:
            return None
        if self.restarted or before is None or after < before:
            return after
        return after - before

    def requests(self) -> dict[str, float] | None:
        """The number of tool calls by status; None if a series is missing or NaN."""
        series = self.after.labels("katago_requests_total")
        if not series:
            return None
        counts: dict[str, float] = {}
        for labels in series:
            rise = self.rise("katago_requests_total", **labels)
            if rise is None:
                return None
            counts[labels["status"]] = counts.get(labels["status"], 0) + rise
        return counts

    def refused(self) -> dict[str, float] | None:
        """The number of refused HTTP requests by reason; None if a series is missing or NaN."""
        name = "katago_mcp_http_refused_total"
        rises = {labels["reason"]: self.rise(name, **labels) for labels in self.after.labels(name)}
        known = {reason: rise for reason, rise in rises.items() if rise is not None}
        return known if known and len(known) == len(rises) else None

    def engine_failures(self) -> float | None:
        """The number of engine restarts that were not requested; None if unknown."""
        return _total(
            [
                self.rise("katago_engine_restarts_total", **labels)
                for labels in self.after.labels("katago_engine_restarts_total")
                if labels.get("reason") != "requested"
            ]
        )

    def latencies(self, quantiles: Sequence[float]) -> list[float] | None:
        """Quantiles (0 to 1) of analysis calls in seconds, interpolated as Prometheus does.

        None if no analysis finished in the window: no data is not a latency of 0.
        """
        name = "katago_analysis_duration_seconds_bucket"
        buckets: dict[float, float] = {}
        for labels in self.after.labels(name):
            rise = self.rise(name, **labels)
            if rise is None:
                return None
            bound = float(labels["le"])
            buckets[bound] = buckets.get(bound, 0) + rise
        return interpolated(buckets, quantiles)

    def analyses(self) -> float | None:
        """The number of completed analysis calls; 0 if there never was one, None if a series is NaN."""
        name = "katago_analysis_duration_seconds_count"
        rises = [self.rise(name, **labels) for labels in self.after.labels(name)]
        return _total(rises) if rises else 0

    def hit_rate(self, own: int = 0) -> float | None:
        """The share of the clients' cache lookups that were hits, 0 to 1; None without one.

        `own`: the number of our probes in the window. Servers of 0.2.0 count them as misses.
        """
        hits, misses = self.rise("katago_cache_hits_total"), self.rise("katago_cache_misses_total")
        if hits is None or misses is None:
            return None
        if self.after.value("katago_cache_probe_lookups_total") is None:
            misses = max(0.0, misses - own)
        if hits + misses == 0:
            return None
        return hits / (hits + misses)


def interpolated(buckets: Mapping[float, float], quantiles: Sequence[float]) -> list[float] | None:
    """Quantiles (0 to 1) of a histogram, as Prometheus interpolates them; None if it is empty.

    `buckets`: upper bound to cumulative count.
    """
    bounds = sorted(buckets)
    if not bounds or buckets[bounds[-1]] <= 0:
        return None
    return [_quantile(bounds, buckets, quantile) for quantile in quantiles]


def judged(requests: dict[str, float]) -> float:
    """The number of requests that count: all except the caller's own errors and those over a limit."""
    return sum(count for status, count in requests.items() if status not in NOT_JUDGED)


def failed(requests: dict[str, float]) -> float:
    """The number of requests that failed because of the service."""
    return sum(requests.get(status, 0) for status in FAILED)


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _quantile(bounds: Sequence[float], buckets: Mapping[float, float], quantile: float) -> float:
    rank = quantile * buckets[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if math.isinf(bound):
                return lower
            within = buckets[bound] - below
            return lower + (bound - lower) * ((rank - below) / within if within else 1.0)
        lower, below = bound, buckets[bound]
    return lower
