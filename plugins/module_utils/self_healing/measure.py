"""Measures on the host what the policy decides by, with the checks of triage, in two steps.

The first step is quick, because a timer runs it every minute. The second one follows only if the first one
has found a fault.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import workers
from ansible_collections.katago.fleet.plugins.module_utils.release import deployed
from ansible_collections.katago.fleet.plugins.module_utils.release.layout import Layout
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.policy import Case, Name
from ansible_collections.katago.fleet.plugins.module_utils.service import cache, endpoints
from ansible_collections.katago.fleet.plugins.module_utils.service import journal as service_journal
from ansible_collections.katago.fleet.plugins.module_utils.triage import checks, facts

WRITTEN = ("/", "/opt", "/var", "/var/log/journal", "/var/lib/katago-mcp", "/var/cache/katago-mcp")
_EVENTS = '"event": ?"(engine_state|cache_[a-z]+)"'
_QUICK_SECONDS = 10.0
_ANSWER_SECONDS = 3.0
_THOROUGH_SECONDS = 60.0
# Long enough for a burst of refused logins to show, and short enough for a repair in seconds.
_TRAFFIC_SECONDS = 2.0

_Checks = Mapping[str, Callable[[], Any]]


def look() -> Case:
    """What shows whether anything has to be repaired."""
    layout = Layout(paths.RELEASE_ROOT)
    return Case(facts.read(_run(_quick(layout), _QUICK_SECONDS)))


def examine(repair: Name) -> Case:
    """Everything that the policy decides by, if it is `repair`. Reads all files of the release."""
    layout = Layout(paths.RELEASE_ROOT)
    at = endpoints.Endpoints.of_release(layout)
    before, began = at.exposed(_ANSWER_SECONDS), time.monotonic()
    thorough: dict[str, Callable[[], Any]] = {
        "health": lambda: checks.answer(at, "/health", _ANSWER_SECONDS),
        "release": lambda: checks.release(layout),
        "security": checks.security,
        "ports": lambda: checks.ports(at, paths.PROC),
    }
    if repair == "free_disk":
        thorough["consumers"] = checks.consumers
    if repair == "quarantine_cache":
        thorough["cache"] = _cache_problems
    entries = _run({**_quick(layout), **thorough}, _THOROUGH_SECONDS)
    verified = entries.pop("cache", {})
    if before is not None:
        time.sleep(max(0.0, began + _TRAFFIC_SECONDS - time.monotonic()))
    seconds = time.monotonic() - began
    traffic = checks.traffic(before, at.exposed(_ANSWER_SECONDS), seconds, at.unserved, 0)
    return Case(facts.read({**entries, "traffic": {"value": traffic}}), verified.get("value"))


def _quick(layout: Layout) -> _Checks:
    return {
        "unit": checks.unit,
        "undeployed": lambda: deployed.undeployed(layout, paths.SERVICE_UNIT_FILE),
        "filesystems": lambda: checks.filesystems(WRITTEN),
        "history": lambda: checks.history(layout, paths.HISTORY),
        "events": _events,
    }


def _run(measured: _Checks, seconds: float) -> dict[str, Any]:
    """The entries of the checks, each in its own process with its own deadline."""
    running = workers.Measuring()
    for name, check in measured.items():
        running.start(name, check, seconds)
    entries = running.results()
    events = entries.pop("events")
    for name in ("journal", "engine_journal"):
        entries[name] = {"value": events["value"][name]} if "value" in events else events
    return entries


def _events() -> dict[str, Any]:
    """The facts that the service's own log shows, without its other lines."""
    lines = service_journal.read(facts.WINDOW_MINUTES, f"_SYSTEMD_UNIT={paths.SERVICE_UNIT}", grep=_EVENTS)
    return {
        "journal": {
            "groups": [],
            "unstructured": 0,
            "cache_trouble": service_journal.cache_trouble(lines),
            "lines": len(lines),
            "truncated": False,
        },
        "engine_journal": {"failures": service_journal.engine_failures(lines)},
    }


def _cache_problems() -> list[str]:
    """What is wrong with the cache's file."""
    return list(cache.verified(paths.SERVICE_USER, paths.COMMAND, paths.CONFIG)["problems"])
