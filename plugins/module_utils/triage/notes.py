"""What a verdict says besides its reasons: recent changes, and notes that decide nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.triage import (
    proposals,
    rules_host,
    rules_speed,
    rules_traffic,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import PACKAGE_HOURS, Facts, Processes

SKEW_SECONDS = 30
_LONGEST_CHANGE = 200
_PACKAGES_SHOWN = 5
_MEMORY_CONSUMERS_SHOWN = 3


def changes(facts: Facts) -> Iterator[str]:
    """What was changed on the host lately: security mode, releases, starts, drop-ins, limits, packages."""
    values = facts.values
    if "security" in values and (mode := values["security"]["mode"]):
        yield f"{mode['since']} security mode by {mode['who']} ({mode['why']})"[:_LONGEST_CHANGE]
    if "history" in values:
        for record in values["history"]["records"]:
            what = f"found {record['verdict']}" if record["verdict"] else "switched to"
            line = f"{record['at']} {what} {record['release']} by {record['who']} ({record['why']})"
            yield line[:_LONGEST_CHANGE]
    if "unit" in values:
        unit = values["unit"]
        if unit["started_at"] is not None:
            at = timestamps.stamp(unit["started_at"])
            yield f"{at} the service was started; systemd restarted it {unit['restarts']} times"
        for path in unit["drop_ins"]:
            yield f"the unit is changed by {path}"
    if "health" in values and (overlay := values["health"]["body"].get("overlay")):
        if isinstance(overlay, Mapping):
            words = ", ".join(f"{key} {value}" for key, value in overlay.items())
            yield f"an overlay is in effect: {words}"
        else:
            yield "an overlay is in effect, and /health does not say which"
    if "packages" in values and (packages := values["packages"]):
        left = len(packages) - _PACKAGES_SHOWN
        more = f" and {left} more" if left > 0 else ""
        names = ", ".join(packages[:_PACKAGES_SHOWN])
        yield f"packages installed or upgraded in the last {PACKAGE_HOURS} hours: {names}{more}"


def notes(facts: Facts) -> Iterator[str]:
    """A system that was not tested, traffic, pressure that is not accounted, who uses much of the host."""
    values = facts.values
    if "system" in values and (warning := values["system"]["untested"]):
        yield warning
    yield _traffic(facts)
    if "pressure" in values and (absent := values["pressure"].get("absent")):
        yield f"pressure is not accounted here ({absent})"
    if "processes" in values:
        for hog in proposals.hogs(values["processes"]):
            yield f"{hog['unit']} ({hog['name']}) takes {hog['cpu_percent']:g} % of a processor"
        if _memory_is_short(facts):
            for unit, name, size in _largest(values["processes"])[:_MEMORY_CONSUMERS_SHOWN]:
                yield f"{unit} ({name}) holds {size / (1 << 20):.0f} MB of memory"


def gpu(facts: Facts) -> Iterator[str]:
    """Each card's temperature and memory, what nvidia-smi warns of, and errors that need nothing."""
    found = facts.values.get("gpu")
    if found is None:
        return
    for card in found["cards"]:
        temperature = "unknown" if card["temperature"] is None else f"{card['temperature']} °C"
        memory = f"{card['memory_used_mb']} of {card['memory_mb']} MB"
        yield f"{card['name']}: {temperature}, {memory} of its memory used, driver {card['driver']}"
    yield from found["notes"]
    for each in found["conditions"]:
        if each["temperature"] is None or each["slow_at"] is None:
            yield f"{each['address']} does not tell at what temperature it slows down, or how warm it is"
    for xid in found["xids"]:
        if not xid["fatal"]:
            yield f"Xid {xid['code']} of {xid['device']}, {xid['count']} times: {xid['text']}"


def performance(facts: Facts) -> Iterator[str]:
    """How the probes compare with the baseline, or why that is not known."""
    baseline, probe = facts.values.get("baseline"), facts.values.get("probe")
    if baseline is None:
        yield from rules_speed.note(facts.why("baseline"), None)
        return
    why = rules_speed.incomparable(baseline)
    if probe is None or "skipped" in probe:
        yield from rules_speed.note(why, None)
        return
    why = why or rules_speed.fewer_visits(probe, baseline)
    yield from rules_speed.note(why, rules_speed.compared(baseline, probe["answers"]))


def skew(facts: Facts, now: datetime) -> Iterator[str]:
    """The host's clock differs from this machine's."""
    if "clock" in facts.values:
        difference = facts.values["clock"] - now.timestamp()
        # Measured while the checks ran, so a few seconds behind.
        if abs(difference) > SKEW_SECONDS:
            yield f"its clock differs from this machine's by {difference:+.0f} s"


def _traffic(facts: Facts) -> str:
    """The requests of others, how fast and from where analyses were answered; what is not known, and why."""
    if "traffic" not in facts.values:
        return f"requests, latency and hit rate unknown: {facts.why('traffic')}"
    traffic = facts.values["traffic"]
    if not traffic["served"]:
        return f"requests, latency and hit rate unknown: /metrics {traffic['why']}"
    if traffic["requests"] is None:
        words = "requests unknown: katago_requests_total is missing or NaN"
    else:
        own = rules_traffic.own_statuses(facts.values.get("probe"))
        judged, failed = rules_traffic.of_others(traffic["requests"], own)
        words = f"{judged:g} requests of others in {traffic['seconds']:.0f} s, {failed:g} failed"
    if latency := traffic["latency_seconds"]:
        words += f"; analyses p50 {latency['p50']:.2f} s, p95 {latency['p95']:.2f} s"
    elif traffic["analyses"] is None:
        words += "; latency unknown: katago_analysis_duration_seconds is NaN"
    else:
        words += "; latency unknown: no analyses in the window"
    if traffic["hit_rate"] is None:
        return f"{words}; hit rate unknown: the cache was not asked in the window"
    return f"{words}; {100 * traffic['hit_rate']:.0f} % from the cache"


def _memory_is_short(facts: Facts) -> bool:
    values = facts.values
    short = "memory" in values and any(rules_host.memory(values["memory"]))
    return short or ("pressure" in values and any(rules_host.pressure(values["pressure"])))


def _largest(processes: Processes) -> list[tuple[str, str, int]]:
    """The units with the most memory, the service's own among them: name, its largest process, bytes."""
    units = [(each["unit"], each["largest"], each["memory_bytes"]) for each in processes["others"]]
    if own := processes["unit"]:
        largest = max(own["processes"], key=lambda each: each["memory_bytes"])
        units.append((own["unit"], largest["name"], own["memory_bytes"]))
    return sorted(units, key=lambda each: -each[2])
