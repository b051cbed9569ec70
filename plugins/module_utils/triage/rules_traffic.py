"""Rules for the traffic: the share of client requests that fail, and whether triage's own probes succeed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.katago.fleet.plugins.module_utils.service import metrics
from ansible_collections.katago.fleet.plugins.module_utils.severity import Level, rank
from ansible_collections.katago.fleet.plugins.module_utils.triage import reason
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import (
    Probes,
    Round,
    SkippedProbes,
    Traffic,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason

# Percent of the requests that count and failed. A value on a bound belongs to the worse level.
ERROR_RATE: tuple[tuple[int, Level], ...] = ((50, "P1"), (10, "P2"), (1, "P3"))


def error_rate(traffic: Traffic, own: Sequence[str]) -> Iterator[Reason]:
    """Report failing client requests, or that the error rate is unknown.

    `own`: the statuses of triage's own calls, which are subtracted.
    """
    if not traffic["served"]:
        step = reason.DEPLOY if traffic["why"].startswith("is off") else reason.RESTART
        yield Reason("P3", "metrics", f"/metrics {traffic['why']}", "served", next=step)
        yield reason.unknown("error_rate", "it cannot be computed without /metrics")
        return
    if traffic["requests"] is None:
        yield reason.unknown("error_rate", "katago_requests_total is missing or NaN")
        return
    judged, failed = of_others(traffic["requests"], own)
    for percent, level in ERROR_RATE:
        if judged and 100 * failed >= percent * judged:
            yield Reason(
                level,
                "error_rate",
                f"{failed:g} of {judged:g} client requests failed in {traffic['seconds']:.0f} s"
                f" ({100 * failed / judged:.1f} %)",
                f"below {percent} %",
                next=reason.RESTART if rank(level) >= rank("P2") else None,
            )
            return


def probe(probe: Probes | SkippedProbes) -> Iterator[Reason]:
    """Report that triage's own probe analyses fail."""
    if "skipped" in probe:
        yield reason.unknown("probe", f"no probe analysis was sent: {probe['skipped']}")
        return
    rounds = _rounds(probe)
    answers, asked = (
        [answer for each in rounds for answer in each["answers"]],
        sum(each["asked"] for each in rounds),
    )
    bad = [answer for answer in answers if answer["problems"]]
    failed = asked - len(answers) + len(bad)
    if failed:
        error = next((each["error"] for each in rounds if each["error"]), None)
        cause = bad[0]["problems"][0] if bad else error or "no answer"
        yield Reason(
            "P1" if 2 * failed >= asked else "P2",
            "probe",
            f"{failed} of {asked} probe analyses failed: {cause}",
            "all probe analyses succeed",
            next=reason.RESTART,
        )


def own_statuses(probe: Probes | SkippedProbes | None) -> list[str]:
    """The statuses of triage's own calls; [] if the probe is unknown or was skipped."""
    if probe is None or "skipped" in probe:
        return []
    return [answer["status"] for each in _rounds(probe) for answer in each["answers"]]


def _rounds(probe: Probes) -> list[Round]:
    return [probe, *([probe["again"]] if "again" in probe else [])]


def of_others(requests: Mapping[str, float], own: Sequence[str]) -> tuple[float, float]:
    """How many client requests count, and how many of them failed. `own`: statuses of triage's own calls."""
    own_failed = sum(status in metrics.FAILED for status in own)
    own_answered = sum(status == "ok" for status in own)
    failed = max(0.0, metrics.failed(dict(requests)) - own_failed)
    answered = max(0.0, metrics.judged(dict(requests)) - metrics.failed(dict(requests)))
    return failed + max(0.0, answered - own_answered), failed
