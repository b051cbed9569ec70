"""The recording rules: rates that several alerts use, and the fleet's objectives with their budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BURN_WINDOWS = ("5m", "30m", "1h", "6h", "3d", "30d")
"""Windows over which misses of an objective are averaged: pairs for burn rates, and the budget's period."""
BUDGET_WINDOW = BURN_WINDOWS[-1]

_FAILED = 'status=~"unavailable|timeout|error"'
_JUDGED = 'status!~"invalid|rejected"'
_ANALYSES = 'tool="analyzePosition"'


@dataclass(frozen=True)
class Recording:
    """A series that Prometheus computes at every evaluation."""

    name: str
    expression: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Objective:
    """A promise to the clients of the fleet: the share of good events in `BUDGET_WINDOW`.

    `counted`, `missed`: the rates in events per second of all events, and of those that were not good.
    """

    name: str
    share: float
    counted: str
    missed: str


OBJECTIVES = (
    Objective(
        "availability",
        0.995,
        counted=f"sum(rate(katago_requests_total{{{_JUDGED}}}[5m]))",
        missed=f"sum(rate(katago_requests_total{{{_FAILED}}}[5m]))",
    ),
    Objective(
        "latency",
        0.95,
        counted=f"sum(rate(katago_analysis_duration_seconds_count{{{_ANALYSES}}}[5m]))",
        missed=f"sum(rate(katago_analysis_duration_seconds_count{{{_ANALYSES}}}[5m]))"
        f' - sum(rate(katago_analysis_duration_seconds_bucket{{{_ANALYSES},le="10.0"}}[5m]))',
    ),
)
"""Availability: calls that the service answered, without those that were the caller's fault or over a limit.
Latency: analyses of one position that took at most 10 s."""

_RATES = (
    Recording(
        "instance:katago_requests_judged:rate5m",
        f"sum by (instance) (rate(katago_requests_total{{{_JUDGED}}}[5m]))",
    ),
    Recording(
        "instance:katago_requests_failed:rate5m",
        f"sum by (instance) (rate(katago_requests_total{{{_FAILED}}}[5m]))",
    ),
    # Without requests the ratio has no value: no traffic is neither healthy nor unhealthy.
    Recording(
        "instance:katago_requests_failed:ratio5m",
        "instance:katago_requests_failed:rate5m / (instance:katago_requests_judged:rate5m > 0)",
    ),
    Recording(
        "instance:katago_analysis_seconds:p95_5m",
        f"histogram_quantile(0.95, rate(katago_analysis_duration_seconds_bucket{{{_ANALYSES}}}[5m]))",
    ),
    Recording(
        "instance:katago_cache_lookups:increase1h",
        "increase(katago_cache_hits_total[1h]) + increase(katago_cache_misses_total[1h])",
    ),
    Recording(
        "instance:katago_cache_hits:ratio1h",
        "increase(katago_cache_hits_total[1h]) / (instance:katago_cache_lookups:increase1h > 0)",
    ),
    Recording(
        "instance:certificate_expiry:seconds",
        "min by (instance) (probe_ssl_earliest_cert_expiry"
        " or katago_mcp_tls_certificate_expires_timestamp_seconds > 0"
        " or katago_host_certificate_expires_timestamp_seconds > 0) - time()",
    ),
)


def _objective(objective: Objective) -> tuple[Recording, ...]:
    labels = {"objective": objective.name}
    return (
        Recording("katago:objective_budget:share", f"vector({1 - objective.share:.6g})", labels),
        Recording("katago:objective_counted:rate5m", objective.counted, labels),
        Recording("katago:objective_missed:rate5m", objective.missed, labels),
    )


_BUDGETS = (
    *(
        Recording(
            f"katago:objective_missed:ratio{window}",
            f"avg_over_time(katago:objective_missed:rate5m[{window}])"
            f" / (avg_over_time(katago:objective_counted:rate5m[{window}]) > 0)",
        )
        for window in BURN_WINDOWS
    ),
    Recording(
        "katago:objective_budget:left",
        f"1 - katago:objective_missed:ratio{BUDGET_WINDOW} / katago:objective_budget:share",
    ),
)

RECORDINGS = (*_RATES, *(each for objective in OBJECTIVES for each in _objective(objective)), *_BUDGETS)
"""All recording rules, in the order in which they are evaluated: later ones use earlier ones."""


def needed(expression: str) -> tuple[Recording, ...]:
    """The recordings that an expression uses, directly or through others, in order."""
    used: list[Recording] = []
    for recording in reversed(RECORDINGS):
        if any(recording.name in text for text in (expression, *(each.expression for each in used))):
            used.append(recording)
    return tuple(reversed(used))
