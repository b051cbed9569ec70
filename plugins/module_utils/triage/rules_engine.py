"""Rules for the engine: its processes, its failures, and whether the service reports it as up."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.katago.fleet.plugins.module_utils.triage import reason
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import (
    WINDOW_MINUTES,
    EngineJournal,
    Processes,
    Traffic,
    Unit,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason

ENGINE_FAILURES = 3


def engines(processes: Processes, unit: Unit) -> Iterator[Reason]:
    """Report that no engine runs, or more than one."""
    running = processes["engines"]
    # Without a main process there is no engine either. The rule `unit` reports that case.
    if unit["process_state"] is None or len(running) == 1:
        return
    if running:
        pids = ", ".join(str(pid) for pid in running)
        measured = f"{len(running)} engine processes are running (PIDs {pids})"
        yield Reason("P2", "engines", measured, "1 engine process", next=reason.FORCE)
    else:
        yield Reason("P1", "engines", "no engine process is running", "1 engine process", next=reason.RESTART)


def engine_failures(journal: EngineJournal, traffic: Traffic | None) -> Iterator[Reason]:
    """Report an engine that failed repeatedly, by the journal or by the metrics."""
    count = journal["failures"]
    if traffic and traffic["served"] and traffic["engine_failures_since_start"]:
        count = max(count, int(traffic["engine_failures_since_start"]))
    if count >= ENGINE_FAILURES:
        yield Reason(
            "P1",
            "engine_failures",
            f"the engine failed {count} times in {WINDOW_MINUTES} minutes",
            f"fewer than {ENGINE_FAILURES} failures",
            next=reason.RESTART,
        )


def engine_up(traffic: Traffic) -> Iterator[Reason]:
    """Report that the service does not report its engine as up."""
    if not traffic["served"]:
        return
    if traffic["engine_up"] is None:
        yield reason.unknown("engine_up", "katago_engine_up is missing or NaN")
    elif traffic["engine_up"] != 1:
        measured = f"the service reports its engine as down (katago_engine_up is {traffic['engine_up']:g})"
        yield Reason("P1", "engine_up", measured, "1", next=reason.RESTART)
