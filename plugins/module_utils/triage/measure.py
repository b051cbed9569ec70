"""One pass of triage over a host: the order of the checks and their deadlines."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import shape, workers
from ansible_collections.katago.fleet.plugins.module_utils.release.layout import Layout
from ansible_collections.katago.fleet.plugins.module_utils.service import checks as service_checks
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    config_check,
    endpoints,
    host_secrets,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage import checks

# Seconds that the MCP client needs after its own deadline to exit.
CLIENT_SECONDS = 20


@dataclass(frozen=True)
class Options:
    """The operator's parameters.

    `window`: seconds between the two scrapes. `probes`: the number of probe analyses. `visits`: of each
    probe. `patience`: the deadline of each slow check, in seconds. Every other check gets a third of it, an
    HTTP request a sixth. `without_baseline`: ignore the recorded baseline.
    """

    window: int
    probes: int
    visits: int
    patience: int
    without_baseline: bool


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
    running.start("config", lambda: config_check.checked(layout, places.config, places.state), patience)
    running.wait({*early, "release", "config"}, at_most=max(window, quick))
    if running.entries.get("health", {}).get("value", {}).get("status") is None:
        running.start("probe", lambda: {"skipped": "/health does not answer"}, quick)
    else:
        # The client exits before this deadline, with the answers that it has received.
        running.start("probe", lambda: _probes(options, layout, at), patience + CLIENT_SECONDS)
    running.wait({"probe", "processes"}, at_most=window + patience + CLIENT_SECONDS)
    seconds = time.monotonic() - began
    running.start("after", lambda: at.exposed(answer), quick)
    entries = running.results()
    entries.pop("bound_to", None)
    traffic = _traffic(entries.pop("before"), entries.pop("after"), seconds, quick)
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
        "clock": time.time,
        "history": lambda: checks.history(layout, places.history),
        "baseline": lambda: checks.baseline(layout, visits, recorded=recorded, proc=places.proc),
        "packages": lambda: checks.packages(places.package_log),
        "last_lines": checks.last_lines,
        "journal": checks.journal,
        "engine_journal": checks.engine_journal,
        "security": checks.security,
        "runs": checks.runs,
    }


def _probes(options: Options, layout: Layout, at: endpoints.Endpoints) -> Any:
    return checks.probes(at, layout, count=options.probes, visits=options.visits, seconds=options.patience)


def _traffic(before: workers.Entry, after: workers.Entry, seconds: float, deadline: float) -> workers.Entry:
    """The traffic's entry, computed from the entries of two scrapes that are `seconds` apart."""
    for entry in (before, after):
        if "value" not in entry:
            return {**entry, "seconds": round(seconds, 2)}
    running = workers.Measuring()
    running.start("traffic", lambda: checks.traffic(before["value"], after["value"], seconds), deadline)
    return {**running.results()["traffic"], "seconds": round(seconds, 2)}
