"""The checks of triage on a host: each measures one fact that `facts.py` declares."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    commands,
    os_release,
    procfs,
    prometheus,
    shape,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu import devices, nvidia_health, nvidia_kernel
from ansible_collections.katago.fleet.plugins.module_utils.procedure import isolation
from ansible_collections.katago.fleet.plugins.module_utils.release import history as release_history
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import admin, endpoints, metrics
from ansible_collections.katago.fleet.plugins.module_utils.service import checks as service_checks
from ansible_collections.katago.fleet.plugins.module_utils.service import journal as service_journal
from ansible_collections.katago.fleet.plugins.module_utils.service import unit as service_unit
from ansible_collections.katago.fleet.plugins.module_utils.triage import baseline as triage_baseline
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts

LAST_LINES = 20
RECORDS = 5
CONSUMERS = 3
EXPECTED_OPEN_FILES = 8192


def unit() -> facts.Unit:
    """The service's unit."""
    return shape.typed(facts.Unit, service_unit.details(), "unit")


def answer(at: endpoints.Endpoints, path: str, seconds: float) -> facts.Answer:
    """The answer to a probe."""
    return shape.typed(facts.Answer, at.answer(path, seconds), path)


def release(layout: release_layout.Layout) -> facts.Release:
    """The current release and every difference from its manifest, by full checksums."""
    name = layout.current_release()
    return {"name": name, "damage": release_layout.damage(layout.current) if name else []}


def limits(layout: release_layout.Layout, proc: Path) -> facts.Limits | None:
    """The limits of the running main process beside those of the release's unit; None without one."""
    pid = service_unit.state().pid
    if not pid:
        return None
    try:
        text = (layout.current / paths.SERVICE_UNIT).read_text()
    except OSError:
        text = ""
    found = re.search(r"^LimitNOFILE=(\d+)", text, re.M)
    expected = int(found[1]) if found else EXPECTED_OPEN_FILES
    return shape.typed(facts.Limits, {**procfs.limits(pid, proc), "open_files_expected": expected}, "limits")


def filesystems(places: Iterable[str]) -> list[facts.Filesystem]:
    """The file systems of those of the places that exist."""
    found = procfs.filesystems([path for path in places if Path(path).exists()])
    return shape.typed(list[facts.Filesystem], found, "filesystems")


def consumers() -> list[facts.Consumer]:
    """What the large directories hold."""
    return shape.typed(list[facts.Consumer], procfs.consumers(facts.LARGE_DIRECTORIES), "consumers")


def memory(proc: Path) -> facts.Memory:
    """The host's memory."""
    return shape.typed(facts.Memory, procfs.memory(proc), "memory")


def pressure(proc: Path) -> facts.Pressure:
    """Stalls by resource."""
    return shape.typed(facts.Pressure, procfs.pressure(proc), "pressure")


def system(os_release_file: Path) -> facts.System:
    """Whether the host's system was tested."""
    return {"untested": os_release.warning_of(os_release_file)}


def load(proc: Path) -> facts.Load:
    """The load and the number of processors."""
    return shape.typed(facts.Load, procfs.load(proc), "load")


def gpu(bus: Path, kernel_modules: Path) -> facts.Gpu | None:
    """What NVIDIA's tools and the kernel say of the GPUs on the bus."""
    return nvidia_health.health(
        commands.ask,
        kernel_log,
        devices=devices.on_bus(bus),
        loaded=nvidia_kernel.loaded_version("nvidia", kernel_modules),
    )


def kernel_log() -> str:
    """What the kernel said lately; its own buffer where the journal does not keep it."""
    since = f"--since=-{facts.PACKAGE_HOURS}h"
    status, lines = commands.ask(["journalctl", "--dmesg", since, "--output=short", "--no-pager", "--quiet"])
    return lines if status == 0 and lines else commands.ask(["dmesg"])[1]


def journal() -> facts.Journal:
    """The service's own lines of the window, grouped."""
    entries = service_journal.own(facts.WINDOW_MINUTES)
    return {
        "groups": service_journal.groups(entries),
        "unstructured": service_journal.unstructured(entries),
        "cache_trouble": service_journal.cache_trouble(entries),
        "lines": len(entries),
        "truncated": len(entries) >= service_journal.MOST_LINES,
    }


def engine_journal() -> facts.EngineJournal:
    """The engine's failures, by the journal."""
    lines = service_journal.engine(facts.WINDOW_MINUTES)
    return {"failures": service_journal.engine_failures(lines)}


def runs() -> facts.Runs:
    """The unit's starts and failures, by the journal."""
    return service_journal.runs(service_journal.manager(facts.WINDOW_MINUTES))


def last_lines() -> list[str]:
    """The last lines of the unit's log."""
    return service_unit.journal(LAST_LINES).splitlines()


def processes(seconds: float, proc: Path, engines: Path) -> facts.Processes:
    """What the unit, the other units and the disks used over so many seconds. `engines`: where they lie."""
    before = procfs.sample(time.monotonic(), proc)
    time.sleep(seconds)
    after = procfs.sample(time.monotonic(), proc)
    found = procfs.by_unit(before, after, without=os.getppid())
    units = shape.typed(list[facts.UnitUse], found, "processes")
    own = next((unit for unit in units if unit["unit"] == paths.SERVICE_UNIT), None)
    others = [unit for unit in units if unit["unit"] != paths.SERVICE_UNIT]
    greedy = [
        *others[:CONSUMERS],
        *sorted(others[CONSUMERS:], key=lambda unit: -unit["memory_bytes"])[:CONSUMERS],
    ]
    disks = procfs.by_disk(before, after)
    return {
        "unit": own,
        "engines": running_engines(own["processes"] if own else [], proc, engines),
        "others": [
            {
                "unit": unit["unit"],
                "name": max(unit["processes"], key=lambda each: each["cpu_percent"])["name"],
                "largest": max(unit["processes"], key=lambda each: each["memory_bytes"])["name"],
                "cpu_percent": unit["cpu_percent"],
                "memory_bytes": unit["memory_bytes"],
            }
            for unit in greedy
        ],
        "disks": (
            shape.typed(facts.Absent, disks, "disks")
            if isinstance(disks, Mapping)
            else shape.typed(list[facts.Disk], disks, "disks")
        ),
        "processors": os.cpu_count() or 1,
    }


def running_engines(members: Sequence[facts.ProcessUse], proc: Path, engines: Path) -> list[int]:
    """The processes of the unit that run an engine: no zombies, nor what an engine itself started."""
    running = {
        each["pid"]
        for each in members
        if each["state"] not in "ZX" and _runs_from(proc / str(each["pid"]), engines)
    }
    return sorted(each["pid"] for each in members if each["pid"] in running and each["parent"] not in running)


def security() -> facts.Security:
    """The security mode of the host."""
    return shape.typed(facts.Security, isolation.look(), "security")


def history(layout: release_layout.Layout, path: Path) -> facts.History:
    """The newest records, the newest switch from one release to another, and the rollback target."""
    records = release_history.read(path)
    targets = release_history.ways_back(
        records, available=layout.complete(), besides=layout.current_release()
    )
    switch: facts.Switch | None = None
    if newest := newest_switch(records):
        switch = {"seconds_ago": round((datetime.now(UTC) - timestamps.parse(newest.at)).total_seconds())}
    return {
        "records": [
            {
                "at": each.at,
                "who": each.who,
                "release": each.release,
                "why": each.why,
                "verdict": each.verdict,
            }
            for each in records[-RECORDS:]
        ],
        "switch": switch,
        "way_back": targets[0] if targets else None,
    }


def newest_switch(records: Sequence[release_history.Record]) -> release_history.Record | None:
    """The newest switch from one release to another; a restore of the same release is none."""
    switches = (each for each in reversed(records) if each.verdict is None and each.previous)
    return next((each for each in switches if each.previous != each.release), None)


def packages(log: Path) -> list[str]:
    """The packages installed or upgraded lately, by dpkg's log and the host's own clock."""
    since = datetime.now().astimezone() - timedelta(hours=facts.PACKAGE_HOURS)
    return procfs.upgrades(log, since.strftime("%Y-%m-%d %H:%M:%S"))


def baseline(
    layout: release_layout.Layout, visits: int, *, recorded: Path | None, proc: Path
) -> facts.Baseline:
    """The recorded baseline, and what a baseline of now would be of. `recorded`: None to leave it out."""
    manifest = release_layout.manifest(layout.current)
    return {
        "found": triage_baseline.read(recorded) if recorded else None,
        "identity": triage_baseline.identity(manifest, visits),
        "manifest": {
            "name": manifest["name"] if manifest else None,
            "version": manifest["version"] if manifest else None,
            "engine_version": manifest["engine_version"] if manifest else None,
        },
        "machine": shape.typed(triage_baseline.Machine, procfs.machine(proc), "machine"),
        "network": triage_baseline.network(manifest),
        "visits": visits,
    }


def config(layout: release_layout.Layout) -> dict[str, Any]:
    """The configuration of the current release; an empty one when it cannot be read."""
    try:
        return admin.read_config(layout.current)
    except (OSError, ValueError):
        return {}


def probes(
    at: endpoints.Endpoints, layout: release_layout.Layout, *, count: int, visits: int, seconds: int
) -> facts.Probes:
    """Analyses of positions that no cache knows: how long each took and what was wrong with it.

    Of no more visits than an overlay leaves, since a host whose limits are lowered is as well as others.
    RuntimeError when the client itself does not run, which says nothing of the service.
    """
    visits = service_checks.allowed(visits, config(layout), at.probe("/health", seconds / 6))
    variants = random.SystemRandom().sample(range(service_checks.VARIANTS), count)
    answer = at.call(
        layout.current / "venv" / "bin" / "katago-mcp", service_checks.probes(visits, variants), seconds
    )
    if "results" not in answer:
        raise RuntimeError(answer["error"])
    answers: list[facts.ProbeAnswer] = [
        {
            "status": service_checks.status(result),
            "seconds": result["seconds"],
            "problems": service_checks.probe_problems(result, visits),
        }
        for result in answer["results"]
    ]
    return {"asked": count, "visits": visits, "error": answer.get("error"), "answers": answers}


def traffic(before: str | None, after: str | None, seconds: float) -> facts.Traffic:
    """What happened between two scrapes, so many seconds apart; None for one that was not served."""
    if before is None or after is None:
        return {"served": False, "why": "is not served"}
    try:
        window = metrics.Window(prometheus.parse(before), prometheus.parse(after))
    except ValueError as error:
        return {"served": False, "why": f"is not in the exposition format: {error}"}
    latencies = window.latencies((0.5, 0.95, 0.99))
    uptime = time.time() - (window.after.value("process_start_time_seconds") or 0)
    young = uptime < facts.WINDOW_MINUTES * 60
    since_start = metrics.Window(prometheus.parse(""), window.after)
    return {
        "served": True,
        "seconds": round(seconds, 1),
        "requests": window.requests(),
        "refused": window.refused(),
        "engine_up": window.after.value("katago_engine_up"),
        "engine_failures": window.engine_failures(),
        "engine_failures_since_start": since_start.engine_failures() if young else None,
        "latency_seconds": (
            {"p50": latencies[0], "p95": latencies[1], "p99": latencies[2]} if latencies else None
        ),
        "analyses": window.analyses(),
        "hit_rate": window.hit_rate(),
        "cache_errors": window.rise("katago_cache_errors_total"),
        "cache_bytes": window.after.value("katago_cache_size_bytes"),
        "cache_max_bytes": window.after.value("katago_cache_max_size_bytes"),
        "overlay_active": window.after.value("katago_mcp_overlay_active"),
    }


def _runs_from(process: Path, programs: Path) -> bool:
    """Whether a process, by its directory in /proc, runs a program that lies below `programs`."""
    try:
        return (process / "exe").readlink().is_relative_to(programs)
    except OSError:
        return False
