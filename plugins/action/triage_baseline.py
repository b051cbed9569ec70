"""The control node's part of `katago.fleet.triage_baseline`: decides whether a baseline may be recorded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.module_utils.triage import baseline_record, facts, verdict
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation


class ActionModule(ActionBase):
    """Records a baseline on a healthy, warmed-up host."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Record the baseline, or refuse and list the problems."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation.check(self)
        triage = self._task.args["triage"]
        measured = facts.read(triage["facts"])
        problems = baseline_record.problems(
            verdict.parse(triage["verdict"]),
            measured,
            least_uptime=float(self._task.args.get("least_uptime", 60)),
        )
        if problems:
            listed = "\n".join(f"- {problem}" for problem in problems)
            return {
                **result,
                "failed": True,
                "refused": True,
                "problems": problems,
                "msg": f"Refused; no baseline was recorded on this host.\n{listed}",
            }
        baseline = baseline_record.make(measured, now=datetime.now(UTC))
        return {
            **result,
            **self._execute_module(
                module_name="katago.fleet.triage_baseline",
                module_args={"baseline": baseline},
                task_vars=task_vars,
            ),
        }
