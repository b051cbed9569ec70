"""How often a host may repair itself, measured in the time that it has run. Pure.

The wall clock decides nothing, because it may jump. Time in which the host was off, or in which nothing ran
the program, does not count. A repair therefore never seems older than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HOUR, DAY = 3600.0, 86400.0
PER_HOUR, PER_DAY = 2, 4
FLEET_PER_HOUR, FLEET_PER_DAY = 4, 8
"""Repairs of all hosts together that a monitoring host makes. Each host also has its own budget there."""
COOL_DOWN = 600.0
"""Seconds between two repairs. As long as triage looks back in the journal, so that a finding that is still
there is a new one."""


@dataclass(frozen=True)
class Clock:
    """The time that the host has run. `boot`: the boot's id. `uptime`: seconds since that boot.

    `total`: seconds since the installation, as far as the program knows them.
    """

    boot: str
    uptime: float
    total: float

    def at(self, boot: str, uptime: float) -> Clock:
        """The clock at a later reading. It never goes back."""
        elapsed = uptime - self.uptime if boot == self.boot else uptime
        return Clock(boot, uptime, self.total + max(0.0, elapsed))


@dataclass(frozen=True)
class Spent:
    """A repair that was started: its name, and when, as `Clock.total`."""

    repair: str
    total: float


@dataclass(frozen=True)
class Refusal:
    """Why no repair may start now, as a sentence without its end. `stops`: a person has to continue."""

    why: str
    stops: bool


COOLING = Refusal(f"the last repair was made less than {COOL_DOWN / 60:g} minutes ago", stops=False)


def refusal(spent: Sequence[Spent], repair: str, now: float, *, lingers: bool = False) -> Refusal | None:
    """Why a repair may not start; None if it may. `now`: as `Clock.total`.

    `lingers`: what it repairs is still found for a while afterwards.
    """
    ages = sorted(max(0.0, now - each.total) for each in spent)
    same = min((max(0.0, now - each.total) for each in spent if each.repair == repair), default=DAY)
    if lingers and same < COOL_DOWN:
        return COOLING
    if same < HOUR:
        return Refusal("the same repair was made less than an hour ago and did not last", stops=True)
    for most, span, name in ((PER_HOUR, HOUR, "an hour"), (PER_DAY, DAY, "a day")):
        if sum(age < span for age in ages) >= most:
            return Refusal(f"the budget of {most} repairs in {name} is used up", stops=True)
    return COOLING if ages and ages[0] < COOL_DOWN else None


def left(
    totals: Sequence[float], now: float, *, per_hour: int = PER_HOUR, per_day: int = PER_DAY
) -> dict[str, int]:
    """How many repairs the budget still allows in this hour and on this day.

    `totals`: when the others started; `now`: both as `Clock.total`.
    """
    ages = [max(0.0, now - each) for each in totals]
    return {
        name: max(0, most - sum(age < span for age in ages))
        for name, most, span in (("hour", per_hour, HOUR), ("day", per_day, DAY))
    }


def recent(spent: Sequence[Spent], now: float) -> list[Spent]:
    """The repairs that still count."""
    return [each for each in spent if now - each.total < DAY]
