"""The control node's part of `katago.fleet.engine_caches`: shows the progress of the build."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import host_work, tuning_progress
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation

display = Display()
PATIENCE_SECONDS = 300
DEADLINE_SECONDS = 21600
# Parameters that only the control node's part uses.
_OWN = ("patience", "deadline")


class FailedStepError(Exception):
    """A step on the host failed; carries its result."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(result.get("msg"))
        self.result = result


class ActionModule(ActionBase):
    """Checks for kept caches, builds missing ones, and copies them to the service's engine."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check, build, finish."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation.check(self)
        self._vars = task_vars or {}
        try:
            return {**result, **self._obtain()}
        except FailedStepError as failed:
            return {**result, **failed.result}
        except host_work.WorkError as error:
            return {**result, "failed": True, "msg": f"TensorRT's caches were not built: {error}"}

    def _obtain(self) -> dict[str, Any]:
        status = self._step("look")
        answer = {"directory": status["directory"], "built": []}
        if status["suffice"] and status["seeded"]:
            return {**answer, "changed": False}
        if self._task.check_mode:
            return {**answer, "changed": True}
        took = 0.0
        if not status["suffice"]:
            if status["deferred"]:
                return {**answer, "changed": False, "deferred": status["deferred"]}
            began = time.monotonic()
            self._build(status)
            took = time.monotonic() - began
        return {**answer, **self._step("finish", seconds=took)}

    def _build(self, status: Mapping[str, Any]) -> None:
        host = self._vars["inventory_hostname"]
        device = status["device"]
        display.display(
            f"[{host}] Building TensorRT's caches for {device}. This takes minutes, once for each GPU"
        )
        self._step("start")
        host_work.follow(
            f"The build on {device}",
            self._step,
            lambda sentence: display.display(f"[{host}] {sentence}"),
            lambda polled, elapsed: how_far(polled["lines"], elapsed, float(status["seconds_before"])),
            patience=float(self._task.args.get("patience", PATIENCE_SECONDS)),
            deadline=float(self._task.args.get("deadline", DEADLINE_SECONDS)),
            variable="katago_tuning_deadline",
        )

    def _step(self, step: str, **arguments: Any) -> dict[str, Any]:
        parameters = {name: value for name, value in self._task.args.items() if name not in _OWN}
        outcome: dict[str, Any] = self._execute_module(
            module_name="katago.fleet.engine_caches",
            module_args={**parameters, **arguments, "step": step},
            task_vars=self._vars,
        )
        if outcome.get("failed") or outcome.get("unreachable"):
            raise FailedStepError(outcome)
        return outcome


def how_far(lines: list[str], elapsed: float, before: float) -> str:
    """The engine's current step, the elapsed time, and an estimate of the time left.

    The engine does not report how far it is, so the estimate is from the last build. `lines`: its log.
    `elapsed`: seconds since the start. `before`: the duration of the last build in seconds, 0 if unknown.
    """
    activity = "starting the engine"
    for line in lines:
        for kind in ("timing", "plan"):
            if f"Creating new {kind} cache" in line:
                activity = f"building TensorRT's {kind} cache"
            elif f"Saved new {kind} cache" in line:
                activity = f"saved TensorRT's {kind} cache"
    sentence = f"{activity}, {tuning_progress.span(elapsed)} so far"
    if before > elapsed:
        sentence += f", about {tuning_progress.span(before - elapsed)} left (estimated from the last build)"
    return sentence
