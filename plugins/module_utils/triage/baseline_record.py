"""Which facts of triage may become a baseline, and the baseline that is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.triage import rules_speed
from ansible_collections.katago.fleet.plugins.module_utils.triage.baseline import Baseline
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import WINDOW_MINUTES, Answer, Facts
from ansible_collections.katago.fleet.plugins.module_utils.triage.verdict import Verdict


def problems(verdict: Verdict, facts: Facts, *, least_uptime: float) -> list[str]:
    """Why what was measured is no baseline: not healthy, or not warmed up; [] when it is one.

    `least_uptime` of the service in seconds.
    """
    if verdict.verdict != "healthy":
        found = [f"{each.level} {each.rule}: {each.measured}" for each in verdict.reasons]
        return found or [f"the host is {verdict.verdict}"]
    values = facts.values
    found = [
        f"{name} is unknown: {facts.why(name)}"
        for name in ("health", "engine_journal", "probe", "baseline")
        if name not in values
    ]
    if "health" in values:
        found += _cold(values["health"], least_uptime)
    if "engine_journal" in values and (failures := values["engine_journal"]["failures"]):
        found.append(f"its engine failed {failures} times in the last {WINDOW_MINUTES} minutes")
    probe = values.get("probe")
    if probe is not None and "skipped" in probe:
        found.append(f"no analysis was asked for, since {probe['skipped']}")
    elif probe is not None and "baseline" in values:
        if why := rules_speed.fewer_visits(probe, values["baseline"]):
            found.append(why)
        elif rules_speed.median_seconds(probe["answers"]) is None:
            found.append("half of the probes or more have no time that can be compared")
    return found


def make(facts: Facts, *, now: datetime) -> Baseline:
    """The record of a host's speed, from facts without `problems`. Raises ValueError for others."""
    values = facts.values
    probe, comparable = values.get("probe"), values.get("baseline")
    if probe is None or comparable is None or "skipped" in probe:
        raise ValueError("nothing was measured that a baseline could be made of")
    seconds = [answer["seconds"] for answer in probe["answers"]]
    median = rules_speed.median_seconds(probe["answers"])
    if median is None:
        raise ValueError("the probes that were measured have no median")
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
        "visits_per_second": round(comparable["visits"] / median, 1),
    }


def _cold(health: Answer, least_uptime: float) -> list[str]:
    """Why the service is not warmed up, by its own account."""
    found = []
    uptime, engine = health["body"].get("uptimeSeconds"), health["body"].get("engine")
    if isinstance(uptime, bool) or not isinstance(uptime, (int, float)) or uptime < least_uptime:
        found.append(f"the service is up for {uptime} s, and must be for {least_uptime:g} s")
    state = engine.get("state") if isinstance(engine, Mapping) else None
    if state != "ready":
        found.append(f"its engine is {state}, and must be ready")
    return found
