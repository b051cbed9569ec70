"""What self-healing does on a host, and for the fleet on a monitoring host: facts for people and programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import budget, fleet_state
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import state as healing_state

NEWEST = 3
"""How many of the last day's repairs are shown."""


@dataclass(frozen=True)
class Places:
    """The files that are read."""

    settings: Path = paths.SELF_HEALING_SETTINGS
    state: Path = paths.SELF_HEALING_STATE
    pause: Sequence[Path] = paths.SELF_HEALING_PAUSE


FLEET = Places(paths.FLEET_HEALING_SETTINGS, paths.FLEET_HEALING_STATE, paths.FLEET_HEALING_PAUSE)


@dataclass(frozen=True)
class Repair:
    """A repair of the last day. `host`: empty if it is the host's own one."""

    repair: str
    at: str
    result: str
    host: str = ""


@dataclass(frozen=True)
class Healing:
    """The state of self-healing.

    `installed`: whether it is set up. `mode`: active or dry run. `paused`: by whom and why; empty if it is
    not. `stopped`: since when and why; empty if it is not. `status`, `why`, `checked_at`: of its last run.
    `left`: repairs that may still start, by `hour` and `day`. `repairs`: the newest, the last one first.
    `counts`: finished repairs since the installation, by result. `problem`: why the state cannot be read;
    empty if it can.
    """

    installed: bool = False
    mode: str = ""
    paused: str = ""
    stopped: str = ""
    status: str = ""
    why: str = ""
    checked_at: str = ""
    left: dict[str, int] = field(default_factory=dict)
    repairs: tuple[Repair, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    problem: str = ""


def of_host(places: Places, boot: str, uptime: float) -> Healing:
    """Self-healing of the host itself. `uptime`: seconds since the boot."""
    if not places.settings.exists():
        return Healing()
    try:
        settings = healing_state.settings(places.settings)
        state = healing_state.load(places.state)
    except healing_state.StateError as error:
        return Healing(installed=True, problem=str(error))
    now = state.clock.at(boot, uptime).total
    left = budget.left([each.total for each in state.spent()], now)
    repairs = [Repair(each.repair, each.at, each.result) for each in state.repairs[-NEWEST:]]
    paused = _paused("self_healing_paused" if settings.paused else "", places.pause)
    return _healing(state, repairs, left, paused, is_dry=settings.dry_run)


def of_fleet(places: Places, boot: str, uptime: float) -> Healing:
    """Fleet healing, on its monitoring host. `uptime`: seconds since the boot."""
    if not places.settings.exists():
        return Healing()
    try:
        settings = fleet_state.settings(places.settings)
        state = fleet_state.load(places.state)
    except healing_state.StateError as error:
        return Healing(installed=True, problem=str(error))
    left = fleet_state.left(state, boot, uptime)
    repairs = [Repair(each.action, each.at, each.result, each.host) for each in state.repairs[-NEWEST:]]
    paused = _paused("fleet_healing_paused" if settings.paused else "", places.pause)
    return _healing(state, repairs, left, paused, is_dry=settings.dry_run)


def _healing(
    state: healing_state.Remembered,
    repairs: Sequence[Repair],
    left: dict[str, int],
    paused: str,
    *,
    is_dry: bool,
) -> Healing:
    return Healing(
        installed=True,
        mode="dry run" if is_dry else "active",
        paused=paused,
        stopped=_stopped(state.escalation),
        status=state.status,
        why=state.why,
        checked_at=state.checked_at,
        left=left,
        repairs=tuple(reversed(repairs)),
        counts=_by_result(state.counts),
    )


def as_dict(healing: Healing) -> dict[str, Any]:
    """The facts as plain values."""
    return asdict(healing)


def _by_result(counts: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts.values():
        total.update(each)
    return dict(total)


def _paused(variable: str, places: Sequence[Path]) -> str:
    paused = healing_state.pause(places)
    return str(paused) if paused else f"paused by the variable {variable}" if variable else ""


def _stopped(escalation: healing_state.Escalation | None) -> str:
    if escalation is None or not escalation.stops:
        return ""
    return f"stopped since {escalation.at}: {escalation.why}"
