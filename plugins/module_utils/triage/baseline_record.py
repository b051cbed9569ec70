"""Decides whether the facts of a triage may be recorded as a baseline, and builds the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.triage import rules_speed
from ansible_collections.katago.fleet.plugins.module_utils.triage.baseline import Baseline
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import (
    WINDOW_MINUTES,
    Answer,
    Facts,
    Probes,
    TimedAnswer,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage.verdict import Verdict


def problems(verdict: Verdict, facts: Facts, *, least_uptime: float) -> list[str]:
    """Why the facts must not become a baseline: the host is not healthy, or not warmed up. [] if they may.

    `least_uptime`: of the service, in seconds.
    """
    if verdict.verdict != "healthy":
        reasons = [f"{each.level} {each.rule}: {each.measured}" for each in verdict.reasons]
        return reasons or [f"the host is {verdict.verdict}"]
    values = facts.values
    reasons = [
        f"{name} is unknown: {facts.why(name)}"
        for name in ("health", "engine_journal", "probe", "baseline")
        if name not in values
    ]
    if "health" in values:
        reasons += _cold(values["health"], least_uptime)
    if "engine_journal" in values and (failures := values["engine_journal"]["failures"]):
        reasons.append(f"the engine failed {failures} times in the last {WINDOW_MINUTES} minutes")
    probe = values.get("probe")
    if probe is not None and "skipped" in probe:
        reasons.append(f"no probe analysis was sent: {probe['skipped']}")
    elif probe is not None and "baseline" in values:
        if why := rules_speed.fewer_visits(probe, values["baseline"]):
            reasons.append(why)
        elif rules_speed.median_seconds(_answers(probe)) is None:
            reasons.append("half of the probes or more failed, so there is no median")
    return reasons


def make(facts: Facts, *, now: datetime) -> Baseline:
    """Build the baseline from facts without `problems`. Raises ValueError for other facts."""
    values = facts.values
    probe, comparable = values.get("probe"), values.get("baseline")
    if probe is None or comparable is None or "skipped" in probe:
        raise ValueError("the facts have no probes or no baseline identity")
    seconds = [answer["seconds"] for answer in _answers(probe)]
    median = rules_speed.median_seconds(_answers(probe))
    if median is None:
        raise ValueError("half of the probes or more failed, so there is no median")
    return {
        "at": timestamps.stamp(now),
        "identity": comparable["identity"],
        "release": comparable["manifest"]["name"],
        "version": comparable["manifest"]["version"],
        "engine_version": comparable["manifest"]["engine_version"],
        "network": comparable["network"],
        "machine": comparable["machine"],
        "visits": comparable["visits"],
        "probes": len(seconds),
        "median_seconds": median,
        "fastest_seconds": min(seconds),
        "slowest_seconds": max(seconds),
        "spread_seconds": round(rules_speed.spread_seconds(seconds), 6),
        "visits_per_second": round(comparable["visits"] / median, 1),
    }


def _answers(probe: Probes) -> list[TimedAnswer]:
    """The answers of all rounds: a baseline also records how much the speed varies from round to round."""
    return [answer for answers in rules_speed.rounds(probe) for answer in answers]


def _cold(health: Answer, least_uptime: float) -> list[str]:
    """Why the service is not warmed up, by its answer to /health."""
    problems = []
    uptime, engine = health["body"].get("uptimeSeconds"), health["body"].get("engine")
    if isinstance(uptime, bool) or not isinstance(uptime, (int, float)) or uptime < least_uptime:
        problems.append(f"the service has been up for {uptime} s; wait until it is {least_uptime:g} s")
    state = engine.get("state") if isinstance(engine, Mapping) else None
    if state != "ready":
        problems.append(f"the engine's state is {state}; wait until it is ready")
    return problems
