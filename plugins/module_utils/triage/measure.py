"""One pass of triage over a host: the order of the checks and their deadlines."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import shape, workers
from ansible_collections.katago.fleet.plugins.module_utils.release import deployed
from ansible_collections.katago.fleet.plugins.module_utils.release.layout import Layout
from ansible_collections.katago.fleet.plugins.module_utils.service import checks as service_checks
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    endpoints,
    host_secrets,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage import (
    checks,
    facts,
    rules_speed,
    rules_traffic,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import Round

# Seconds that the MCP client needs after its own deadline to exit.
CLIENT_SECONDS = 20


@dataclass(frozen=True)
class Options:
    """The operator's parameters.

    `window`: seconds between the two scrapes. `probes`: the number of probe analyses. `visits`: of each
    probe. `patience`: the deadline of each slow check, in seconds. Every other check gets a third of it, an
    HTTP request a sixth. `without_baseline`: ignore the recorded baseline. `probe_again`: always send a
    second round of probes, instead of only after a slow one.
    """

    window: int
    probes: int
    visits: int
    patience: int
    without_baseline: bool
    probe_again: bool = False


@dataclass(frozen=True)
class Places:
    """The paths that the checks read.

    `releases`: the root of all releases. `config`, `state`: of the service. `history`: of releases.
    `package_log`: of dpkg. `written`: the paths whose file systems are checked.
    """

    releases: Path
    engines: Path
    config: Path
    state: Path
    history: Path
    baseline: Path
    proc: Path
    package_log: Path
    os_release: Path
    pci_devices: Path
    kernel_modules: Path
    written: tuple[str, ...]
    lock: Path = paths.HOST_LOCK
    unit_file: Path = paths.SERVICE_UNIT_FILE


def measure(options: Options, places: Places) -> dict[str, workers.Entry]:
    """Run all checks and return their entries, with the host's secrets redacted.

    The quick checks run first, then the checks that use much processor time, then the probes. So triage
    itself does not slow the probes down.
    """
    layout = Layout(places.releases)
    window, patience = options.window, options.patience
    quick, answer = patience / 3, patience / 6
    running = workers.Measuring()
    at = _endpoints(running, layout, answer)

    began = time.monotonic()
    early = _early(options, places, layout, at, answer)
    for name, check in early.items():
        running.start(name, check, quick)
    running.start("processes", lambda: checks.processes(window, places.proc, places.engines), window + quick)
    running.wait(early.keys(), at_most=answer)
    running.start("release", lambda: checks.release(layout), patience)
    running.start("config", lambda: checks.checked_config(layout, places.config, places.state), patience)
    running.wait({*early, "release", "config"}, at_most=max(window, quick))
    if running.entries.get("health", {}).get("value", {}).get("status") is None:
        running.start("probe", lambda: {"skipped": "/health does not answer"}, quick)
    else:
        # The client exits before this deadline, with the answers that it has received.
        running.start("probe", lambda: _probes(options, layout, at), patience + CLIENT_SECONDS)
    running.wait({"probe", "processes"}, at_most=window + patience + CLIENT_SECONDS)
    _probe_again(running, options, layout, at)
    seconds = time.monotonic() - began
    running.start("after", lambda: at.exposed(answer), quick)
    # Last, because the control node reads its own clock when the checks have finished.
    running.start("clock", time.time, quick)
    entries = running.results()
    entries.pop("bound_to", None)
    traffic = _traffic(
        entries.pop("before"), entries.pop("after"), seconds, quick, at.unserved, _own(entries)
    )
    shown: dict[str, workers.Entry] = host_secrets.redacted({**entries, "traffic": traffic})
    return shown


def _endpoints(running: workers.Measuring, layout: Layout, seconds: float) -> endpoints.Endpoints:
    """The addresses of the service; the defaults if its configuration cannot be read in time."""
    running.start("bound_to", lambda: asdict(endpoints.Endpoints.of_release(layout)), seconds)
    running.wait({"bound_to"}, at_most=seconds)
    entry = running.entries.pop("bound_to", {})
    return shape.record(endpoints.Endpoints, entry["value"]) if "value" in entry else endpoints.Endpoints()


def _early(
    options: Options, places: Places, layout: Layout, at: endpoints.Endpoints, answer: float
) -> dict[str, Callable[[], Any]]:
    """The checks that start first, all at the same time."""
    visits = service_checks.allowed(options.visits, checks.config(layout))
    recorded = None if options.without_baseline else places.baseline
    return {
        "before": lambda: at.exposed(answer),
        "health": lambda: checks.answer(at, "/health", answer),
        "ready": lambda: checks.answer(at, "/ready", answer),
        "unit": checks.unit,
        "undeployed": lambda: deployed.undeployed(layout, places.unit_file),
        "sandbox": lambda: checks.sandbox(layout),
        "max_visits": lambda: service_checks.configured_visits(checks.config(layout)),
        "ports": lambda: checks.ports(at, places.proc),
        "limits": lambda: checks.limits(layout, places.proc),
        "filesystems": lambda: checks.filesystems(places.written),
        "consumers": checks.consumers,
        "memory": lambda: checks.memory(places.proc),
        "pressure": lambda: checks.pressure(places.proc),
        "load": lambda: checks.load(places.proc),
        "gpu": lambda: checks.gpu(places.pci_devices, places.kernel_modules),
        "system": lambda: checks.system(places.os_release),
        "history": lambda: checks.history(layout, places.history),
        "baseline": lambda: checks.baseline(layout, visits, recorded=recorded, proc=places.proc),
        "packages": lambda: checks.packages(places.package_log),
        "last_lines": checks.last_lines,
        "journal": checks.journal,
        "journal_view": checks.journal_view,
        "engine_journal": checks.engine_journal,
        "security": checks.security,
        "lock": lambda: checks.lock(places.lock),
        "runs": checks.runs,
    }


def _probes(options: Options, layout: Layout, at: endpoints.Endpoints) -> Any:
    return checks.probes(at, layout, count=options.probes, visits=options.visits, seconds=options.patience)


def _probe_again(
    running: workers.Measuring, options: Options, layout: Layout, at: endpoints.Endpoints
) -> None:
    """Send a second round of probes a window later, if the first one alone would be a finding.

    A baseline always has two rounds, so that it records how much the speed varies.
    """
    measured = facts.read(
        {name: running.entries[name] for name in ("baseline", "probe") if name in running.entries}
    )
    probe, baseline = measured.values.get("probe"), measured.values.get("baseline")
    if probe is None or "skipped" in probe:
        return
    if not (options.probe_again or any(rules_speed.performance(baseline, probe))):
        return
    visits = probe["visits"]

    def again() -> Round:
        time.sleep(options.window)
        return checks.probe_round(at, layout, count=options.probes, visits=visits, seconds=options.patience)

    deadline = options.window + options.patience + CLIENT_SECONDS
    running.start("again", again, deadline)
    running.wait({"again"}, at_most=deadline)
    entry = running.entries.pop("again", {})
    # Not counted as failed analyses: that the client did not run is no finding about the service.
    missing: Round = {"asked": 0, "error": entry.get("unknown", "no answer"), "answers": []}
    running.entries["probe"]["value"]["again"] = entry.get("value", missing)


def _own(entries: Mapping[str, workers.Entry]) -> int:
    """The number of triage's own analyses that were answered, each after a lookup in the cache."""
    probe = facts.read({"probe": entries.get("probe", {})}).values.get("probe")
    return sum(status == "ok" for status in rules_traffic.own_statuses(probe))


def _traffic(
    before: workers.Entry, after: workers.Entry, seconds: float, deadline: float, unserved: str, own: int
) -> workers.Entry:
    """The traffic's entry, computed from the entries of two scrapes that are `seconds` apart."""
    for entry in (before, after):
        if "value" not in entry:
            return {**entry, "seconds": round(seconds, 2)}
    running = workers.Measuring()
    running.start(
        "traffic", lambda: checks.traffic(before["value"], after["value"], seconds, unserved, own), deadline
    )
    return {**running.results()["traffic"], "seconds": round(seconds, 2)}
