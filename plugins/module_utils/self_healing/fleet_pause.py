"""Pauses and resumes fleet healing on a monitoring host."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import budget, fleet_state, guard
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import state as healing_state

_GUARD_SECONDS = 30


@dataclass(frozen=True)
class Places:
    """The files of healing on a monitoring host."""

    settings: Path = paths.FLEET_HEALING_SETTINGS
    state: Path = paths.FLEET_HEALING_STATE
    guard: Path = paths.FLEET_HEALING_GUARD
    pause: Sequence[Path] = paths.FLEET_HEALING_PAUSE


def new_state() -> fleet_state.State:
    """The state of a new installation."""
    now = timestamps.now()
    # The first run replaces the boot.
    return fleet_state.State(budget.Clock("", 0.0, 0.0), now, since=now)


def create_state(places: Places, *, check: bool) -> bool:
    """Write a state if there is none; return whether there was none. A lost one is not replaced.

    The guard is older than every state, so a state that is missing beside it was lost. Raises OSError.
    """
    if places.guard.exists() or places.state.exists():
        return False
    if not check:
        owner = places.state.parent.stat()
        healing_state.save(new_state(), places.state)
        places.guard.touch(mode=0o600)
        for path in (places.state, places.guard):
            os.chown(path, owner.st_uid, owner.st_gid)
    return True


def resume(places: Places, *, check: bool) -> list[str]:
    """Resume; return what had kept healing from repairs, as parts of sentences; [] if nothing had.

    Raises guard.BusyError while a run is in progress, and OSError.
    """
    with guard.held(places.guard, _GUARD_SECONDS):
        reasons = []
        if paused := healing_state.pause(places.pause):
            reasons.append(str(paused))
        state = _state(places.state)
        if state.escalation is not None and state.escalation.stops:
            reasons.append(f"stopped since {state.escalation.at}: {state.escalation.why}")
        if reasons and not check:
            resumed = replace(state, checked_at=timestamps.now(), escalation=None).having("idle")
            healing_state.save(resumed, places.state)
            for path in places.pause:
                path.unlink(missing_ok=True)
    return reasons


def _state(path: Path) -> fleet_state.State:
    """The state; a new one with a reason if it is lost, because a person resumes."""
    try:
        return fleet_state.load(path)
    except healing_state.StateError as error:
        lost = healing_state.Escalation(timestamps.now(), str(error), stops=True)
        return replace(new_state(), escalation=lost)
