"""Samples a service for a validation window, on a host that goes on when the control node is gone.

A program of its own under systemd. What was asked for lies on the disk, so that it goes on after a reboot;
samples lie in memory, so that it works on a full disk, and a reboot ends what it interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
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
RECOVERED = "the window is full"
_LONGEST_WORDS = 200


def now() -> float:
    """Seconds since the host was started, sleep included, whatever its clock is set to."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def unit() -> str:
    """The unit file. The program is root, to talk as nobody and to see what the service runs."""
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


def begin(
    order: Mapping[str, Any],
    *,
    rebooted: bool,
    order_file: Path,
    file: Path,
) -> None:
    """Leave what is asked for, and begin its file of samples. Raises OSError, with no order left."""
    for directory in (order_file.parent, file.parent):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
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


def watched(file: Path) -> watch_samples.Watched | None:
    """What was sampled; None for nothing since the boot.

    Raises ValueError when the file is damaged, OSError when it cannot be read.
    """
    try:
        return watch_samples.read(file.read_bytes())
    except FileNotFoundError:
        return None


def is_alive() -> bool:
    """Whether the sampler works, or systemd is about to start it again."""
    asked = ["systemctl", "show", paths.WATCH_UNIT, "--property=ActiveState", "--value"]
    shown = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20)
    return shown.stdout.strip() in ("active", "activating")


def take(terms: watch_samples.Terms, layout: release_layout.Layout) -> watch_samples.Sample:
    """One sample: every check in a process and with a deadline of its own, the metrics at the end."""
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
    """What /health answers, and what of the limits is lowered."""
    answer = at.answer("/health", seconds)
    lowered = overlay.words(answer["body"].get("overlay"))
    kept = short(answer, "status", "reason")
    return {**kept, "body": {**kept["body"], "lowered": lowered[:_LONGEST_WORDS]}}


def short(answer: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """A probe's answer with no more than the named parts of its body, which may be anybody's."""
    body = {
        name: value if value is None or isinstance(value, bool) else str(value)[:_LONGEST_WORDS]
        for name, value in answer["body"].items()
        if name in names
    }
    return {**answer, "body": body}


def baseline(layout: release_layout.Layout, visits: int, recorded: Path) -> dict[str, Any]:
    """The baseline in the file `recorded`, and what one of now would stand on."""
    found = triage_baseline.read(recorded)
    manifest = release_layout.manifest(layout.current)
    visits = service_checks.allowed(visits, admin.read_config(layout.current))
    kept = {name: found.get(name) for name in ("identity", "machine", "median_seconds")} if found else None
    identity = triage_baseline.identity(manifest, visits)
    return {"found": kept, "identity": identity, "machine": procfs.machine(paths.PROC)}


def validate(terms: watch_samples.Terms, layout: release_layout.Layout) -> dict[str, Any]:
    """The checks of the role `validate`, and one analysis that can be compared with the baseline.

    RuntimeError when the client itself does not run, which says nothing of the service.
    """
    manifest: Mapping[str, Any] = release_layout.manifest(layout.current) or {}
    config = admin.read_config(layout.current)
    expected = observe.expected(manifest, config, manifest["name"])
    visits = service_checks.allowed(terms.visits, config)
    more = service_checks.probes(visits, [SystemRandom().randrange(service_checks.VARIANTS)])
    at = endpoints.Endpoints.of(config)
    if service_checks.allowed(visits, config, at.probe("/health")) < visits:
        more = []
    seen = observe.observe(layout, config, 0, terms.patience, more)
    answers = seen.observed.answers
    if seen.observed.ready and seen.observed.ready[0] == 200 and "results" not in answers:
        raise RuntimeError(answers.get("error") or "the MCP client does not run")
    failures = service_checks.failures(service_checks.judge(seen.observed, expected, visits=seen.visits))
    probed = [
        {"seconds": result["seconds"], "problems": service_checks.probe_problems(result, visits)}
        for result in seen.more
    ]
    failures += "".join(f"\n- probe: {problem}" for answer in probed for problem in answer["problems"])
    return {
        "failures": [line.removeprefix("- ")[:_LONGEST_WORDS] for line in failures.splitlines() if line],
        "own": [service_checks.status(result) for result in [*(answers.get("results") or []), *seen.more]],
        "probe": {"value": {"answers": probed}},
    }


def metrics(at: endpoints.Endpoints, seconds: float) -> dict[str, Any]:
    """The figures of a window: counters since the service was started, None for what is missing or NaN."""
    text = at.exposed(seconds)
    if text is None:
        return {"served": False, "why": "is not served"}
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
    """Take a sample, keep it, judge all of them. Raises OSError when it cannot be kept."""
    sample = take(terms, layout)
    reap()
    files.append_events(file, watch_samples.as_line(sample), at=sample.at, who=WHO)
    found = watch_samples.read(file.read_bytes())
    return watch_window.judge(found, now=now(), alive=True)


def reap() -> None:
    """Have no dead checks left: one that hung in the kernel dies whenever that lets it go."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def end(why: str, *, order_file: Path, file: Path) -> None:
    """Take the order back, and say why nothing is sampled any more where that can be written."""
    order_file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        files.append_events(file, {"event": "over", "why": why}, at=timestamps.now(), who=WHO)


def main() -> int:
    """Sample until the window is full, or for so long that it is given up."""
    order = json.loads(paths.WATCH_ORDER.read_text())
    terms, layout = watch_samples.Terms(**order["terms"]), release_layout.Layout(paths.RELEASE_ROOT)
    place = {"order_file": paths.WATCH_ORDER, "file": paths.WATCH_SAMPLES}
    found = watched(paths.WATCH_SAMPLES)
    if found is None:
        begin(order, rebooted=True, **place)
        found = watched(paths.WATCH_SAMPLES)
    begun = found.begun if found else now()
    while True:
        began = now()
        try:
            verdict = step(terms, layout, paths.WATCH_SAMPLES)
        except OSError as error:
            # A sample that is lost is a gap, which no window bridges.
            print(f"{datetime.now(UTC):%H:%M:%S} no sample: {error}", file=sys.stderr)
        else:
            if verdict.verdict == "recovered":
                end(RECOVERED, **place)
                return 0
        if now() - begun > terms.at_most:
            end(f"given up after {terms.at_most / 60:g} minutes", **place)
            return 0
        time.sleep(max(0.0, began + terms.interval - now()))
