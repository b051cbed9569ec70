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

# Percent by which a probe takes longer than the baseline. A value on a bound belongs to the worse level.
# Below 10 % the median of a few probes cannot be distinguished from noise.
SLOWER: tuple[tuple[int, Level], ...] = ((80, "P1"), (20, "P2"), (10, "P3"))
_RECORD = "record one with baseline.yml while the host is healthy"


def performance(baseline: Baseline | None, probe: Probes | SkippedProbes | None) -> Iterator[Reason]:
    """Report probes that are slower than the baseline, if both are known and comparable."""
    if baseline is None or probe is None or "skipped" in probe or fewer_visits(probe, baseline):
        return
    yield from slower(baseline, probe["answers"])


def slower(baseline: Comparable, answers: Sequence[TimedAnswer]) -> Iterator[Reason]:
    """Report answers that took longer than the baseline, if they are comparable with it."""
    figures = compared(baseline, answers)
    if figures is None:
        return
    median, recorded = figures
    for percent, level in SLOWER:
        # Compared in whole microseconds: float rounding must not move a value across a bound.
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
    """The median of the answers and that of the baseline, in seconds; None without a matching baseline."""
    if baseline["found"] is None or incomparable(baseline):
        return None
    median = median_seconds(answers)
    return None if median is None else (median, float(baseline["found"]["median_seconds"]))


def median_seconds(answers: Sequence[TimedAnswer]) -> float | None:
    """The median time of the answers, in seconds. An answer with problems counts as infinitely slow.

    None if the median is infinite, or if there are no answers.
    """
    seconds = [math.inf if answer["problems"] else answer["seconds"] for answer in answers]
    median = statistics.median_high(seconds) if seconds else math.inf
    return None if math.isinf(median) else median


def incomparable(baseline: Comparable) -> str | None:
    """Why measurements cannot be compared with the baseline; None if they can."""
    record = baseline["found"]
    if not record:
        return f"there is no baseline; {_RECORD}"
    if record.get("identity") != baseline["identity"]:
        return (
            "the baseline was recorded with another engine, network or configuration, or with another number"
            f" of visits; {_RECORD}"
        )
    if record.get("machine") != baseline["machine"]:
        recorded, here = _machine(record.get("machine")), _machine(baseline["machine"])
        return f"the baseline was recorded on {recorded}, but this host is {here}; {_RECORD}"
    return None


def fewer_visits(probe: Probes, baseline: Baseline) -> str | None:
    """Why probes with fewer visits than the baseline cannot be compared; None if the visits are equal."""
    if probe["visits"] == baseline["visits"]:
        return None
    return (
        f"the limits are lowered: a probe has {probe['visits']} visits, the baseline has"
        f" {baseline['visits']}, so they are not compared; mitigate_undo.yml restores the limits"
    )


def note(why: str | None, figures: tuple[float, float] | None) -> Iterator[str]:
    """How the probes compare with the baseline, or why this is unknown."""
    if why:
        yield f"performance is unknown: {why}"
    elif figures:
        yield f"a probe takes {figures[0]:.3f} s; the baseline is {figures[1]:.3f} s"


def _machine(machine: Machine | None) -> str:
    if machine is None:
        return "an unnamed machine"
    return f"{machine['name']} ({machine['processors']} processors, {machine['device']})"
