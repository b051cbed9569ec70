"""The record of a drill that starts, and changes of it while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.plan import Plan
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import SCHEMA, Mode, Record, Times
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS

CHANGED = frozenset({"fault", "incident", "steady_state", "undo"})
"""What a drill changes of its record before it ends."""


def record(drill: str, plan: Plan, fleet: str, now: str) -> Record:
    """The record of a drill that starts now, on a fleet that was found healthy."""
    scenario = SCENARIOS[plan.scenario]
    return Record(
        schema=SCHEMA,
        id=drill,
        scenario=plan.scenario,
        sealed=plan.sealed,
        mode=plan.mode,
        fleet=fleet,
        hosts=[each.host for each in plan.targets],
        participants=list(plan.participants),
        incident="",
        level=scenario.level,
        started=now,
        ended=None,
        outcome="running",
        reason="",
        steady_state={"healthy": True, "problems": []},
        fault={"injected": None, "landed": None, "seen": ""},
        times=Times(detect=None, acknowledge=None, mitigate=None, recover=None),
        targets=_targets(scenario.targets, plan.mode),
        traffic={"interval": 0.0, "requests": 0, "failed": 0, "sessions": 0, "sessions_lost": 0},
        data={"writes": 0, "lost": 0, "rpo_seconds": None},
        actions=[],
        messages=[],
        undo={"armed": None, "expires": None, "done": None, "by": ""},
        differences=[],
        answers={},
    )


def changed(before: Record, changes: Mapping[str, Any]) -> Record:
    """The record with changes. Mappings are merged.

    Raises:
        shape.ShapeError: a change is not one of CHANGED, or has the wrong type.
    """
    if surplus := sorted(changes.keys() - CHANGED):
        raise shape.ShapeError(f"{surplus[0]} does not change while a drill runs")
    merged: dict[str, Any] = dict(before)
    for name, value in changes.items():
        merged[name] = {**merged[name], **value} if isinstance(value, Mapping) else value
    return shape.typed(Record, merged)


def _targets(targets: Times, mode: Mode) -> Times:
    """The targets of a scenario. People have the response time of the level in addition."""
    response = targets["acknowledge"]
    if mode != "person" or response is None:
        return targets
    mitigate, recover = targets["mitigate"], targets["recover"]
    return Times(
        detect=targets["detect"],
        acknowledge=response,
        mitigate=None if mitigate is None else mitigate + response,
        recover=None if recover is None else recover + response,
    )
