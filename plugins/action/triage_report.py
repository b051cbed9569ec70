"""Shows the verdicts on all hosts of a play, and writes the JSON report."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils.severity import LEVELS, rank
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import triage_reports
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.run import inputs, report_files, triage_file

display = Display()


class ActionModule(ActionBase):
    """Runs once, on the control node, for all hosts of the play, including unreachable ones."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print the table, write the report, compare the fleet's verdict with `fail_on`."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation.check(self)
        variables = task_vars or {}
        breach = inputs.switch(self._task.args, "breach", "triage_breach", default=False)
        fail_on = self._task.args.get("fail_on") or None
        if fail_on and fail_on not in LEVELS[1:]:
            raise AnsibleActionFail(
                f"triage_fail_on is {fail_on!r}; accepted: {', '.join(reversed(LEVELS[1:]))}"
            )
        now = datetime.now(UTC)
        gathered = triage_reports.gather(variables, now, breach=breach)
        display.display(gathered.as_table())
        report, fleet = gathered.as_dict(now), gathered.fleet
        if name := self._task.args.get("path"):
            path = report_files.written("triage_json", name, lambda path: triage_file.write(path, report))
            display.display(f"The report was written to {path}.")
        if fail_on and rank(fleet.verdict) >= rank(fail_on):
            msg = f"The fleet is {fleet.verdict}; triage_fail_on is {fail_on}."
            return {**result, "failed": True, "msg": msg, "verdict": fleet.verdict}
        return {**result, "changed": False, "verdict": fleet.verdict}
