"""Rules for the service: its unit, `/health` and `/ready`, its starts, its cache, its logged errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.triage import reason
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import (
    WINDOW_MINUTES,
    Answer,
    History,
    HistoryRecord,
    Journal,
    JournalView,
    Runs,
    Traffic,
    Unit,
    Weakness,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason

RESTARTS = 3
"""A service that is starting counts as one that does not start after this many restarts by systemd."""

FAILS_AGAIN_SECONDS = 300


def unit(unit: Unit) -> Iterator[Reason]:
    """Report a unit that is not active, or whose main process is frozen or gone."""
    active, process = unit["active"], unit["process_state"]
    if unit["load"] == "not-found":
        yield Reason("P0", "unit", "katago-mcp.service does not exist", "deployed", next=reason.DEPLOY)
    elif unit["load"] == "masked":
        measured = f"katago-mcp.service is {active} and masked, so it cannot start (see `systemctl unmask`)"
        yield Reason("P2" if active == "active" else "P0", "unit", measured, "not masked")
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
        measured = f"the main process {unit['pid']} is frozen (state {process}: stopped by a signal)"
        yield Reason("P0", "unit", measured, "a running process", next=reason.FORCE)
    elif process in (None, "Z", "X"):
        measured = "katago-mcp.service is active, but its main process is gone"
        yield Reason("P0", "unit", measured, "a running process", next=reason.FORCE)


def sandbox(weaknesses: Sequence[Weakness]) -> Iterator[Reason]:
    """Report that the running service lacks protections of its sandbox, by their source."""
    by_source: dict[str, list[str]] = {}
    for each in weaknesses:
        by_source.setdefault(each["source"], []).append(each["directive"])
    for source, directives in by_source.items():
        names = ", ".join(directives)
        measured = f"the sandbox is weakened by {source}: {names}" if source else f"the sandbox lacks {names}"
        yield Reason("P3", "sandbox", measured, "the sandbox of the release's unit file")


def health(health: Answer) -> Iterator[Reason]:
    """Report that `/health` does not answer, or not as a healthy service does."""
    status, body = health["status"], health["body"]
    if status is None:
        measured = f"/health did not answer within {health['seconds']:g} s"
        yield Reason("P0", "health", measured, "HTTP 200", next=reason.FORCE)
    elif status != 200 or body.get("status") != "ok":
        cause = body.get("reason") or "the response is not one of katago-mcp"
        measured = f"/health returned HTTP {status}: {cause}"
        yield Reason("P0", "health", measured, "HTTP 200 with status ok", next=reason.FORCE)


def ready(ready: Answer) -> Iterator[Reason]:
    """Report that `/ready` does not answer, or that the service accepts no analyses."""
    status, why = ready["status"], str(ready["body"].get("reason") or "")
    if status is None:
        measured = f"/ready did not answer within {ready['seconds']:g} s"
        yield Reason("P0", "ready", measured, "HTTP 200", next=reason.FORCE)
    elif status == 200 and ready["body"].get("ready") is True:
        return
    elif why == "draining":
        measured = "the service is drained and accepts no analyses"
        yield Reason("P2", "ready", measured, "undrained, or removed from the load balancer")
    elif why == "saturated":
        measured = "the service is saturated and rejects analyses"
        yield Reason("P2", "ready", measured, "free capacity", next=reason.MITIGATE)
    else:
        measured = f"/ready returned HTTP {status}: {why or 'no reason reported'}"
        yield Reason("P1", "ready", measured, "HTTP 200 with ready true", next=reason.RESTART)


def fails_again(runs: Runs, history: History | None) -> Iterator[Reason]:
    """Report a service that failed soon after a start, unless a procedure has validated it since."""
    validated = max(
        (timestamps.parse(each["at"]).timestamp() for each in _validated(history)), default=float("-inf")
    )
    for failed in runs["failed"]:
        if failed < validated:
            continue
        started = max((at for at in runs["started"] if at <= failed), default=None)
        if started is not None and failed - started <= FAILS_AGAIN_SECONDS:
            yield Reason(
                "P1",
                "fails_again",
                f"the service failed {failed - started:.0f} s after it was started",
                f"no failure within {FAILS_AGAIN_SECONDS} s after a start",
                escalate="the service failed again within 5 minutes after a restart",
            )
            return


def _validated(history: History | None) -> Iterator[HistoryRecord]:
    for record in history["records"] if history else ():
        if record["verdict"] == "good":
            yield record


def cache(trouble: str | None, traffic: Traffic | None) -> Iterator[Reason]:
    """Report a cache that does not work, by the `trouble` that the service logged or by its metrics."""
    errors = traffic["cache_errors"] if traffic and traffic["served"] else None
    if trouble:
        measured = f"the cache does not work: {trouble}"
        yield Reason("P2", "cache", measured, "a working cache", next=reason.PURGE)
    elif errors:
        measured = f"{errors:g} cache operations failed"
        yield Reason("P2", "cache", measured, "0", next=reason.PURGE)


def journal_view(view: JournalView | None) -> Iterator[Reason]:
    """Report a journal that shows nothing of the service, so that no errors in it mean nothing.

    If the journal cannot be read at all, the rules that need it are unknown.
    """
    if view is not None and view["blind"]:
        yield reason.unknown("journal", f"errors and failures cannot be seen: {view['blind']}")


def logged_errors(journal: Journal) -> Iterator[Reason]:
    """Report errors that the service logged."""
    errors = [group for group in journal["groups"] if group["level"] in ("error", "critical")]
    if errors:
        first = errors[0]
        yield Reason(
            "P3",
            "logged_errors",
            f"the service logged {sum(group['count'] for group in errors)} errors in {WINDOW_MINUTES} minutes"
            f" (see `journalctl -u katago-mcp`); most frequent: {first['event']} {first['code']}".rstrip(),
            "no errors",
        )
