"""All kinds of steps, and their form on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.drill import (
    steps_files,
    steps_network,
    steps_units,
)
from ansible_collections.katago.fleet.plugins.module_utils.drill.step import Step

KINDS: Mapping[str, type[Step]] = {
    kind.__name__: kind
    for kind in (
        steps_files.BadRelease,
        steps_files.Full,
        steps_files.Lowered,
        steps_files.Pages,
        steps_files.Replaced,
        steps_network.Clock,
        steps_network.Table,
        steps_units.Blocked,
        steps_units.Continued,
        steps_units.Frozen,
        steps_units.Helper,
        steps_units.Hung,
        steps_units.Quota,
        steps_units.Unit,
    )
}


def written(steps: Iterable[Step]) -> tuple[Mapping[str, Any], ...]:
    """Steps as plain values."""
    return tuple({"kind": type(each).__name__, **asdict(each)} for each in steps)  # type: ignore[call-overload]


def read(values: Iterable[Mapping[str, Any]]) -> list[Step]:
    """Steps from plain values. Raises shape.ShapeError."""
    steps = []
    for number, value in enumerate(values):
        place = f"steps[{number}]"
        kind = KINDS.get(str(value.get("kind")))
        if kind is None:
            raise shape.ShapeError(f"{place}.kind is {value.get('kind')!r}, not one of {', '.join(KINDS)}")
        content = {name: each for name, each in value.items() if name != "kind"}
        steps.append(shape.record(kind, content, place))
    return steps
