"""Computes from the records of drills what is overdue, and how recoveries change over time. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from ansible_collections.katago.fleet.plugins.module_utils.severity import Severity
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import archive
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Mode, Record
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import Scenario

INTERVAL_DAYS: Mapping[Severity, int] = {"P0": 31, "P1": 31, "P2": 92, "P3": 183}
"""The most days between two drills of a scenario, by its level."""

MONTHLY_DAYS = 31
MONTHLY = "Monthly drill with people (P0 or P1)"
"""The runbook's monthly drill: a scenario of P0 or P1 with the person on call and the backup."""

_HELD = ("passed", "failed")
_SEVERE = ("P0", "P1")


@dataclass(frozen=True)
class Due:
    """When a scenario is due. `last`: the day of the newest drill; None if there was none."""

    name: str
    last: date | None
    days: int
    due: date | None

    def is_overdue(self, on: date) -> bool:
        """Whether it was still due on a day after its due date, or was never drilled."""
        return self.due is None or self.due < on


@dataclass(frozen=True)
class Trend:
    """The recoveries of a scenario in a mode: medians in seconds, None without a recovery.

    `drills`: the number of drills in the period. `target`: the newest target.
    """

    scenario: str
    mode: Mode
    drills: int
    now: float | None
    before: float | None
    target: float | None


def counts(record: Record) -> bool:
    """Whether a drill counts as held: it had a fault that landed, and it was not aborted."""
    return record["mode"] != "tabletop" and record["outcome"] in _HELD


def due(drills: Iterable[Record], scenarios: Mapping[str, Scenario]) -> list[Due]:
    """The runbook's monthly drill, then each scenario: those that are due first come first.

    Tabletop, invalid and aborted drills do not count. The monthly drill needs people.
    """
    held = [each for each in drills if counts(each)]
    by_name = {
        name: (INTERVAL_DAYS[scenario.level], [each for each in held if each["scenario"] == name])
        for name, scenario in scenarios.items()
    }
    rows = [_due(name, days, records) for name, (days, records) in by_name.items()]
    rows.sort(key=lambda each: (each.due or date.min, each.name))
    people = [each for each in held if each["mode"] == "person" and each["level"] in _SEVERE]
    return [_due(MONTHLY, MONTHLY_DAYS, people), *rows]


def recoveries(now: Sequence[Record], before: Sequence[Record]) -> list[Trend]:
    """The recoveries of each scenario and mode in a period, and in the period before."""
    keys = sorted({(each["scenario"], each["mode"]) for each in now if counts(each)})
    trends = []
    for scenario, mode in keys:
        current, earlier = (
            [each for each in drills if counts(each) and (each["scenario"], each["mode"]) == (scenario, mode)]
            for drills in (now, before)
        )
        target = current[-1]["targets"]["recover"]
        trends.append(Trend(scenario, mode, len(current), _median(current), _median(earlier), target))
    return trends


def of_target(drills: Iterable[Record]) -> float | None:
    """The median of the recoveries as a share of their targets, over all scenarios; None without any."""
    shares = [share for each in drills if (share := share_of_target(each)) is not None]
    return statistics.median(shares) if shares else None


def share_of_target(record: Record) -> float | None:
    """The recovery of a drill as a share of its target; None without a recovery or a target."""
    seconds, target = record["times"]["recover"], record["targets"]["recover"]
    return seconds / target if counts(record) and seconds is not None and target else None


def participants(drills: Iterable[Record]) -> dict[str, dict[Mode, int]]:
    """The number of drills by person and mode, by name. Invalid and aborted drills do not count."""
    people: dict[str, dict[Mode, int]] = {}
    for record in drills:
        if record["outcome"] in _HELD:
            for name in dict.fromkeys(record["participants"]):
                count = people.setdefault(name, {})
                count[record["mode"]] = count.get(record["mode"], 0) + 1
    return dict(sorted(people.items()))


def _due(name: str, days: int, drills: Sequence[Record]) -> Due:
    last = max(map(archive.day_of, drills), default=None)
    return Due(name, last, days, last + timedelta(days=days) if last else None)


def _median(drills: Sequence[Record]) -> float | None:
    seconds = [value for each in drills if (value := each["times"]["recover"]) is not None]
    return statistics.median(seconds) if seconds else None
