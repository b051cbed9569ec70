"""Whether the hosts are healthy enough for a drill.

Findings of triage decide, without what earlier drills left in the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from ansible_collections.katago.fleet.plugins.module_utils import severity, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import WINDOW_MINUTES
from ansible_collections.katago.fleet.plugins.module_utils.triage.verdict import Verdict
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Record

HEALTHY: frozenset[severity.Level] = frozenset({"healthy", "P3"})
"""With other findings the fleet is not healthy enough for a drill."""

HISTORY = frozenset({"cache", "engine_failures", "fails_again", "logged_errors"})
"""The rules that count events of the last WINDOW_MINUTES. Other rules find what is wrong now."""


def practised(records: Iterable[Record], now: datetime) -> frozenset[str]:
    """The hosts whose journal has events of a drill in the window of triage."""
    since = now - timedelta(minutes=WINDOW_MINUTES)
    return frozenset(
        host
        for each in records
        if each["ended"] and timestamps.parse(each["ended"]) >= since
        for host in each["hosts"]
    )


def problems(verdicts: Mapping[str, Verdict], practised: frozenset[str]) -> Iterator[str]:
    """What is wrong with each host, in a sentence."""
    for host, verdict in verdicts.items():
        if verdict.verdict in HEALTHY:
            continue
        reasons = [
            each
            for each in verdict.reasons
            if each.level not in HEALTHY and not (host in practised and each.rule in HISTORY)
        ]
        if reasons or not verdict.reasons:
            findings = "; ".join(each.measured for each in reasons) or "no reason given"
            yield f"Triage calls {host} {verdict.verdict}: {findings}."
