"""Whether known writes survived a drill: the lines of the history of releases on each host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Data


def lost(before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]], injected: str) -> Data:
    """The known writes before the fault and those that are missing, lines by host.

    The age of the oldest lost write is counted to `injected`, the time of the fault.
    """
    missing = [line for host, lines in before.items() for line in lines if line not in after.get(host, ())]
    ages = [age for line in missing if (age := _age(line, injected)) is not None]
    return Data(
        writes=sum(len(lines) for lines in before.values()),
        lost=len(missing),
        rpo_seconds=max(ages, default=None),
    )


def _age(line: str, injected: str) -> float | None:
    """Seconds from a write to the fault; None if the line has no time."""
    try:
        written = timestamps.parse(str(shape.mapping(shape.parsed(line))["at"]))
    except (KeyError, ValueError):
        return None
    return max(0.0, (timestamps.parse(injected) - written).total_seconds())
