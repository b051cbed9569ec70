"""Observes a drill on one of its hosts, and runs the unattended response there."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import host_lock, observer
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import plan as drill_plan
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.host_probes import Drill, HostProbes
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.procedure_runs import ProcedureRun, setting
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS, Step
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.store import DrillRecords
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records as evidence_records
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import outbox
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments, commands, runs
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import prober

display = Display()
_LOCKED_SECONDS = 60
# The procedure has locked the host, and works on it.
_WORKED_SECONDS = 2


class SystemClock:
    """The clock of the control node that nobody can set."""

    def now(self) -> float:
        """Seconds, the same in all processes."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class ActionModule(ActionBase):
    """Runs on each host that gets a fault, on all of them at the same time."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Wait until the fault lands, or until the service has recovered."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given, known = arguments.validated(self), task_vars or {}
        plan = drill_plan.plan(given["plan"])
        host = str(known["inventory_hostname"])
        target = next(each for each in plan.targets if each.host == host)
        drill = Drill(
            root=Path(given["records_dir"]),
            id=given["drill"],
            incident=given["incident"],
            since=given["since"],
            balancer=given["load_balancer"],
        )
        response = Response(self._asker(known), drill, plan, target, known)
        probes = HostProbes(
            drill,
            target,
            response.ask,
            lambda text: _show(host, text),
            response.lock_problem,
            response.is_repairing_itself,
            reveals=plan.mode == "unattended",
        )
        clock = SystemClock()
        try:
            if given["phase"] == "cut":
                return {**result, "changed": True, "run": response.cut_off()}
            if given["phase"] == "landing":
                landing = observer.await_landing(probes, clock, given["injected"], given["landing_seconds"])
                return {**result, "changed": False, "landing": asdict(landing)}
            terms = observer.Terms(
                self_healing=given["self_healing_seconds"],
                response=plan.seconds,
                settle=given["settle_seconds"],
                outage=plan.outage,
                steps=response.steps if plan.mode == "unattended" and given["responds"] else (),
                waits_for_people=plan.mode == "person",
            )
            recovery = observer.respond(probes, response, clock, given["injected"], terms)
        except (prober.ProberError, OSError) as error:
            raise AnsibleActionFail(f"The drill cannot be observed: {error}") from error
        runs_ = [each.action() for each in response.runs]
        return {**result, "changed": bool(runs_), "recovery": asdict(recovery), "runs": runs_}

    def _asker(self, known: Mapping[str, Any]) -> Any:
        def ask(module: str, module_args: Mapping[str, Any]) -> Mapping[str, Any] | None:
            try:
                answer: dict[str, Any] = self._execute_module(
                    module_name=module, module_args=dict(module_args), task_vars=dict(known)
                )
            except AnsibleConnectionFailure:
                self._connection.reset()
                return None
            return None if answer.get("unreachable") else answer

        return ask


class Response:
    """What is run on the hosts of a target."""

    def __init__(
        self,
        ask: Any,
        drill: Drill,
        plan: drill_plan.Plan,
        target: drill_plan.Target,
        known: Mapping[str, Any],
    ) -> None:
        self.ask, self._drill, self._target, self._known = ask, drill, target, known
        self.runs: list[ProcedureRun] = []
        self.steps = [
            step
            for step in SCENARIOS[plan.scenario].response
            if (step.on == "load_balancer") == (target.where == "load_balancer")
        ]

    def start(self, step: Step) -> ProcedureRun:
        """Start a procedure of the response."""
        hosts: list[str] = [] if step.on == "fleet" else [self._target.host]
        directory = DrillRecords(self._drill.root).directory(self._drill.id)
        run = ProcedureRun(
            setting(self._known, self._drill.incident, directory),
            step.procedure,
            shlex.split(commands.playbook(step.procedure))[0],
            hosts,
            step.arguments,
        )
        _show(self._target.host, f"the drill runs {step.procedure}; its output is in {run.output}")
        self.runs.append(run)
        return run

    def remove_cause(self) -> None:
        """Undo the fault. A host that cannot be reached does it itself when the time is over."""
        self.ask("katago.fleet.drill_fault", {"state": "undone", "drill": self._drill.id})

    def cut_off(self) -> str:
        """Start a procedure, and kill its run when the host is locked; the output of the procedure.

        Raises:
            AnsibleActionFail: the procedure ended before, or did not start.
        """
        run = self.start(Step(self._target.parameters["procedure"]))
        deadline = time.monotonic() + _LOCKED_SECONDS
        while not self._has_begun(run.started):
            if run.done() or time.monotonic() > deadline:
                run.stop()
                raise AnsibleActionFail(f"The procedure did not lock {self._target.host}: see {run.output}")
            time.sleep(observer.LOOK_SECONDS)
        time.sleep(_WORKED_SECONDS)
        run.kill()
        return str(run.output)

    def lock_problem(self) -> str:
        """The lock of a run that no longer exists; empty if there is none."""
        answer = self._lock()
        if answer is None:
            return "the host does not answer over SSH"
        return host_lock.problem(answer, runs.life)

    def is_repairing_itself(self) -> bool:
        """Whether self-healing has locked the host."""
        answer = self._lock()
        return answer is not None and host_lock.is_of_self_healing(answer)

    def _lock(self) -> Mapping[str, Any] | None:
        answer: Mapping[str, Any] | None = self.ask("ansible.legacy.slurp", {"src": str(paths.HOST_LOCK)})
        return answer

    def _has_begun(self, since: str) -> bool:
        timeline = evidence_records.Records(self._drill.root, self._drill.incident).timeline
        return any(
            event.get("procedure") == self._target.parameters["procedure"]
            and event.get("host") == self._target.host
            and event.get("result") == "begun"
            and str(event.get("at")) >= since
            for event in outbox.read_timeline(timeline)
        )


def _show(host: str, text: str) -> None:
    display.display(f"[{host}] {timestamps.now()[11:19]} {text}")
