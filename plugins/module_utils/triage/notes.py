"""The additional texts of a verdict: recent changes, and notes. They do not affect the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.triage import (
    at_work,
    proposals,
    rules_host,
    rules_load_balancer,
    rules_speed,
    rules_traffic,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import (
    PACKAGE_HOURS,
    WINDOW_MINUTES,
    Facts,
    Processes,
    is_only_load_balancer,
)

_RELEASE_VERDICTS = {"good": "validated", "bad": "rejected"}
SKEW_SECONDS = 30
_LONGEST_CHANGE = 200
_PACKAGES_SHOWN = 5
_MEMORY_CONSUMERS_SHOWN = 3


def changes(facts: Facts) -> Iterator[str]:
    """Recent changes on the host: security mode, releases, starts, drop-ins, limits, packages."""
    values = facts.values
    if "security" in values and (mode := values["security"]["mode"]):
        yield f"{mode['since']} security mode set by {mode['who']} ({mode['why']})"[:_LONGEST_CHANGE]
    if "history" in values:
        for record in values["history"]["records"]:
            verdict = record["verdict"]
            action = _RELEASE_VERDICTS.get(verdict, verdict) if verdict else "switched to"
            line = f"{record['at']} {action} {record['release']} by {record['who']} ({record['why']})"
            yield line[:_LONGEST_CHANGE]
    if "unit" in values:
        unit = values["unit"]
        if unit["started_at"] is not None:
            at = timestamps.stamp(unit["started_at"])
            yield f"{at} the service was started; systemd restarted it {unit['restarts']} times"
        for path in unit["drop_ins"]:
            yield f"a drop-in changes the unit: {path}"
    if "haproxy" in values and values["haproxy"]["started_at"] is not None:
        at = timestamps.stamp(values["haproxy"]["started_at"])
        yield f"{at} HAProxy was started; systemd restarted it {values['haproxy']['restarts']} times"
    if "health" in values and (overlay := values["health"]["body"].get("overlay")):
        if isinstance(overlay, Mapping):
            limits = ", ".join(f"{key} {value}" for key, value in overlay.items())
            yield f"an override of the limits is in effect: {limits}"
        else:
            yield "an override of the limits is in effect, but /health does not report its values"
    if "packages" in values and (packages := values["packages"]):
        left = len(packages) - _PACKAGES_SHOWN
        more = f" and {left} more" if left > 0 else ""
        names = ", ".join(packages[:_PACKAGES_SHOWN])
        yield f"packages installed or upgraded in the last {PACKAGE_HOURS} hours: {names}{more}"


def notes(facts: Facts) -> Iterator[str]:
    """Notes on an untested system, the traffic, missing pressure figures, and the largest consumers."""
    values = facts.values
    if "system" in values and (warning := values["system"]["untested"]):
        yield warning
    if not is_only_load_balancer(facts):
        yield _traffic(facts)
    if "journal_view" in values:
        for gap in values["journal_view"]["gaps"]:
            yield f"the journal does not show all of the last {WINDOW_MINUTES} minutes: {gap}"
    if "packages" not in values and "packages" in facts.unknown:
        yield f"installed and upgraded packages are unknown: {facts.why('packages')}"
    if "pressure" in values and (absent := values["pressure"].get("absent")):
        yield f"the pressure on CPU, memory and I/O is unknown: the kernel does not report it ({absent})"
    if "processes" in values:
        for hog in proposals.hogs(values["processes"], at_work.is_at_work(values.get("lock"))):
            yield f"{hog['unit']} ({hog['name']}) uses {hog['cpu_percent']:g} % of one processor"
        if _memory_is_short(facts):
            for unit, name, size in _largest(values["processes"])[:_MEMORY_CONSUMERS_SHOWN]:
                yield f"{unit} ({name}) uses {size / (1 << 20):.0f} MB of memory"


def gpu(facts: Facts) -> Iterator[str]:
    """Each GPU's temperature and memory, warnings of nvidia-smi, and errors that need no action."""
    status = facts.values.get("gpu")
    if status is None:
        return
    for card in status["cards"]:
        temperature = "unknown" if card["temperature"] is None else f"{card['temperature']} °C"
        memory = f"{card['memory_used_mb']} of {card['memory_mb']} MB"
        yield f"{card['name']}: {temperature}, {memory} of memory used, driver {card['driver']}"
    yield from status["notes"]
    for each in status["conditions"]:
        if each["temperature"] is None or each["slow_at"] is None:
            yield f"GPU {each['address']} does not report its temperature or its throttling limit"
    for xid in status["xids"]:
        if not xid["fatal"]:
            yield f"GPU {xid['device']} reported Xid {xid['code']} {xid['count']} times: {xid['text']}"


def load_balancer(facts: Facts) -> Iterator[str]:
    """How many hosts the load balancer sends requests to, and whether it has the virtual address."""
    values = facts.values
    if "rotation" in values and (servers := values["rotation"]["servers"]) is not None:
        serving = sorted(name for name, each in servers.items() if rules_load_balancer.serves(each))
        yield f"{len(serving)} of {len(servers)} hosts get requests: {', '.join(serving) or 'none'}"
    if shared := values.get("virtual_address"):
        verb = {"always": "has", "never": "does not have", "sometimes": "got or lost"}[shared["held"]]
        yield f"this load balancer {verb} the virtual address {shared['address']}"


def performance(facts: Facts) -> Iterator[str]:
    """How the probes compare with the baseline, or why this is unknown."""
    baseline, probe = facts.values.get("baseline"), facts.values.get("probe")
    if baseline is None:
        yield from rules_speed.note(facts.why("baseline"), None)
        return
    why = rules_speed.incomparable(baseline)
    if probe is None or "skipped" in probe:
        yield from rules_speed.note(why, None)
        return
    why = why or rules_speed.fewer_visits(probe, baseline)
    if not why and "again" in probe and not probe["again"]["answers"]:
        why = f"the first probes were slow, and there were no others to confirm it: {probe['again']['error']}"
    yield from rules_speed.note(why, baseline, *rules_speed.rounds(probe))


def skew(facts: Facts, now: datetime) -> Iterator[str]:
    """A note if the host's clock differs from the control node's."""
    if "clock" in facts.values:
        difference = facts.values["clock"] - now.timestamp()
        # The host's time was read at the end of the checks, so it is a few seconds behind.
        if abs(difference) > SKEW_SECONDS:
            yield f"the host's clock differs from the control node's by {difference:+.0f} s"


def _traffic(facts: Facts) -> str:
    """Client requests, latency and cache hit rate in one line; for each that is unknown, the reason."""
    if "traffic" not in facts.values:
        return f"client requests, latency and cache hit rate unknown: {facts.why('traffic')}"
    traffic = facts.values["traffic"]
    if not traffic["served"]:
        return f"client requests, latency and cache hit rate unknown: /metrics {traffic['why']}"
    if traffic["requests"] is None:
        line = "client requests unknown: katago_requests_total is missing or NaN"
    else:
        own = rules_traffic.own_statuses(facts.values.get("probe"))
        judged, failed = rules_traffic.of_others(traffic["requests"], own)
        line = f"{judged:g} client requests in {traffic['seconds']:.0f} s, {failed:g} failed"
    if latency := traffic["latency_seconds"]:
        line += f"; analyses p50 {latency['p50']:.2f} s, p95 {latency['p95']:.2f} s"
    elif traffic["analyses"] is None:
        line += "; latency unknown: katago_analysis_duration_seconds is NaN"
    else:
        line += "; latency unknown: no analyses in the window"
    if traffic["hit_rate"] is None:
        return f"{line}; cache hit rate unknown: no cache lookups in the window"
    return f"{line}; cache hit rate {100 * traffic['hit_rate']:.0f} %"


def _memory_is_short(facts: Facts) -> bool:
    values = facts.values
    short = "memory" in values and any(rules_host.memory(values["memory"]))
    return short or ("pressure" in values and any(rules_host.pressure(values["pressure"])))


def _largest(processes: Processes) -> list[tuple[str, str, int]]:
    """The units by memory, largest first, including the service's own: name, its largest process, bytes."""
    units = [(each["unit"], each["largest"], each["memory_bytes"]) for each in processes["others"]]
    if own := processes["unit"]:
        largest = max(own["processes"], key=lambda each: each["memory_bytes"])
        units.append((own["unit"], largest["name"], own["memory_bytes"]))
    return sorted(units, key=lambda each: -each[2])
