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
# For a normal distribution, three median absolute deviations are two standard deviations of a probe.
SPREADS = 3
_RECORD = "record one with baseline.yml while the host is healthy"


def performance(baseline: Baseline | None, probe: Probes | SkippedProbes | None) -> Iterator[Reason]:
    """Report probes that are slower than the baseline, if both are known and comparable."""
    if baseline is None or probe is None or "skipped" in probe or fewer_visits(probe, baseline):
        return
    yield from slower(baseline, *rounds(probe))


def rounds(probe: Probes) -> list[Sequence[TimedAnswer]]:
    """The answers of each round of probes."""
    return [probe["answers"], *([probe["again"]["answers"]] if "again" in probe else [])]


def slower(baseline: Comparable, *rounds: Sequence[TimedAnswer]) -> Iterator[Reason]:
    """Report answers that took longer than the baseline, if they are comparable with it.

    Every round must be slower, by more than the baseline's own spread.
    """
    figures = compared(baseline, *rounds)
    if figures is None:
        return
    median, recorded = figures
    most = _most(baseline, median)
    # Compared in whole microseconds: float rounding must not move a value across a bound.
    percent, level = next(
        (
            (percent, level)
            for percent, level in SLOWER
            if round(median * 1e6) * 100 >= round(recorded * 1e6) * (100 + percent)
            and rank(level) <= rank(most)
        ),
        (0, most),
    )
    if percent:
        yield Reason(
            level,
            "performance",
            f"a probe takes {median:.3f} s, {100 * (median / recorded - 1):.0f} % more than the"
            f" baseline's {recorded:.3f} s",
            f"less than {percent} % more",
            next=reason.MITIGATE if rank(level) >= rank("P2") else None,
        )


def _most(baseline: Comparable, median: float) -> Level:
    """The worst level that the baseline's own spread permits for a median, in seconds."""
    record = baseline["found"] or {"median_seconds": 0}
    if "spread_seconds" in record:
        bound = float(record["median_seconds"]) + SPREADS * float(record["spread_seconds"])
        return "healthy" if median <= bound else "P1"
    # Baselines of 0.2.0 have no spread. Among the times of their own probes, a slowdown is uncertain.
    return "P3" if median <= float(record.get("slowest_seconds", 0)) else "P1"


def spread_seconds(seconds: Sequence[float]) -> float:
    """The median absolute deviation of probes from their median, which a few outliers do not change."""
    median = statistics.median(seconds)
    return statistics.median(abs(each - median) for each in seconds)


def compared(baseline: Comparable, *rounds: Sequence[TimedAnswer]) -> tuple[float, float] | None:
    """The median of the fastest round and that of the baseline, in seconds.

    None without a matching baseline, and if a round has no median: then it is no evidence.
    """
    if baseline["found"] is None or incomparable(baseline):
        return None
    medians = [median_seconds(answers) for answers in rounds]
    known = [median for median in medians if median is not None]
    if not known or len(known) < len(medians):
        return None
    return min(known), float(baseline["found"]["median_seconds"])


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


def note(why: str | None, baseline: Comparable | None, *rounds: Sequence[TimedAnswer]) -> Iterator[str]:
    """How the probes compare with the baseline, or why this is unknown."""
    if why:
        yield f"performance is unknown: {why}"
        return
    if baseline is None or (figures := compared(baseline, *rounds)) is None:
        return
    yield f"a probe takes {figures[0]:.3f} s; the baseline is {figures[1]:.3f} s"
    medians = [median for answers in rounds if (median := median_seconds(answers)) is not None]
    is_slow = [any(slower(baseline, answers)) for answers in rounds]
    if any(is_slow) and not any(slower(baseline, *rounds)):
        shown = ", then ".join(f"{median:.3f} s" for median in medians)
        yield f"the probes vary ({shown}), so the slow round is no finding; the host may have other work"
    if "spread_seconds" not in (baseline["found"] or {}):
        yield "the baseline does not record how much probes vary; record a new one with baseline.yml"


def _machine(machine: Machine | None) -> str:
    if machine is None:
        return "an unnamed machine"
    return f"{machine['name']} ({machine['processors']} processors, {machine['device']})"
