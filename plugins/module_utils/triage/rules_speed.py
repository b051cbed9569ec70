"""The rule for the speed of analyses: the median of the probes against the recorded baseline."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from ansible_collections.katago.fleet.plugins.module_utils.severity import Level, rank
from ansible_collections.katago.fleet.plugins.module_utils.triage import reason
from ansible_collections.katago.fleet.plugins.module_utils.triage.baseline import Machine
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import (
    Baseline,
    Comparable,
    Probes,
    SkippedProbes,
    TimedAnswer,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason

# Percent that a probe takes longer than at the baseline. A value on a bound belongs to the worse level.
# Below 10 % a median of a few probes cannot be told from noise.
SLOWER: tuple[tuple[int, Level], ...] = ((80, "P1"), (20, "P2"), (10, "P3"))
_RECORD = "run baseline.yml while all is well"


def performance(baseline: Baseline | None, probe: Probes | SkippedProbes | None) -> Iterator[Reason]:
    """Analyses take longer than at the baseline, where both are known and can be compared."""
    if baseline is None or probe is None or "skipped" in probe or fewer_visits(probe, baseline):
        return
    yield from slower(baseline, probe["answers"])


def slower(baseline: Comparable, answers: Sequence[TimedAnswer]) -> Iterator[Reason]:
    """Answers took longer than at the baseline, where they can be compared with it."""
    figures = compared(baseline, answers)
    if figures is None:
        return
    median, recorded = figures
    for percent, level in SLOWER:
        # In whole microseconds: a value on a bound must not depend on how a float was rounded.
        if round(median * 1e6) * 100 >= round(recorded * 1e6) * (100 + percent):
            yield Reason(
                level,
                "performance",
                f"a probe takes {median:.3f} s, {100 * (median / recorded - 1):.0f} % more than the"
                f" baseline's {recorded:.3f} s",
                f"less than {percent} % more",
                next=reason.MITIGATE if rank(level) >= rank("P2") else None,
            )
            return


def compared(baseline: Comparable, answers: Sequence[TimedAnswer]) -> tuple[float, float] | None:
    """The median of the answers and of the baseline in seconds; None without a baseline that fits."""
    if baseline["found"] is None or incomparable(baseline):
        return None
    median = median_seconds(answers)
    return None if median is None else (median, float(baseline["found"]["median_seconds"]))


def median_seconds(answers: Sequence[TimedAnswer]) -> float | None:
    """The median time of answers; one with problems took forever. None when that is the median."""
    seconds = [math.inf if answer["problems"] else answer["seconds"] for answer in answers]
    median = statistics.median_high(seconds) if seconds else math.inf
    return None if math.isinf(median) else median


def incomparable(baseline: Comparable) -> str | None:
    """Why nothing can be compared with the baseline; None when it fits."""
    found = baseline["found"]
    if not found:
        return f"there is no baseline; {_RECORD}"
    if found.get("identity") != baseline["identity"]:
        return (
            "the baseline is of another engine, network or configuration, or of another number of visits;"
            f" {_RECORD}"
        )
    if found.get("machine") != baseline["machine"]:
        recorded, here = _machine(found.get("machine")), _machine(baseline["machine"])
        return f"the baseline is of {recorded}, and this is {here}; {_RECORD}"
    return None


def fewer_visits(probe: Probes, baseline: Baseline) -> str | None:
    """Why probes of fewer visits than a baseline's say nothing of speed; None when they have as many."""
    if probe["visits"] == baseline["visits"]:
        return None
    return (
        f"the limits are lowered, so a probe has {probe['visits']} visits, and the baseline is of"
        f" {baseline['visits']}; it is known again when they are given back (mitigate.yml -e undo=true)"
    )


def note(why: str | None, figures: tuple[float, float] | None) -> Iterator[str]:
    """How the probes compare with the baseline, or why that is not known."""
    if why:
        yield f"performance is unknown: {why}"
    elif figures:
        yield f"a probe takes {figures[0]:.3f} s, at the baseline {figures[1]:.3f} s"


def _machine(machine: Machine | None) -> str:
    if machine is None:
        return "a machine that it does not name"
    return f"{machine['name']} ({machine['processors']} processors, {machine['device']})"
