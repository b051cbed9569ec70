"""Samples a service for a validation window. Runs on the host, independently of the control node.

A separate program under systemd. The order is on disk, so that sampling resumes after a reboot. The samples
are in memory, so that sampling works on a full disk; a reboot deletes them and restarts the window.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from random import SystemRandom
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    directories,
    files,
    procfs,
    prometheus,
    systemd_run,
    workers,
)
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import admin, endpoints, observe, overlay
from ansible_collections.katago.fleet.plugins.module_utils.service import checks as service_checks
from ansible_collections.katago.fleet.plugins.module_utils.service import metrics as service_metrics
from ansible_collections.katago.fleet.plugins.module_utils.service import unit as service_unit
from ansible_collections.katago.fleet.plugins.module_utils.triage import baseline as triage_baseline
from ansible_collections.katago.fleet.plugins.module_utils.watch import samples as watch_samples
from ansible_collections.katago.fleet.plugins.module_utils.watch import window as watch_window

WHO = "sampler"
RECOVERED = "the window is complete"
_LONGEST_TEXT = 200


def now() -> float:
    """Seconds since the host booted, including suspend. Independent of the host's clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def unit() -> str:
    """The unit file.

    The program runs as root, so that it can run the MCP client as nobody and read which release runs.
    """
    return f"""\
[Unit]
Description=Validation window of the KataGo MCP server
ConditionPathExists={paths.WATCH_ORDER}
After={paths.SERVICE_UNIT}
StartLimitIntervalSec=600
StartLimitBurst=10

[Service]
Type=exec
ExecStart={paths.WATCH_PROGRAM}
Restart=on-failure
RestartSec=5
StateDirectory={paths.WATCH_ORDER.parent.name}
StateDirectoryMode=0700
RuntimeDirectory={paths.WATCH_SAMPLES.parent.name}
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
{systemd_run.HARDENED}CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_SYS_PTRACE CAP_DAC_READ_SEARCH CAP_KILL

[Install]
WantedBy=multi-user.target
"""


def start_watch(
    order: Mapping[str, Any],
    *,
    rebooted: bool,
    order_file: Path,
    file: Path,
) -> None:
    """Write the order and start its file of samples. After a reboot (`rebooted`), the order exists already.

    Raises OSError; no order is left behind.
    """
    for directory in (order_file.parent, file.parent):
        directories.make(directory, own=directory, mode=directories.PRIVATE)
    first = watch_samples.header(
        watch_samples.Terms(**order["terms"]),
        begun=now(),
        who=str(order["who"]),
        incident=str(order["incident"]),
        rebooted=rebooted,
    )
    if not rebooted:
        files.write(order_file, (json.dumps(order, indent=1) + "\n").encode(), mode=0o600)
    try:
        file.unlink(missing_ok=True)
        files.append_events(file, first, at=timestamps.now(), who=WHO)
    except OSError:
        order_file.unlink(missing_ok=True)
        raise


def read_samples(file: Path) -> watch_samples.Watched | None:
    """The samples since the boot; None if there are none.

    Raises ValueError if the file is damaged, OSError if it cannot be read.
    """
    try:
        return watch_samples.read(file.read_bytes())
    except FileNotFoundError:
        return None


def is_alive() -> bool:
    """Whether the sampler is running, or systemd is about to restart it."""
    command = ["systemctl", "show", paths.WATCH_UNIT, "--property=ActiveState", "--value"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip() in ("active", "activating")


def take(terms: watch_samples.Terms, layout: release_layout.Layout) -> watch_samples.Sample:
    """Take one sample. Each check runs in its own process with its own deadline; the metrics come last."""
    began, quick = now(), terms.patience / 3
    running = workers.Measuring()
    running.start("bound_to", lambda: asdict(endpoints.Endpoints.of_release(layout)), quick)
    running.wait({"bound_to"}, at_most=quick)
    at = endpoints.Endpoints(**running.entries.pop("bound_to").get("value", {}))
    checks: dict[str, Callable[[], Any]] = {
        "unit": service_unit.details,
        "health": lambda: health(at, quick),
        "ready": lambda: short(at.answer("/ready", quick), "ready", "reason"),
        "release": lambda: service_unit.running_release(service_unit.state().pid),
        "baseline": lambda: baseline(layout, terms.visits, paths.BASELINE),
    }
    for name, check in checks.items():
        running.start(name, check, quick)
    running.wait(checks.keys(), at_most=quick)
    if terms.probes:
        deadline = terms.patience + watch_samples.CLIENT_SECONDS
        if running.entries.get("health", {}).get("value", {}).get("status") is None:
            running.start("validation", lambda: {"failures": ["/health does not answer"], "own": []}, quick)
        else:
            running.start("validation", lambda: validate(terms, layout), deadline)
        running.wait({"validation"}, at_most=deadline)
    running.start("metrics", lambda: metrics(at, quick), quick)
    facts = running.results()
    if probe := facts.get("validation", {}).get("value", {}).pop("probe", None):
        facts["probe"] = probe
    return watch_samples.Sample(
        began=began, ended=now(), at=timestamps.now(), facts=watch_samples.read_facts(facts)
    )


def health(at: endpoints.Endpoints, seconds: float) -> dict[str, Any]:
    """The answer of /health, with a description of the lowered limits."""
    answer = at.answer("/health", seconds)
    lowered = overlay.describe(answer["body"].get("overlay"))
    shortened = short(answer, "status", "reason")
    return {**shortened, "body": {**shortened["body"], "lowered": lowered[:_LONGEST_TEXT]}}


def short(answer: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """An HTTP answer with only the named keys of its body. Another program may have sent the body."""
    body = {
        name: value if value is None or isinstance(value, bool) else str(value)[:_LONGEST_TEXT]
        for name, value in answer["body"].items()
        if name in names
    }
    return {**answer, "body": body}


def baseline(layout: release_layout.Layout, visits: int, recorded: Path) -> dict[str, Any]:
    """The baseline in the file `recorded`, and the identity that a baseline recorded now would have."""
    content = triage_baseline.read(recorded)
    manifest = release_layout.manifest(layout.current)
    visits = service_checks.allowed(visits, admin.read_config(layout.current))
    names = ("identity", "machine", "median_seconds", "slowest_seconds", "spread_seconds")
    compared = {name: content.get(name) for name in names if name in content} if content else None
    identity = triage_baseline.identity(manifest, visits)
    return {"found": compared, "identity": identity, "machine": procfs.machine(paths.PROC)}


def validate(terms: watch_samples.Terms, layout: release_layout.Layout) -> dict[str, Any]:
    """Run the checks of the role `validate`, and one analysis that can be compared with the baseline.

    Raises RuntimeError if the MCP client does not run, which is no finding about the service.
    """
    manifest: Mapping[str, Any] = release_layout.manifest(layout.current) or {}
    config = admin.read_config(layout.current)
    expected = observe.expected(manifest, config, manifest["name"])
    visits = service_checks.allowed(terms.visits, config)
    probes = service_checks.probes(visits, [SystemRandom().randrange(service_checks.VARIANTS)])
    at = endpoints.Endpoints.of(config)
    if service_checks.allowed(visits, config, at.probe("/health")) < visits:
        probes = []
    observation = observe.observe(layout, config, 0, terms.patience, probes)
    observed = observation.observed
    answers = observed.answers
    if observed.ready and observed.ready[0] == 200 and "results" not in answers:
        raise RuntimeError(answers.get("error") or "the MCP client did not run")
    failures = service_checks.failures(service_checks.judge(observed, expected, visits=observation.visits))
    probed = [
        {"seconds": result["seconds"], "problems": service_checks.probe_problems(result, visits)}
        for result in observation.more
    ]
    failures += "".join(f"\n- probe: {problem}" for answer in probed for problem in answer["problems"])
    results = [*(answers.get("results") or []), *observation.more]
    return {
        "failures": [line.removeprefix("- ")[:_LONGEST_TEXT] for line in failures.splitlines() if line],
        "own": [service_checks.status(result) for result in results],
        "probe": {"value": {"answers": probed}},
    }


def metrics(at: endpoints.Endpoints, seconds: float) -> dict[str, Any]:
    """The counters since the service was started. None: the series is missing or NaN."""
    text = at.exposed(seconds)
    if text is None:
        return {"served": False, "why": at.unserved}
    try:
        scrape = prometheus.parse(text)
    except ValueError as error:
        return {"served": False, "why": f"is not in the exposition format: {error}"}
    window = service_metrics.Window(prometheus.parse(""), scrape)
    name = "katago_engine_restarts_total"
    restarts = [scrape.value(name, **labels) for labels in scrape.labels(name)]
    return {
        "served": True,
        "requests": window.requests(),
        "engine_up": scrape.value("katago_engine_up"),
        "engine_restarts": None if None in restarts else sum(each or 0 for each in restarts),
        "cache_errors": scrape.value("katago_cache_errors_total"),
    }


def step(terms: watch_samples.Terms, layout: release_layout.Layout, file: Path) -> watch_window.Verdict:
    """Take a sample, save it, and judge all samples. Raises OSError if it cannot be saved."""
    sample = take(terms, layout)
    workers.reap()
    files.append_events(file, watch_samples.as_line(sample), at=sample.at, who=WHO)
    watched = watch_samples.read(file.read_bytes())
    return watch_window.judge(watched, now=now(), alive=True)


def finish(why: str, *, order_file: Path, file: Path) -> None:
    """Delete the order and, if the file is writable, record why sampling stopped."""
    order_file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        files.append_events(file, {"event": "over", "why": why}, at=timestamps.now(), who=WHO)


def main() -> int:
    """Sample until the window is complete, or until the time limit of the watch."""
    order = json.loads(paths.WATCH_ORDER.read_text())
    terms, layout = watch_samples.Terms(**order["terms"]), release_layout.Layout(paths.RELEASE_ROOT)
    place = {"order_file": paths.WATCH_ORDER, "file": paths.WATCH_SAMPLES}
    watched = read_samples(paths.WATCH_SAMPLES)
    if watched is None:
        start_watch(order, rebooted=True, **place)
        watched = read_samples(paths.WATCH_SAMPLES)
    started = watched.begun if watched else now()
    while True:
        began = now()
        try:
            verdict = step(terms, layout, paths.WATCH_SAMPLES)
        except OSError as error:
            # The missing sample is a gap, and a gap restarts the window.
            print(f"{datetime.now(UTC):%H:%M:%S} The sample was not saved: {error}", file=sys.stderr)
        else:
            if verdict.verdict == "recovered":
                finish(RECOVERED, **place)
                return 0
        if now() - started > terms.at_most:
            finish(f"the sampler gave up after {terms.at_most / 60:g} minutes", **place)
            return 0
        time.sleep(max(0.0, began + terms.interval - now()))
