"""Completes the record of a drill from what was observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import communication
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.observer import Landing, Recovery, judge
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import (
    Action,
    Data,
    Difference,
    Message,
    Outcome,
    Record,
    Times,
    Traffic,
    Undo,
)


@dataclass(frozen=True)
class Outage:
    """A period in which calls failed, in the time of the observer. `end`: None if it did not end."""

    start: float
    end: float | None


@dataclass(frozen=True)
class Observed:
    """What was observed. `injected`: the time of the observer; None if the fault was not injected.

    `failure`: why a step of the drill itself failed; empty if none did. `aborted`: who asked the drill to
    end; empty if nobody did. `notes`: as in the record.
    """

    injected: float | None
    landings: Sequence[Landing] = ()
    recoveries: Sequence[Recovery] = ()
    outages: Sequence[Outage] = ()
    traffic: Traffic | None = None
    actions: Sequence[Action] = ()
    messages: Sequence[Message] = ()
    differences: Sequence[Difference] = ()
    data: Data | None = None
    undo: Undo | None = None
    failure: str = ""
    aborted: str = ""
    notes: Sequence[str] = ()
    answers: Mapping[str, str] = field(default_factory=dict)


def close(record: Record, observed: Observed, now: str) -> Record:
    """The complete record of a drill that ended at `now`."""
    outcome, reason = _outcome(observed)
    return {
        **record,
        "ended": now,
        "outcome": outcome,
        "reason": reason,
        "times": _times(record, observed),
        "traffic": observed.traffic or record["traffic"],
        "data": observed.data or record["data"],
        "actions": sorted(observed.actions, key=lambda each: each["time"]),
        "messages": list(observed.messages),
        "undo": observed.undo or record["undo"],
        "differences": list(observed.differences),
        "answers": dict(observed.answers),
        "fault": _landed(record, observed)["fault"],
        "notes": [*observed.notes, *_relapses(observed)],
    }


def _outcome(observed: Observed) -> tuple[Outcome, str]:
    if observed.injected is None:
        return "aborted", observed.failure or "The fault was not injected."
    if observed.aborted:
        # The abort undid the fault, which looks like a recovery.
        return "aborted", f"The drill was aborted: {observed.aborted}."
    outcome, reason = judge(observed.landings, observed.recoveries)
    if outcome == "passed" and observed.failure:
        return "failed", observed.failure
    return outcome, reason


def _landed(record: Record, observed: Observed) -> Record:
    landed = [each for each in observed.landings if each.at is not None]
    if not landed or observed.injected is None or record["fault"]["injected"] is None:
        return record
    first = min(landed, key=lambda each: each.at or 0.0)
    seconds = (first.at or observed.injected) - observed.injected
    at = timestamps.parse(record["fault"]["injected"]).timestamp() + seconds
    seen = "; ".join(dict.fromkeys(each.seen for each in landed))
    return {**record, "fault": {**record["fault"], "landed": timestamps.stamp(at), "seen": seen}}


def _times(record: Record, observed: Observed) -> Times:
    """Seconds from the injection.

    Clients count first: the fault is mitigated when their requests succeed again. If no request failed, it
    was mitigated when it was detected. A service has not recovered before that.
    """
    none = Times(detect=None, acknowledge=None, mitigate=None, recover=None)
    if observed.injected is None:
        return none
    start = observed.injected
    recovered = _recovered(observed, start)
    outages = [each for each in _outages(observed, start) if recovered is None or each.start <= recovered]
    seen = [each.at for each in observed.landings if each.at is not None] + [each.start for each in outages]
    detect = _since(start, min(seen, default=None))
    if any(each.end is None for each in outages):
        mitigate = None
    else:
        mitigate = _since(start, max((each.end or start for each in outages), default=None))
    return Times(
        detect=detect,
        acknowledge=_acknowledged(record, observed),
        mitigate=detect if mitigate is None and not outages else mitigate,
        recover=_since(start, recovered),
    )


def _outages(observed: Observed, start: float) -> list[Outage]:
    """Those that did not end before the injection, in order of time."""
    lasting = [each for each in observed.outages if each.end is None or each.end > start]
    return sorted(lasting, key=lambda each: each.start)


def _recovered(observed: Observed, start: float) -> float | None:
    """When the service had recovered: all recoveries were validated, and the outage had ended."""
    times = [each.at for each in observed.recoveries if each.at is not None]
    if not times or len(times) < len(observed.recoveries):
        return None
    recovered = max(times)
    for outage in _outages(observed, start):
        if outage.start <= recovered:
            recovered = max(recovered, outage.end or recovered)
    return recovered


def _relapses(observed: Observed) -> list[str]:
    """A note if requests failed again after the recovery."""
    start = observed.injected
    recovered = None if start is None else _recovered(observed, start)
    if start is None or recovered is None:
        return []
    later = [each for each in _outages(observed, start) if each.start > recovered]
    if not later:
        return []
    periods = "1 period" if len(later) == 1 else f"{len(later)} periods"
    return [
        f"After the recovery, requests failed again in {periods}, first {later[0].start - start:.0f} s after"
        " the fault."
    ]


def _acknowledged(record: Record, observed: Observed) -> float | None:
    injected = record["fault"]["injected"]
    if injected is None:
        return None
    # Self-healing is the response of an unattended drill, but no person.
    actions = [
        each
        for each in observed.actions
        if record["mode"] != "person" or each["by"] != communication.SELF_HEALING
    ]
    at = communication.acknowledged(actions, observed.messages, injected)
    if at is None:
        return None
    return max(0.0, (timestamps.parse(at) - timestamps.parse(injected)).total_seconds())


def _since(start: float, at: float | None) -> float | None:
    return None if at is None else round(max(0.0, at - start), 2)
