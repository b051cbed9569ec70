"""Rules for the service: its unit, `/health` and `/ready`, its starts, its cache, what it logged."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.katago.fleet.plugins.module_utils.triage import reason
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import (
    WINDOW_MINUTES,
    Answer,
    Journal,
    Runs,
    Traffic,
    Unit,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason

RESTARTS = 3
"""From so many restarts by systemd on, a service that is starting is taken for one that does not start."""

FAILS_AGAIN_SECONDS = 300


def unit(unit: Unit) -> Iterator[Reason]:
    """The unit is not active, or its process is frozen or gone."""
    active, process = unit["active"], unit["process_state"]
    if unit["load"] == "not-found":
        yield Reason("P0", "unit", "katago-mcp.service does not exist", "deployed", next=reason.DEPLOY)
    elif active != "active":
        does_not_start = (
            active == "failed"
            or unit["result"] == "start-limit-hit"
            or unit["exit_status"] == 78
            or (active == "activating" and unit["restarts"] >= RESTARTS)
        )
        yield Reason(
            "P0",
            "unit",
            f"katago-mcp.service is {active} ({unit['sub']}, result {unit['result']})",
            "active",
            escalate="the service does not start" if does_not_start else None,
            next=reason.FORCE if does_not_start else reason.RESTART,
        )
    elif process in ("T", "t"):
        seen = f"the main process {unit['pid']} is frozen (state {process})"
        yield Reason("P0", "unit", seen, "running", next=reason.FORCE)
    elif process in (None, "Z", "X"):
        seen = "the unit is active without a main process"
        yield Reason("P0", "unit", seen, "running", next=reason.FORCE)


def health(health: Answer) -> Iterator[Reason]:
    """`/health` gives no answer, or not the service's."""
    status, body = health["status"], health["body"]
    if status is None:
        seen = f"/health gave no answer within {health['seconds']:g} s"
        yield Reason("P0", "health", seen, "200", next=reason.FORCE)
    elif status != 200 or body.get("status") != "ok":
        words = body.get("reason") or "with a body that is not the service's"
        seen = f"/health answered {status} {words}"
        yield Reason("P0", "health", seen, "200 with status ok", next=reason.FORCE)


def ready(ready: Answer) -> Iterator[Reason]:
    """`/ready` gives no answer, or the service takes no analyses."""
    status, why = ready["status"], str(ready["body"].get("reason") or "")
    if status is None:
        seen = f"/ready gave no answer within {ready['seconds']:g} s"
        yield Reason("P0", "ready", seen, "200", next=reason.FORCE)
    elif status == 200 and ready["body"].get("ready") is True:
        return
    elif why == "draining":
        yield Reason("P2", "ready", "it is drained and takes no analyses", "undrained or out of rotation")
    elif why == "saturated":
        seen = "it is saturated and refuses analyses"
        yield Reason("P2", "ready", seen, "room for analyses", next=reason.MITIGATE)
    else:
        seen = f"/ready answered {status} {why or 'without a reason'}"
        yield Reason("P1", "ready", seen, "200 with ready true", next=reason.RESTART)


def fails_again(runs: Runs) -> Iterator[Reason]:
    """The service failed soon after it was started."""
    for failed in runs["failed"]:
        started = max((at for at in runs["started"] if at <= failed), default=None)
        if started is not None and failed - started <= FAILS_AGAIN_SECONDS:
            yield Reason(
                "P1",
                "fails_again",
                f"the service failed {failed - started:.0f} s after it was started",
                f"more than {FAILS_AGAIN_SECONDS} s",
                escalate="it failed again within 5 minutes after a restart",
            )
            return


def cache(trouble: str | None, traffic: Traffic | None) -> Iterator[Reason]:
    """The cache does not work: by the `trouble` that the service logged, or by its metrics."""
    errors = traffic["cache_errors"] if traffic and traffic["served"] else None
    if trouble:
        seen = f"the cache does not work: {trouble}"
        yield Reason("P2", "cache", seen, "no trouble", next=reason.PURGE)
    elif errors:
        seen = f"{errors:g} cache operations were given up"
        yield Reason("P2", "cache", seen, "none", next=reason.PURGE)


def logged_errors(journal: Journal) -> Iterator[Reason]:
    """The service logged errors."""
    errors = [group for group in journal["groups"] if group["level"] in ("error", "critical")]
    if errors:
        first = errors[0]
        yield Reason(
            "P3",
            "logged_errors",
            f"{sum(group['count'] for group in errors)} errors were logged in {WINDOW_MINUTES} minutes,"
            f" first {first['event']} {first['code']}".rstrip(),
            "none",
        )
