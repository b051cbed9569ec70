"""The control node's half of `katago.fleet.engine_caches`: shows what the host does while it builds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import host_work, tuning_progress

display = Display()
PATIENCE_SECONDS = 300
DEADLINE_SECONDS = 21600
# Of this half alone.
_OWN = ("patience", "deadline")


class FailedStepError(Exception):
    """A step on the host failed; carries its result."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(result.get("msg"))
        self.result = result


class ActionModule(ActionBase):
    """Looks for caches that suffice, has them built, and puts them where the service's engine looks."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look, build, finish."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self._vars = task_vars or {}
        try:
            return {**result, **self._obtain()}
        except FailedStepError as failed:
            return {**result, **failed.result}
        except host_work.WorkError as error:
            return {**result, "failed": True, "msg": f"TensorRT's caches were not built: {error}"}

    def _obtain(self) -> dict[str, Any]:
        found = self._step("look")
        answer = {"directory": found["directory"], "built": []}
        if found["suffice"] and found["seeded"]:
            return {**answer, "changed": False}
        if self._task.check_mode:
            return {**answer, "changed": True}
        took = 0.0
        if not found["suffice"]:
            if found["deferred"]:
                return {**answer, "changed": False, "deferred": found["deferred"]}
            began = time.monotonic()
            self._build(found)
            took = time.monotonic() - began
        return {**answer, **self._step("finish", seconds=took)}

    def _build(self, found: Mapping[str, Any]) -> None:
        host = self._vars["inventory_hostname"]
        device = found["device"]
        display.display(f"[{host}] Building TensorRT's caches for {device}: minutes, once for this GPU")
        self._step("start")
        host_work.follow(
            f"The engine on {device}",
            self._step,
            lambda sentence: display.display(f"[{host}] {sentence}"),
            lambda polled, elapsed: how_far(polled["lines"], elapsed, float(found["seconds_before"])),
            patience=float(self._task.args.get("patience", PATIENCE_SECONDS)),
            deadline=float(self._task.args.get("deadline", DEADLINE_SECONDS)),
            variable="katago_tuning_deadline",
        )

    def _step(self, step: str, **arguments: Any) -> dict[str, Any]:
        given = {name: value for name, value in self._task.args.items() if name not in _OWN}
        outcome: dict[str, Any] = self._execute_module(
            module_name="katago.fleet.engine_caches",
            module_args={**given, **arguments, "step": step},
            task_vars=self._vars,
        )
        if outcome.get("failed") or outcome.get("unreachable"):
            raise FailedStepError(outcome)
        return outcome


def how_far(lines: list[str], elapsed: float, before: float) -> str:
    """What the engine does, for how long, and how long the last time took; it does not say how far it is."""
    doing = "the engine starts"
    for line in lines:
        for kind in ("timing", "plan"):
            if f"Creating new {kind} cache" in line:
                doing = f"TensorRT's {kind} cache is built"
            elif f"Saved new {kind} cache" in line:
                doing = f"TensorRT's {kind} cache is saved"
    words = f"{doing}, for {tuning_progress.span(elapsed)} so far"
    if before > elapsed:
        words += f", about {tuning_progress.span(before - elapsed)} left by the last time"
    return words
