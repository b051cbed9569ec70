"""The repairs of the allow-list, made with the code of the procedures, and validated as they are."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import endings, procfs
from ansible_collections.katago.fleet.plugins.module_utils.release import history
from ansible_collections.katago.fleet.plugins.module_utils.release.layout import Layout
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import policy
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.log import WHO
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    cache,
    control,
    limits,
    overlay_apply,
    switch,
    unit,
    validation,
)
from ansible_collections.katago.fleet.plugins.module_utils.service import restart as service_restart
from ansible_collections.katago.fleet.plugins.module_utils.triage import rules_host

LOWERED_MINUTES = 60.0
_VACUUM_SECONDS = 120


class RepairError(Exception):
    """The repair failed; the message says why, in sentences."""


def restart(_fault: str) -> str:
    """Restart the service by force, and validate it."""
    _restart()
    return f"The service was restarted by force; {_validated()}."


def roll_back(fault: str) -> str:
    """Reject the current release, switch to the last validated one, and validate it."""
    layout = Layout(paths.RELEASE_ROOT)
    current = layout.current_release()
    records = history.read(paths.HISTORY)
    try:
        release = switch.last_validated(layout, records, current)
        directory = layout.release(release)
        switch.require_start(directory, (directory / paths.SERVICE_UNIT).read_text())
        if current:
            _record(history.Record(timestamps.now(), WHO, current, None, fault, "bad"))
        new = history.Record(timestamps.now(), WHO, release, current, fault, how="rollback")
        switch.switch(layout, new, paths.HISTORY)
    except switch.SwitchError as error:
        raise RepairError(f"The host could not be rolled back: {error}.") from error
    _restart()
    validated = _validated()
    _record(history.Record(timestamps.now(), WHO, release, None, "validated", "good"))
    return f"Rolled back from {current or 'no release'}; {validated}. {current} was rejected."


def quarantine_cache(_fault: str) -> str:
    """Stop the service, quarantine the cache by renames, start the service, and validate both."""
    try:
        directory = cache.directory(paths.SERVICE_UNIT_FILE, paths.CONFIG)
    except cache.RefusedError as error:
        raise RepairError(f"The cache was not touched. {error}") from error
    service_restart.prepare()
    try:
        control.stop(unit.control_group(), force=False)
        moved = cache.move_to_quarantine(directory, timestamps.now())
    finally:
        # Also after a failure: a damaged cache is better than a stopped service.
        control.start(control.start_deadline())
    validated = _validated()
    if problems := cache.verified(paths.SERVICE_USER, paths.COMMAND, paths.CONFIG)["problems"]:
        raise RepairError(f"The new cache is damaged too: {'; '.join(problems)}.")
    where = f" in {moved[0].parent}" if moved else ""
    return f"{len(moved)} files of the cache were quarantined{where}; {validated}."


def lower_limits(fault: str) -> str:
    """Halve the visits and allow one analysis at a time, for an hour."""
    changes = _lower(_halved, f"self-healing: {fault}")
    return f"Limits are lowered for {LOWERED_MINUTES:g} minutes: {changes}; {_validated()}."


def free_disk(fault: str) -> str:
    """Vacuum the journal, halve the cache for an hour, and start the service if it has failed."""
    done = [_vacuum()]
    if unit.state().active == "active":
        try:
            done.append(
                f"the cache is smaller for an hour: {_lower(_smaller_cache, f'self-healing: {fault}')}"
            )
        except (limits.OverlayError, overlay_apply.RefusedError) as error:
            done.append(f"the cache was not made smaller: {str(error).rstrip('.')}")
    scarce = [
        f"{', '.join(each['paths'])}: {each['free_percent']:g} %"
        for each in procfs.filesystems([policy.JOURNAL, policy.CACHE])
        if each["free_percent"] is not None and each["free_percent"] < rules_host.SCARCE_PERCENT
    ]
    if scarce:
        raise RepairError(f"The disk is still nearly full ({'; '.join(scarce)} free): {'; '.join(done)}.")
    if unit.state().active == "failed":
        _restart()
        done.append("the service was restarted")
    return f"{'; '.join(done)}; {_validated()}."


REPAIRS: Mapping[policy.Name, Callable[[str], str]] = {
    "free_disk": free_disk,
    "roll_back": roll_back,
    "restart": restart,
    "quarantine_cache": quarantine_cache,
    "lower_limits": lower_limits,
}
"""Each repair gets the fault, and returns what it did, in sentences. It raises `FAILURES` if it fails."""

FAILURES = (
    RepairError,
    control.RestartError,
    limits.OverlayError,
    overlay_apply.RefusedError,
    cache.UnverifiedError,
    OSError,
    RuntimeError,
    ValueError,
    subprocess.SubprocessError,
)


def message(error: Exception) -> str:
    """Why a repair failed, for people."""
    if isinstance(error, (OSError, subprocess.SubprocessError)):
        return endings.of_error(error)
    return str(error)


def _restart() -> None:
    service_restart.prepare()
    if problem := service_restart.load_problem():
        raise RepairError(f"{problem}.")
    control.restart(unit.control_group(), force=True)


def _validated() -> str:
    """Validate the service as every procedure does. Raises RepairError with what failed."""
    layout = Layout(paths.RELEASE_ROOT)
    if failures := validation.failures(layout):
        raise RepairError(f"The service does not work afterwards: {failures}")
    return f"{layout.current_release()} runs and is validated"


def _record(record: history.Record) -> None:
    history.append(record, paths.HISTORY)


def _lower(parts: Callable[[Mapping[str, Any]], dict[str, int]], why: str) -> str:
    """Lower limits, unless some are lowered already; return the changes. Raises RepairError without one."""
    config, before = overlay_apply.look()
    if before is not None:
        raise overlay_apply.RefusedError("Other limits are lowered already.")
    request = limits.parse(parts(config), LOWERED_MINUTES, why[: limits.LONGEST_WHY])
    return overlay_apply.lower(request, WHO).changes


def _halved(config: Mapping[str, Any]) -> dict[str, int]:
    """Half the visits, and one analysis at a time, where that is less than configured."""
    katago = config["katago"]
    visits, concurrent = katago.get("maxVisits"), katago.get("maxConcurrent")
    lowered = {}
    if isinstance(visits, int) and visits > 1:
        lowered["visits"] = visits // 2
    if isinstance(concurrent, int) and concurrent > 1:
        lowered["concurrent"] = 1
    return lowered


def _smaller_cache(_config: Mapping[str, Any]) -> dict[str, int]:
    """Half of what the cache takes now."""
    directory = cache.directory(paths.SERVICE_UNIT_FILE, paths.CONFIG)
    return {"cache_mb": max(1, sum(cache.content(directory).values()) // 2 >> 20)}


def _vacuum() -> str:
    command = ["journalctl", f"--vacuum-size={policy.JOURNAL_KEPT_BYTES}", "--quiet"]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_VACUUM_SECONDS)
    return f"the journal was vacuumed to {policy.JOURNAL_KEPT_BYTES >> 20} MB"
