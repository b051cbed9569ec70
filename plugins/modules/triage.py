#!/usr/bin/python
"""Measures everything that tells how well a host and its service are; changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: triage
short_description: Measure a host and judge how bad it is
description:
  - Measures the service, its engine and the host in one pass, every check at the same time, in a
    process and with a deadline of its own. A check that hangs costs its own entry, which is unknown.
  - Has a few positions analysed through MCP within the window, since a quiet service has no traffic
    that would tell whether it works.
  - The control node judges what was measured by the runbook's levels. A host that cannot be reached,
    and one that cannot be measured, is unknown. Neither fails the task.
  - Reads only.
options:
  window:
    description: Seconds between the two scrapes of the metrics.
    type: int
    default: 10
  probes:
    description: Analyses to ask for within the window; at least 1.
    type: int
    default: 5
  visits:
    description: Visits of each of them; as many as are allowed where those are fewer.
    type: int
    default: 32
  patience:
    description:
      - Seconds for each of the slow checks; release, configuration, probes. Every other check has a
        third of that, an answer over HTTP a sixth.
    type: int
    default: 30
  breach:
    description: Whether an operator knows of a security breach.
    type: bool
    default: false
  without_baseline:
    description: Whether to judge as if there were no baseline.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Every host is measured and judged
  katago.fleet.triage:
    window: 10
  register: triage_result
"""

RETURN = r"""
verdict:
  description:
    - "The verdict; verdict (P0 to P3, healthy, unknown), respond_by, reasons, undecided, escalate,
      changes, notes, proposals, next."
  type: dict
  returned: when the host was reached
facts:
  description: Every check; value, or unknown with the reason, and seconds.
  type: dict
  returned: when the host was measured
"""

import json
import os
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    commands,
    os_release,
    procfs,
    prometheus,
    workers,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu import devices, nvidia_health, nvidia_kernel
from ansible_collections.katago.fleet.plugins.module_utils.procedure import isolation
from ansible_collections.katago.fleet.plugins.module_utils.release import history
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import checks as service_checks
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    config_check,
    endpoints,
    host_secrets,
    journal,
    metrics,
)
from ansible_collections.katago.fleet.plugins.module_utils.service import unit as service_unit
from ansible_collections.katago.fleet.plugins.module_utils.triage import baseline, rules

CLIENT_SECONDS = 20
LAST_LINES = 20
RECORDS = 5
CONSUMERS = 3
DPKG_LOG = Path("/var/log/dpkg.log")
ENGINES = Path("/opt/katago/engines")
PLACES = ("/", "/opt", "/var", "/var/lib/katago-mcp", "/var/cache/katago-mcp")
# Where what fills a disk is looked for.
LARGE = tuple(rules.ROOM)
EXPECTED_OPEN_FILES = 8192


def look_at_release(layout: release_layout.Layout) -> dict[str, Any]:
    """The current release and every difference from its manifest, by full checksums."""
    name = layout.current_release()
    return {"name": name, "damage": release_layout.damage(layout.current) if name else []}


def read_limits(layout: release_layout.Layout) -> dict[str, Any] | None:
    """The limits of the running main process beside those of the release's unit; None without one."""
    pid = service_unit.state().pid
    if not pid:
        return None
    try:
        unit = (layout.current / paths.SERVICE_UNIT).read_text()
    except OSError:
        unit = ""
    found = re.search(r"^LimitNOFILE=(\d+)", unit, re.M)
    return {
        **procfs.limits(pid, paths.PROC),
        "open_files_expected": int(found[1]) if found else EXPECTED_OPEN_FILES,
    }


def read_journal() -> dict[str, Any]:
    """The service's own lines of the window, grouped; the last of them word for word."""
    entries = journal.own(rules.WINDOW_MINUTES)
    return {
        "groups": journal.groups(entries),
        "unstructured": journal.unstructured(entries),
        "cache_trouble": journal.cache_trouble(entries),
        "lines": len(entries),
        "truncated": len(entries) >= journal.MOST_LINES,
    }


def watch_processes(seconds: float) -> dict[str, Any]:
    """What the unit, the other units and the disks used over so many seconds."""
    before = procfs.sample(time.monotonic(), paths.PROC)
    time.sleep(seconds)
    after = procfs.sample(time.monotonic(), paths.PROC)
    units = procfs.by_unit(before, after, without=os.getppid())
    own = next((unit for unit in units if unit["unit"] == paths.SERVICE_UNIT), None)
    members = own["processes"] if own else []
    others = [unit for unit in units if unit["unit"] != paths.SERVICE_UNIT]
    greedy = [
        *others[:CONSUMERS],
        *sorted(others[CONSUMERS:], key=lambda unit: -unit["memory_bytes"])[:CONSUMERS],
    ]
    return {
        "unit": own,
        "engines": engines(members),
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
        "disks": procfs.by_disk(before, after),
        "processors": os.cpu_count() or 1,
    }


def engines(members: list[dict[str, Any]]) -> list[int]:
    """The processes of the unit that run an engine: no zombies, nor what an engine itself started."""
    running = {each["pid"] for each in members if each["state"] not in "ZX" and is_engine(each["pid"])}
    return sorted(each["pid"] for each in members if each["pid"] in running and each["parent"] not in running)


def is_engine(pid: int) -> bool:
    """Whether a process runs a program of an installed engine."""
    try:
        return Path(f"/proc/{pid}/exe").readlink().is_relative_to(ENGINES)
    except OSError:
        return False


def newest_switch(records: Sequence[history.Record]) -> history.Record | None:
    """The newest switch from one release to another; a restore of the same release is none."""
    switches = (each for each in reversed(records) if each.verdict is None and each.previous)
    return next((each for each in switches if each.previous != each.release), None)


def read_history(layout: release_layout.Layout) -> dict[str, Any]:
    """The newest records, the newest switch from one release to another, and the way back."""
    records = history.read(paths.HISTORY)
    switch = newest_switch(records)
    ago = None
    if switch:
        at = timestamps.parse(switch.at)
        ago = (datetime.now(UTC) - at).total_seconds()
    ways = history.ways_back(records, available=layout.complete(), besides=layout.current_release())
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
        "switch": None if ago is None else {"seconds_ago": round(ago)},
        "way_back": ways[0] if ways else None,
    }


def read_baseline(layout: release_layout.Layout, visits: int, *, without: bool) -> dict[str, Any]:
    """The recorded baseline, if any, and what a baseline of now would stand on."""
    manifest: Mapping[str, Any] = release_layout.manifest(layout.current) or {}
    return {
        "found": None if without else baseline.read(),
        "identity": baseline.identity(manifest, visits),
        "manifest": {name: manifest.get(name) for name in ("name", "engine_version", "version")},
        "machine": procfs.machine(paths.PROC),
        "network": baseline.network(manifest),
        "visits": visits,
    }


def read_config(layout: release_layout.Layout) -> dict[str, Any]:
    """The configuration of the current release; an empty one when it cannot be read."""
    try:
        config = json.loads((layout.current / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def kernel_log() -> str:
    """What the kernel said in the last 24 hours; its own buffer where the journal does not keep it."""
    status, lines = commands.ask(
        ["journalctl", "--dmesg", "--since=-24h", "--output=short", "--no-pager", "--quiet"]
    )
    return lines if status == 0 and lines else commands.ask(["dmesg"])[1]


def upgraded() -> list[str]:
    """The packages installed or upgraded in the last 24 hours, by the host's own clock."""
    since = datetime.now().astimezone() - timedelta(hours=24)
    return procfs.upgrades(DPKG_LOG, since.strftime("%Y-%m-%d %H:%M:%S"))


def probe(
    at: endpoints.Endpoints, layout: release_layout.Layout, parameters: dict[str, Any]
) -> dict[str, Any]:
    """Analyses of positions that no cache knows: how long each took and what was wrong with it.

    Of no more visits than an overlay leaves, since a host whose limits are lowered is as well as others.
    RuntimeError when the client itself does not run, which says nothing of the service.
    """
    asked, quick = parameters["probes"], parameters["patience"] / 6
    visits = service_checks.allowed(parameters["visits"], read_config(layout), at.probe("/health", quick))
    variants = random.SystemRandom().sample(range(service_checks.VARIANTS), asked)
    answer = at.call(
        layout.current / "venv" / "bin" / "katago-mcp",
        service_checks.probes(visits, variants),
        parameters["patience"],
    )
    if "results" not in answer:
        raise RuntimeError(answer["error"])
    return {
        "asked": asked,
        "visits": visits,
        "error": answer.get("error"),
        "answers": [
            {
                "status": service_checks.status(result),
                "seconds": result["seconds"],
                "problems": service_checks.probe_problems(result, visits),
            }
            for result in answer["results"]
        ],
    }


def compare(before: dict[str, Any], after: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The entry of the traffic between two entries that hold scrapes, so many seconds apart."""
    texts = before.get("value"), after.get("value")
    for entry in (before, after):
        if "unknown" in entry:
            return entry
    if texts[1] is None or texts[0] is None:
        return {"value": {"served": False, "why": "is not served"}}
    try:
        window = metrics.Window(prometheus.parse(texts[0]), prometheus.parse(texts[1]))
    except ValueError as error:
        return {"value": {"served": False, "why": f"is not in the exposition format: {error}"}}
    latencies = window.latencies((0.5, 0.95, 0.99))
    uptime = time.time() - (window.after.value("process_start_time_seconds") or 0)
    young = uptime < rules.WINDOW_MINUTES * 60
    return {
        "value": {
            "served": True,
            "seconds": round(seconds, 1),
            "requests": window.requests(),
            "refused": window.refused(),
            "engine_up": window.after.value("katago_engine_up"),
            "engine_failures": window.engine_failures(),
            "engine_failures_since_start": (
                metrics.Window(prometheus.parse(""), window.after).engine_failures() if young else None
            ),
            "latency_seconds": dict(zip(("p50", "p95", "p99"), latencies, strict=True))
            if latencies
            else None,
            "analyses": window.analyses(),
            "hit_rate": window.hit_rate(),
            "cache_errors": window.rise("katago_cache_errors_total"),
            "cache_bytes": window.after.value("katago_cache_size_bytes"),
            "cache_max_bytes": window.after.value("katago_cache_max_size_bytes"),
            "overlay_active": window.after.value("katago_mcp_overlay_active"),
        }
    }


def measure(parameters: dict[str, Any]) -> dict[str, workers.Entry]:
    """Every check's entry.

    What takes a processor waits for what is quick, and the probes wait for both, so that they are
    not slowed down by triage itself.
    """
    layout = release_layout.Layout(paths.RELEASE_ROOT)
    window, patience = parameters["window"], parameters["patience"]
    without = parameters["without_baseline"]
    visits = service_checks.allowed(parameters["visits"], read_config(layout))
    quick, answer = patience / 3, patience / 6
    running = workers.Measuring()
    running.start("bound_to", lambda: asdict(endpoints.Endpoints.of_release(layout)), answer)
    running.wait({"bound_to"}, at_most=answer)
    at = endpoints.Endpoints(**running.entries.pop("bound_to").get("value", {}))

    began = time.monotonic()
    checks: dict[str, Callable[[], Any]] = {
        "before": lambda: at.exposed(answer),
        "health": lambda: at.answer("/health", answer),
        "ready": lambda: at.answer("/ready", answer),
        "unit": service_unit.details,
        "limits": lambda: read_limits(layout),
        "filesystems": lambda: procfs.filesystems(present(PLACES)),
        "consumers": lambda: procfs.consumers(LARGE),
        "memory": lambda: procfs.memory(paths.PROC),
        "pressure": lambda: procfs.pressure(paths.PROC),
        "load": lambda: procfs.load(paths.PROC),
        "gpu": lambda: nvidia_health.health(
            commands.ask,
            kernel_log,
            devices=devices.on_bus(paths.PCI_DEVICES),
            loaded=nvidia_kernel.loaded_version("nvidia", paths.KERNEL_MODULES),
        ),
        "clock": time.time,
        "system": lambda: {"untested": os_release.warning_of(paths.OS_RELEASE)},
        "history": lambda: read_history(layout),
        "baseline": lambda: read_baseline(layout, visits, without=without),
        "packages": upgraded,
        "last_lines": lambda: service_unit.journal(LAST_LINES).splitlines(),
        "journal": read_journal,
        "engine_journal": lambda: {"failures": journal.engine_failures(journal.engine(rules.WINDOW_MINUTES))},
        "security": isolation.look,
        "runs": lambda: journal.runs(journal.manager(rules.WINDOW_MINUTES)),
    }
    for name, check in checks.items():
        running.start(name, check, quick)
    running.start("processes", lambda: watch_processes(window), window + quick)
    running.wait(checks.keys(), at_most=answer)
    running.start("release", lambda: look_at_release(layout), patience)
    running.start("config", lambda: config_check.checked(layout, paths.CONFIG, paths.STATE), patience)
    running.wait({*checks, "release", "config"}, at_most=max(window, quick))
    if running.entries.get("health", {}).get("value", {}).get("status") is None:
        running.start("probe", lambda: {"skipped": "/health does not answer"}, quick)
    else:
        # The client ends by itself before that, with the answers that it got.
        running.start("probe", lambda: probe(at, layout, parameters), patience + CLIENT_SECONDS)
    running.wait({"probe", "processes"}, at_most=window + patience + CLIENT_SECONDS)
    seconds = time.monotonic() - began
    running.start("after", lambda: at.exposed(answer), quick)
    entries = running.results()
    before, after = entries.pop("before"), entries.pop("after")
    traffic = {**compare(before, after, seconds), "seconds": round(seconds, 2)}
    shown: dict[str, Any] = host_secrets.shown({**entries, "traffic": traffic})
    return shown


def present(candidates: tuple[str, ...]) -> list[str]:
    """Those of the paths that exist."""
    return [path for path in candidates if Path(path).exists()]


def main() -> None:
    """Measure and return."""
    module = AnsibleModule(
        argument_spec={
            "window": {"type": "int", "default": 10},
            "probes": {"type": "int", "default": 5},
            "visits": {"type": "int", "default": 32},
            "patience": {"type": "int", "default": 30},
            "without_baseline": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    if module.params["probes"] < 1 or module.params["window"] < 1:
        module.fail_json(msg="window and probes must be 1 or more: without them nothing is measured.")
    module.exit_json(changed=False, facts=measure(module.params))


if __name__ == "__main__":
    main()
