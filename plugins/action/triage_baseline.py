"""The control node's half of `katago.fleet.triage_baseline`: refuses what is no baseline."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.module_utils.triage import baseline_record, facts, verdict


class ActionModule(ActionBase):
    """Writes a baseline on a host that is well and warm."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Judge, refuse or record."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        measured = self._task.args["triage"]
        known = facts.read(measured["facts"])
        problems = baseline_record.problems(
            verdict.parse(measured["verdict"]),
            known,
            least_uptime=float(self._task.args.get("least_uptime", 60)),
        )
        if problems:
            listed = "\n".join(f"- {problem}" for problem in problems)
            return {
                **result,
                "failed": True,
                "refused": True,
                "problems": problems,
                "msg": f"Refused; nothing was written on this host.\n{listed}",
            }
        baseline = baseline_record.make(known, now=datetime.now(UTC))
        return {
            **result,
            **self._execute_module(
                module_name="katago.fleet.triage_baseline",
                module_args={"baseline": baseline},
                task_vars=task_vars,
            ),
        }
