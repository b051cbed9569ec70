"""The checks of triage on a host. Each measures one fact that `facts.py` declares."""

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
    sockets,
    workers,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu import devices, nvidia_health, nvidia_kernel
from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock, isolation
from ansible_collections.katago.fleet.plugins.module_utils.release import history as release_history
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    admin,
    config_check,
    endpoints,
    metrics,
)
from ansible_collections.katago.fleet.plugins.module_utils.service import checks as service_checks
from ansible_collections.katago.fleet.plugins.module_utils.service import journal as service_journal
from ansible_collections.katago.fleet.plugins.module_utils.service import journal_view as journal_view_module
from ansible_collections.katago.fleet.plugins.module_utils.service import sandbox as service_sandbox
from ansible_collections.katago.fleet.plugins.module_utils.service import unit as service_unit
from ansible_collections.katago.fleet.plugins.module_utils.triage import baseline as triage_baseline
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts

LAST_LINES = 20
RECORDS = 5
CONSUMERS = 3
EXPECTED_OPEN_FILES = 8192


def unit() -> facts.Unit:
    """The service's unit. Raises NoResult if the state of its main process is hidden."""
    details = service_unit.details()
    if details["pid"] and details["process_state"] is None:
        require_processes(paths.PROC)
    return shape.typed(facts.Unit, details, "unit")


def require_processes(proc: Path) -> None:
    """Raises NoResult if /proc hides the processes of other users, so that they seem not to exist."""
    try:
        (proc / "1" / "cgroup").read_text()
    except OSError as error:
        raise workers.NoResult(
            f"{proc} hides the processes of other users ({error.strerror}); see the mount option hidepid"
        ) from error


def sandbox(layout: release_layout.Layout) -> list[facts.Weakness]:
    """What the running unit lacks of the sandbox in its release's unit file."""
    if not layout.current.exists():
        return []
    weaknesses = service_sandbox.of_running_unit(layout.current / paths.SERVICE_UNIT)
    return shape.typed(list[facts.Weakness], weaknesses, "sandbox")


def ports(at: endpoints.Endpoints, proc: Path) -> list[facts.Intruder]:
    """Processes of others that listen on a port of the service."""
    settings = {"server.port": at.port, "metrics.port": at.metrics_port}
    holders = sockets.listeners(settings.values(), proc)
    sample = procfs.sample(0.0, proc).processes if holders else {}
    intruders: list[facts.Intruder] = []
    for setting, port in settings.items():
        process = sample.get(holders.get(port, 0))
        if process is not None and process.unit != paths.SERVICE_UNIT:
            intruders.append(
                {
                    "setting": setting,
                    "port": port,
                    "pid": process.pid,
                    "name": process.name,
                    "unit": process.unit,
                }
            )
    return intruders


def answer(at: endpoints.Endpoints, path: str, seconds: float) -> facts.Answer:
    """The service's answer to a GET of `/health` or `/ready`."""
    return shape.typed(facts.Answer, at.answer(path, seconds), path)


def release(layout: release_layout.Layout) -> facts.Release:
    """The current release, and every difference from its manifest, found by checksums of all files."""
    name = layout.current_release()
    return {"name": name, "damage": release_layout.damage(layout.current) if name else []}


def checked_config(layout: release_layout.Layout, config: Path, state: Path) -> facts.Config:
    """Whether the current release accepts the configuration. Raises NoResult without a release."""
    if not layout.current.exists():
        raise workers.NoResult(f"there is no release that could check it: {layout.current} does not exist")
    return shape.typed(facts.Config, config_check.checked(layout, config, state), "config")


def limits(layout: release_layout.Layout, proc: Path) -> facts.Limits | None:
    """The limits of the main process, and those in the release's unit; None without a main process."""
    pid = service_unit.state().pid
    if not pid:
        return None
    try:
        text = (layout.current / paths.SERVICE_UNIT).read_text()
    except OSError:
        text = ""
    match = re.search(r"^LimitNOFILE=(\d+)", text, re.M)
    expected = int(match[1]) if match else EXPECTED_OPEN_FILES
    return shape.typed(facts.Limits, {**procfs.limits(pid, proc), "open_files_expected": expected}, "limits")


def filesystems(places: Iterable[str]) -> list[facts.Filesystem]:
    """The file systems of the places that exist."""
    status = procfs.filesystems([path for path in places if Path(path).exists()])
    return shape.typed(list[facts.Filesystem], status, "filesystems")


def consumers() -> list[facts.Consumer]:
    """The sizes of the large directories."""
    return shape.typed(list[facts.Consumer], procfs.consumers(facts.LARGE_DIRECTORIES), "consumers")


def memory(proc: Path) -> facts.Memory:
    """The host's memory."""
    return shape.typed(facts.Memory, procfs.memory(proc), "memory")


def pressure(proc: Path) -> facts.Pressure:
    """The pressure stall figures by resource."""
    return shape.typed(facts.Pressure, procfs.pressure(proc), "pressure")


def system(os_release_file: Path) -> facts.System:
    """Whether this collection was tested on the host's system."""
    return {"untested": os_release.warning_of(os_release_file)}


def load(proc: Path) -> facts.Load:
    """The load averages and the number of processors."""
    return shape.typed(facts.Load, procfs.load(proc), "load")


def gpu(bus: Path, kernel_modules: Path) -> facts.Gpu | None:
    """What NVIDIA's tools and the kernel report about the GPUs on the PCI bus."""
    unread: list[str] = []

    def log() -> str:
        status, lines = kernel_log()
        if status:
            reason = lines.strip() or "dmesg gives no reason"
            unread.append(f"Xid errors are unknown, since the kernel's log cannot be read: {reason}")
        return "" if status else lines

    health = nvidia_health.health(
        commands.ask,
        log,
        devices=devices.on_bus(bus),
        loaded=nvidia_kernel.loaded_version("nvidia", kernel_modules),
    )
    return health and {**health, "notes": [*health["notes"], *unread]}


def kernel_log() -> tuple[int, str]:
    """The kernel's recent log from the journal, or from its ring buffer if the journal has none.

    With the exit status of the command: if it is not 0, the text is an error message.
    """
    since = f"--since=-{facts.PACKAGE_HOURS}h"
    status, lines = commands.ask(["journalctl", "--dmesg", since, "--output=short", "--no-pager", "--quiet"])
    return (status, lines) if status == 0 and lines else commands.ask(["dmesg"])


def journal() -> facts.Journal:
    """The service's own log lines of the window, grouped."""
    entries = service_journal.own(facts.WINDOW_MINUTES)
    return {
        "groups": service_journal.groups(entries),
        "unstructured": service_journal.unstructured(entries),
        "cache_trouble": service_journal.cache_trouble(entries),
        "lines": len(entries),
        "truncated": len(entries) >= service_journal.MOST_LINES,
    }


def journal_view() -> facts.JournalView:
    """What the journal can show of the window."""
    return shape.typed(facts.JournalView, journal_view_module.look(facts.WINDOW_MINUTES), "journal_view")


def engine_journal() -> facts.EngineJournal:
    """The number of engine failures, by the journal."""
    lines = service_journal.engine(facts.WINDOW_MINUTES)
    return {"failures": service_journal.engine_failures(lines)}


def runs() -> facts.Runs:
    """The unit's starts and failures, by the journal."""
    return service_journal.runs(service_journal.manager(facts.WINDOW_MINUTES))


def last_lines() -> list[str]:
    """The last lines of the unit's log."""
    return service_unit.journal(LAST_LINES).splitlines()


def processes(seconds: float, proc: Path, engines: Path) -> facts.Processes:
    """What the unit, the other units and the disks used in a window of `seconds`.

    `engines`: the directory of the installed engines. Raises NoResult if /proc hides processes.
    """
    require_processes(proc)
    before = procfs.sample(time.monotonic(), proc)
    time.sleep(seconds)
    after = procfs.sample(time.monotonic(), proc)
    usage = procfs.by_unit(before, after, without=os.getppid())
    units = shape.typed(list[facts.UnitUse], usage, "processes")
    own = next((unit for unit in units if unit["unit"] == paths.SERVICE_UNIT), None)
    others = [unit for unit in units if unit["unit"] != paths.SERVICE_UNIT]
    largest = [
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
            for unit in largest
        ],
        "disks": (
            shape.typed(facts.Absent, disks, "disks")
            if isinstance(disks, Mapping)
            else shape.typed(list[facts.Disk], disks, "disks")
        ),
        "processors": os.cpu_count() or 1,
    }


def running_engines(members: Sequence[facts.ProcessUse], proc: Path, engines: Path) -> list[int]:
    """The PIDs of the unit's engines, without zombies and without the child processes of an engine."""
    running = {
        each["pid"]
        for each in members
        if each["state"] not in "ZX" and _runs_from(proc / str(each["pid"]), engines)
    }
    return sorted(each["pid"] for each in members if each["pid"] in running and each["parent"] not in running)


def security() -> facts.Security:
    """The security mode of the host."""
    return shape.typed(facts.Security, isolation.look(), "security")


def lock(path: Path) -> facts.Lock | None:
    """The procedure that holds the host's lock."""
    holder = host_lock.holder(path)
    if holder is None:
        return None
    return {
        "owner": holder.owner,
        "procedure": holder.procedure,
        "run": holder.run,
        "since": holder.since,
        "age_seconds": round(max(0.0, holder.age()), 1),
    }


def history(layout: release_layout.Layout, path: Path) -> facts.History:
    """The newest records, the newest switch from one release to another, and the rollback target."""
    records = release_history.read(path)
    targets = release_history.rollback_targets(
        records, available=layout.complete(), besides=layout.current_release()
    )
    switch: facts.Switch | None = None
    if newest := newest_switch(records):
        age = (datetime.now(UTC) - timestamps.parse(newest.at)).total_seconds()
        switch = {"seconds_ago": round(age), "how": newest.how}
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
    """The newest switch from one release to another. A restore of the same release does not count."""
    switches = (each for each in reversed(records) if each.verdict is None and each.previous)
    return next((each for each in switches if each.previous != each.release), None)


def packages(log: Path) -> list[str]:
    """The packages that were recently installed or upgraded, by dpkg's log and the host's clock.

    Raises NoResult without a log.
    """
    if not log.exists():
        raise workers.NoResult(f"{log} does not exist")
    since = datetime.now().astimezone() - timedelta(hours=facts.PACKAGE_HOURS)
    return procfs.upgrades(log, since.strftime("%Y-%m-%d %H:%M:%S"))


def baseline(
    layout: release_layout.Layout, visits: int, *, recorded: Path | None, proc: Path
) -> facts.Baseline:
    """The recorded baseline, and the identity that a baseline recorded now would have.

    `recorded`: the baseline's file; None to ignore the recorded baseline.
    """
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
    """The configuration of the current release; {} if it cannot be read."""
    try:
        return admin.read_config(layout.current)
    except (OSError, ValueError):
        return {}


def probes(
    at: endpoints.Endpoints, layout: release_layout.Layout, *, count: int, visits: int, seconds: int
) -> facts.Probes:
    """Analyse positions that are in no cache: how long each analysis took, and its problems.

    The number of visits is capped to what the configuration and an override allow: lowered limits are no
    fault. Raises RuntimeError if the MCP client does not run, which is no finding about the service.
    """
    visits = service_checks.allowed(visits, config(layout), at.probe("/health", seconds / 6))
    answered = probe_round(at, layout, count=count, visits=visits, seconds=seconds)
    return {
        "asked": answered["asked"],
        "visits": visits,
        "error": answered["error"],
        "answers": answered["answers"],
    }


def probe_round(
    at: endpoints.Endpoints, layout: release_layout.Layout, *, count: int, visits: int, seconds: int
) -> facts.Round:
    """One round of `probes`. Raises RuntimeError if the MCP client does not run."""
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
    return {"asked": count, "error": answer.get("error"), "answers": answers}


def traffic(
    before: str | None,
    after: str | None,
    seconds: float,
    unserved: str = "is not served",
    own: int = 0,
) -> facts.Traffic:
    """The traffic between two scrapes that are `seconds` apart; None for a scrape that was not served.

    `unserved`: why it was not, as in `UnservedTraffic`. `own`: the number of our own analyses in between.
    """
    if before is None or after is None:
        return {"served": False, "why": unserved}
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
        "hit_rate": window.hit_rate(own),
        "cache_errors": window.rise("katago_cache_errors_total"),
        "cache_bytes": window.after.value("katago_cache_size_bytes"),
        "cache_max_bytes": window.after.value("katago_cache_max_size_bytes"),
        "overlay_active": window.after.value("katago_mcp_overlay_active"),
    }


def _runs_from(process: Path, programs: Path) -> bool:
    """Whether the executable of a process, given by its /proc directory, is below `programs`."""
    try:
        return (process / "exe").readlink().is_relative_to(programs)
    except OSError:
        return False
