"""A sample of a service during the soak of a rollout: its counters, and known positions on request."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import SystemRandom
from typing import Any, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import digest, procfs, prometheus, shape
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import admin, endpoints, overlay, unit
from ansible_collections.katago.fleet.plugins.module_utils.service import checks as service_checks
from ansible_collections.katago.fleet.plugins.module_utils.triage import baseline as triage_baseline

VISITS = 32
"""Visits of a known position, as many as triage requests."""


class Probe(TypedDict):
    """The answer to a known position: its duration, what is wrong with it, and the status of its call."""

    seconds: float
    problems: list[str]
    status: str


class Counters(TypedDict):
    """The counters of a service; None without metrics.

    `started`: when the process started, in seconds since the epoch. `requests`: tool calls by status since
    then. `durations`: analyses by the upper bound of their bucket, cumulative.
    """

    started: float | None
    requests: dict[str, float] | None
    durations: dict[str, float] | None


class Sample(Counters):
    """A sample of one host.

    `release`: the release of the running process; None if there is none. `workload`: the digest of what a
    known position costs by design; empty if it is unknown. `limits`: what clients may request now, such
    as `maxVisits`; None if the release does not set it. `baseline`: the recorded median seconds of a probe;
    None if there is none to compare with.
    """

    release: str | None
    workload: str
    limits: dict[str, float | None]
    probes: list[Probe]
    baseline: float | None


def parse(value: object) -> Sample:
    """Check a sample that a host returned. Raises ShapeError."""
    return shape.typed(Sample, value, "the sample")


def take(
    layout: release_layout.Layout, recorded: Path, machine: Path, *, probes: int, deadline: float
) -> Sample:
    """Request `probes` known positions, then read the counters.

    `recorded`: the file of the baseline. `machine`: the directory of procfs. `deadline`: seconds for all
    positions together. What cannot be read is None; a position without an answer has a problem.
    """
    at = endpoints.Endpoints.of_release(layout)
    answers: list[Probe] = []
    baseline, cost = None, ""
    limits: dict[str, float | None] = {}
    try:
        config = admin.read_config(layout.current)
        health = at.probe("/health")
        visits = service_checks.allowed(VISITS, config, health)
        baseline = comparable(layout, recorded, machine, visits)
        cost = workload(release_layout.manifest(layout.current), visits, procfs.machine(machine))
        limits = limits_of(config, health[1] if health else {})
        answers = ask(at, layout, visits, probes, deadline) if probes else []
    except (OSError, ValueError) as error:
        answers = [_unanswered(f"the configuration cannot be used: {error}", 0)] * probes
    return {
        "release": _running(),
        "workload": cost,
        "limits": limits,
        "probes": answers,
        "baseline": baseline,
        **counters(at.scrape()),
    }


def ask(
    at: endpoints.Endpoints, layout: release_layout.Layout, visits: int, number: int, deadline: float
) -> list[Probe]:
    """Request known positions that no cache has."""
    variants = [SystemRandom().randrange(service_checks.VARIANTS) for _ in range(number)]
    command = layout.current / "venv" / "bin" / "katago-mcp"
    answers = at.call(command, service_checks.probes(visits, variants), deadline)
    return probes_of(answers, number, visits, deadline)


def probes_of(answers: Mapping[str, Any], number: int, visits: int, deadline: float) -> list[Probe]:
    """The answers of the client as probes. One that is missing has the client's error as its problem."""
    results: Sequence[Mapping[str, Any]] = answers.get("results") or []
    answered: list[Probe] = [
        {
            "seconds": float(result["seconds"]),
            "problems": service_checks.probe_problems(result, visits),
            "status": service_checks.status(result),
        }
        for result in results
    ]
    error = str(answers.get("error") or "no answer")
    return [*answered, *(_unanswered(error, deadline) for _ in range(number - len(answered)))]


def counters(scrape: prometheus.Scrape | None) -> Counters:
    """The counters of a scrape."""
    if scrape is None:
        return {"started": None, "requests": None, "durations": None}
    requests: dict[str, float] = {}
    durations: dict[str, float] = {}
    for name, label, totals in (
        ("katago_requests_total", "status", requests),
        ("katago_analysis_duration_seconds_bucket", "le", durations),
    ):
        for labels in scrape.labels(name):
            value = scrape.value(name, **labels)
            totals[labels[label]] = totals.get(labels[label], 0) + (value or 0)
    return {
        "started": scrape.value("process_start_time_seconds"),
        "requests": requests,
        "durations": durations,
    }


def comparable(layout: release_layout.Layout, recorded: Path, machine: Path, visits: int) -> float | None:
    """The median of the recorded baseline if it was measured with the same engine on this machine."""
    content = triage_baseline.read(recorded)
    identity = triage_baseline.identity(release_layout.manifest(layout.current), visits)
    if content is None or content.get("identity") != identity:
        return None
    return content["median_seconds"] if content.get("machine") == procfs.machine(machine) else None


def workload(manifest: release_layout.Manifest | None, visits: int, machine: Mapping[str, Any]) -> str:
    """The digest of what a known position costs by design: networks, visits and the device.

    A larger network or a smaller device make a service slower, and that is no fault of its release.
    """
    assets = manifest["stands_on"] if manifest else {}
    return digest.of_json(
        {
            "networks": sorted(sha256 for path, sha256 in assets.items() if "networks" in Path(path).parts),
            "visits": visits,
            "device": [machine["device"], machine["processors"]],
        }
    )


def limits_of(config: Mapping[str, Any], health: Mapping[str, Any]) -> dict[str, float | None]:
    """The limits of what clients may request: as configured, or as lowered by the override in `/health`.

    Higher ones make requests slower.
    """
    section = shape.mapping(config.get("katago"))
    override = overlay.shown(health.get("overlay"))
    lowered = override["keys"] if override else {}
    return {name: lowered.get(f"katago.{name}", section.get(name)) for name in service_checks.LIMITS}


def _running() -> str | None:
    try:
        pid = unit.state().pid
        return unit.running_release(pid) if pid else None
    except (OSError, subprocess.SubprocessError):
        return None


def _unanswered(why: str, seconds: float) -> Probe:
    return {"seconds": seconds, "problems": [why], "status": "unknown"}
