"""The probes of a drill on one host: the prober's record, modules on the host, and the drill's own record."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.plugin_utils.drill.plan import Target
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.store import DrillRecords
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import store as incident_store
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import prober

QUIET_SECONDS = 1.0
_UNREACHABLE = "the host does not answer over SSH"

Ask = Callable[[str, Mapping[str, Any]], Mapping[str, Any] | None]
"""Runs a module on the host: its name and arguments. Returns its result; None if the host does not answer."""


@dataclass(frozen=True)
class Drill:
    """The drill that is observed. `root`: the directory of the records. `since`: when the injection started.

    `balancer`: the arguments of `load_balancer_validate`.
    """

    root: Path
    id: str
    incident: str
    since: float
    balancer: Mapping[str, Any]


class HostProbes:
    """The probes for the fault of one target.

    `show`: called with everything new that is seen. `reveals`: whether what shows the fault is shown too.
    People who respond must find it out.
    """

    def __init__(
        self,
        drill: Drill,
        target: Target,
        ask: Ask,
        show: Callable[[str], None],
        lock_problem: Callable[[], str],
        is_repairing_itself: Callable[[], bool],
        *,
        reveals: bool,
    ) -> None:
        self._drill, self._target, self._ask, self._show = drill, target, ask, show
        self._lock_problem, self._is_repairing_itself = lock_problem, is_repairing_itself
        self._records = DrillRecords(drill.root)
        self._reveals = reveals
        self._shown = ""

    def clients(self) -> str:
        """How many requests failed since the injection."""
        failed = sum(each.failed for each in self._outages())
        return self._noted(f"failed requests through the load balancer: {failed}" if failed else "")

    def failing_clients(self) -> str:
        """Whether requests fail now, or did a moment ago."""
        outages = self._outages()
        if not outages:
            return ""
        end = outages[-1].end
        is_over = end is not None and time.monotonic() - end >= QUIET_SECONDS
        return "" if is_over else self._noted("requests through the load balancer fail")

    def fault(self) -> str:
        """What shows the fault on its host."""
        if self._target.where == "control_node":
            return self._noted_fault(self._lock_problem())
        answer = self._ask("katago.fleet.drill_fault", {"state": "info"})
        if answer is None:
            return self._noted(_UNREACHABLE)
        if answer.get("failed"):
            return self._noted_fault(f"the fault cannot be examined: {answer.get('msg')}")
        return self._noted_fault(
            str(answer.get("seen") or "the fault is there") if answer.get("landed") else ""
        )

    def lasting_fault(self) -> str:
        """The same; for a fault that leaves traces, only the validation shows whether it is over."""
        return "" if self._target.leaves_traces else self.fault()

    def service(self) -> str:
        """Why the host is not validated, by the same checks as in every procedure."""
        if self._target.where == "load_balancer":
            answer = self._ask("katago.fleet.load_balancer_validate", self._drill.balancer)
        else:
            arguments = {"deadline": 2, "start_deadline": 30, "call_deadline": 30}
            answer = self._ask("katago.fleet.service_validate", arguments)
        if answer is None:
            return self._noted(_UNREACHABLE)
        if answer.get("failed"):
            return self._noted(str(answer.get("failures") or answer.get("msg") or "validation failed"))
        return ""

    def is_repairing_itself(self) -> bool:
        """Whether self-healing holds the lock of the host."""
        return self._is_repairing_itself()

    def interruption(self) -> str:
        """An abort by a person or by a real alert, another incident, or a prober that has ended."""
        if why := self._records.abort_requested(self._drill.id):
            return why
        others = [
            each for each in incident_store.open_incidents(self._drill.root) if each != self._drill.incident
        ]
        if others:
            return f"another incident is open: {', '.join(others)}"
        if prober.running(self._records.prober(self._drill.id)) is None:
            return "the prober has ended"
        return ""

    def _outages(self) -> list[prober.Outage]:
        return prober.outages(self._records.prober(self._drill.id), self._drill.since, QUIET_SECONDS)

    def _noted_fault(self, text: str) -> str:
        self._noted(text if self._reveals or not text else "something is wrong on this host")
        return text

    def _noted(self, text: str) -> str:
        if text and text != self._shown:
            self._shown = text
            self._show(text)
        return text
