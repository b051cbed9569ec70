"""Installs, removes, pauses and resumes self-healing on a host."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import directories, files, unit_state
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import budget, guard, units
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import state as healing_state

_SECONDS = 60
_GUARD_SECONDS = 30


def is_installed() -> bool:
    """Whether self-healing is installed."""
    return paths.SELF_HEALING_SETTINGS.exists()


def install(settings: healing_state.Settings, *, check: bool) -> bool:
    """Write settings and units, and start the timer; return whether anything changed.

    Only the first installation writes a state: a repeated one must not restore the budget. Raises OSError
    or SubprocessError.
    """
    content = {paths.SELF_HEALING_SETTINGS: json.dumps(asdict(settings), indent=1) + "\n", **units.files()}
    outdated = {path: text for path, text in content.items() if not _has(path, text)}
    changes = bool(outdated) or not _is_loaded()
    if check or not changes:
        return changes
    for directory in (paths.SELF_HEALING_SETTINGS.parent, paths.SELF_HEALING_DIRECTORY):
        directories.make(directory, own=directory)
    if not is_installed() and not paths.SELF_HEALING_STATE.exists():
        healing_state.save(_new_state(), paths.SELF_HEALING_STATE)
    for path, text in outdated.items():
        directories.make(path.parent)
        files.write(path, text.encode(), mode=0o644)
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", paths.SELF_HEALING_TIMER)
    return True


def _is_loaded() -> bool:
    """Whether the timer runs, and systemd has read all units. A run may have been killed before that."""
    # The drop-in of the service starts a repair.
    return unit_state.is_timer_current(paths.SELF_HEALING_TIMER, paths.SELF_HEALING_CHECK, paths.SERVICE_UNIT)


def remove(*, check: bool) -> bool:
    """Remove units, settings and program; return whether there were any. State, log and evidence stay."""
    removed = [
        *units.files(),
        paths.SELF_HEALING_SETTINGS,
        paths.SELF_HEALING_PROGRAM,
        *paths.SELF_HEALING_PAUSE,
    ]
    existing = [path for path in removed if path.exists()]
    if check or not existing:
        return bool(existing)
    _systemctl("disable", "--now", paths.SELF_HEALING_TIMER, required=False)
    for path in existing:
        path.unlink()
    for directory in (paths.SELF_HEALING_DROP_IN.parent, paths.SELF_HEALING_SETTINGS.parent):
        # Others may have files there.
        with suppress(OSError):
            directory.rmdir()
    _systemctl("daemon-reload")
    return True


def pause(new: healing_state.Pause, *, check: bool) -> bool:
    """Pause repairs; return whether they were not paused by a file before. Raises OSError."""
    return healing_state.write_pause(new, paths.SELF_HEALING_PAUSE, check=check)


def resume(*, check: bool) -> list[str]:
    """Resume repairs; return what had kept the host from them, as parts of sentences; [] if nothing had.

    Raises guard.BusyError while a repair runs, and OSError.
    """
    with guard.held(paths.SELF_HEALING_GUARD, _GUARD_SECONDS):
        reasons = []
        if paused := healing_state.pause(paths.SELF_HEALING_PAUSE):
            reasons.append(str(paused))
        state = _state()
        if state.escalation is not None and state.escalation.stops:
            reasons.append(f"stopped since {state.escalation.at}: {state.escalation.why}")
        if reasons and not check:
            resumed = replace(state, checked_at=timestamps.now(), escalation=None).having("idle")
            healing_state.save(resumed, paths.SELF_HEALING_STATE)
            for path in paths.SELF_HEALING_PAUSE:
                path.unlink(missing_ok=True)
    return reasons


def _state() -> healing_state.State:
    """The state; a new one with a reason if it is lost, because a person resumes."""
    try:
        return healing_state.load(paths.SELF_HEALING_STATE)
    except healing_state.StateError as error:
        lost = healing_state.Escalation(timestamps.now(), str(error), stops=True)
        return replace(_new_state(), escalation=lost)


def _new_state() -> healing_state.State:
    now = timestamps.now()
    # The first run replaces the boot.
    return healing_state.State(budget.Clock("", 0.0, 0.0), now, since=now)


def _has(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


def _systemctl(*arguments: str, required: bool = True) -> None:
    subprocess.run(
        ["systemctl", *arguments], check=required, capture_output=True, text=True, timeout=_SECONDS
    )
