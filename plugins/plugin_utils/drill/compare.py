"""Compares the recovery of a drill with earlier drills of the same scenario, mode and fleet.

Pure. The usual range is the median and the median absolute deviation (MAD) of the newest earlier drills:
neither is moved by one exceptional drill. A recovery is slower than usual if it exceeds the limit

    median + max(2 s, min(max(5 * 1.4826 * MAD, 25 % of the median), 90 % of the median))

1.4826 * MAD estimates the standard deviation of normal noise. The bounds make three promises, which the tests
check: a recovery within 25 % or within 2 s of the median is never flagged; a recovery of twice the median
is always flagged if the median is above 2 s; and noise with a standard deviation of 10 % of the median is
flagged in fewer than 2 % of the drills.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Record

FEWEST = 5
"""With fewer earlier drills there is no usual range, and nothing is flagged."""

NEWEST = 20
"""The number of earlier drills that count, the newest ones, so that the range follows lasting changes."""

DEVIATIONS = 5.0
LEAST_SHARE = 0.25
LEAST_SECONDS = 2.0
MOST_SHARE = 0.9
_NORMAL = 1.4826


@dataclass(frozen=True)
class Comparison:
    """A recovery beside the earlier ones. Seconds; None without a usual range.

    `earlier`: the number of earlier drills. `limit`: a recovery that takes longer is slower than usual.
    """

    earlier: int
    median: float | None
    limit: float | None
    slower: bool


def limit(earlier: Sequence[float]) -> float:
    """The longest recovery that is usual, in seconds. `earlier`: at least one recovery."""
    median = statistics.median(earlier)
    deviation = _NORMAL * statistics.median(abs(each - median) for each in earlier)
    margin = min(max(DEVIATIONS * deviation, LEAST_SHARE * median), MOST_SHARE * median)
    return median + max(LEAST_SECONDS, margin)


def recovery(seconds: float | None, earlier: Sequence[float]) -> Comparison:
    """Compare a recovery with earlier ones, oldest first. `seconds`: None if the service did not recover."""
    counted = earlier[-NEWEST:]
    if len(counted) < FEWEST:
        return Comparison(len(counted), None, None, slower=False)
    most = limit(counted)
    slower = seconds is not None and seconds > most
    return Comparison(len(counted), statistics.median(counted), most, slower)


def earlier_recoveries(record: Record, others: Iterable[Record]) -> list[float]:
    """The recoveries of the drills that a drill is compared with, oldest first.

    They have the same scenario, mode and fleet, passed, and started before it.
    """
    same = [
        each
        for each in others
        if (each["scenario"], each["mode"], each["fleet"])
        == (record["scenario"], record["mode"], record["fleet"])
        and each["outcome"] == "passed"
        and (each["started"], each["id"]) < (record["started"], record["id"])
    ]
    same.sort(key=lambda each: (each["started"], each["id"]))
    return [each["times"]["recover"] for each in same if each["times"]["recover"] is not None]


def of(record: Record, others: Iterable[Record]) -> Comparison:
    """Compare a drill with the earlier ones among `others`."""
    return recovery(record["times"]["recover"], earlier_recoveries(record, others))
