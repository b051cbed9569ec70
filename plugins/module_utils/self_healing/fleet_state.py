"""What the program that repairs the fleet remembers on its monitoring host, and its settings.

A state that is missing or damaged is an error: an empty one would restore the whole budget.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ansible_collections.katago.fleet.plugins.module_utils.self_healing import budget
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.budget import DAY, Clock
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.state import (
    Remembered,
    check,
    read,
)

_MOST_REPAIRS = 1000

Result = Literal["started", "repaired", "failed", "refused", "interrupted"]


@dataclass(frozen=True)
class FleetRepair:
    """A repair of the last day. `total`: as in `Clock`. `alert`: the alert that led to it."""

    id: str
    action: str
    host: str
    alert: str
    at: str
    total: float
    result: Result


@dataclass(frozen=True)
class Handled:
    """An alert that a run has handled. `host`: empty if it is about no single host.

    `settled`: whether nothing more is done for it. If not, the next message about it is another attempt.
    `incident`: the incident that it opened or joined; empty if it needed none.
    """

    alert: str
    host: str
    starts_at: str
    total: float
    settled: bool
    incident: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What makes two alerts the same one."""
        return self.alert, self.host


@dataclass(frozen=True)
class State(Remembered):
    """The content of the state's file. `runs`: of the program for new alerts."""

    repairs: tuple[FleetRepair, ...] = ()
    handled: tuple[Handled, ...] = ()
    runs: int = 0

    def at(self, clock: Clock, now: str) -> State:
        """The state at a later reading of the clock, without what no longer counts."""
        return replace(
            self,
            clock=clock,
            checked_at=now,
            repairs=tuple(each for each in self.repairs if clock.total - each.total < DAY),
            handled=tuple(each for each in self.handled if clock.total - each.total < DAY),
        )

    def after(self, *handled: Handled) -> State:
        """The state after these alerts were handled. The newest entry of an alert replaces earlier ones."""
        new = {each.key: each for each in (*self.handled, *handled)}
        return replace(self, handled=tuple(new.values()))

    def settled(self, *keys: tuple[str, str]) -> State:
        """The state if nothing more is done for these alerts."""
        handled = tuple(replace(each, settled=True) if each.key in keys else each for each in self.handled)
        return replace(self, handled=handled)

    def started(self, repair: FleetRepair, why: str) -> State:
        """The state with a repair that has started."""
        return replace(self.having("repairing", why), repairs=(*self.repairs, repair))

    def finished(self, id: str, result: Result) -> State:
        """The state after a repair has ended with this result."""
        action = next((each.action for each in self.repairs if each.id == id), "unknown")
        repairs = tuple(replace(each, result=result) if each.id == id else each for each in self.repairs)
        return replace(self, repairs=repairs, counts=self.counted(action, result))


def left(state: State, boot: str, uptime: float) -> dict[str, int]:
    """How many repairs the fleet's budget still allows, by `hour` and `day`.

    `boot`, `uptime`: now, because the program runs only when alerts fire.
    """
    return budget.left(
        [each.total for each in state.repairs],
        state.clock.at(boot, uptime).total,
        per_hour=budget.FLEET_PER_HOUR,
        per_day=budget.FLEET_PER_DAY,
    )


def load(path: Path) -> State:
    """Read and check the state. Raises StateError."""
    state = read(State, path, "the state")
    totals = [*(each.total for each in state.repairs), *(each.total for each in state.handled)]
    check(path, state, totals, len(state.repairs), _MOST_REPAIRS)
    return state


@dataclass(frozen=True)
class Settings:
    """The variables of the monitoring host.

    `actions`: what may be done. `hosts`: the names of the fleet's hosts. `records`: the directory of the
    incidents. `page`: the role of the roster that is called; empty for nobody. `drains`: whether there are
    load balancers.
    """

    actions: tuple[str, ...]
    hosts: tuple[str, ...]
    records: str
    dry_run: bool = False
    paused: bool = False
    page: str = ""
    drains: bool = False


def settings(path: Path) -> Settings:
    """Read the settings. Raises StateError."""
    return read(Settings, path, "the settings")
