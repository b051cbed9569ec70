"""Shows the collected evidence of all hosts of a play, and records it in the incident's timeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records, table
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation

display = Display()


class ActionModule(ActionBase):
    """Runs once, on the control node, for all hosts of the play, including unreachable ones."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print and record the outcome of every host. Fail if the evidence of a host is incomplete."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation.check(self)
        if self._task.check_mode:
            return {**result, "changed": False, "skipped": True}
        variables = task_vars or {}
        results = {
            host: variables["hostvars"][host].get("evidence_result") or {}
            for host in variables["ansible_play_hosts_all"]
        }
        display.display(table.render(results))
        outcomes = {host: table.outcome(each) for host, each in results.items()}
        for host, (outcome, message) in outcomes.items():
            self._record(host, outcome, message)
        incomplete = [host for host, (outcome, _) in outcomes.items() if outcome != "ok"]
        if incomplete:
            msg = (
                f"The evidence of {', '.join(incomplete)} is missing or incomplete."
                " The stored items are listed above and in each manifest."
            )
            return {**result, "failed": True, "msg": msg}
        return {**result, "changed": False, "directories": [each["directory"] for each in results.values()]}

    def _record(self, host: str, outcome: str, message: str) -> None:
        arguments = self._task.args
        event = {
            "at": timestamps.now(),
            "host": host,
            "who": str(arguments["who"]),
            "procedure": "evidence",
            "result": outcome,
            "message": message,
        }
        root, incident = Path(arguments["records_dir"]), str(arguments["incident"] or "")
        if why := records.add_event(root, incident, event):
            display.warning(f"[{host}] The incident's timeline lacks this result: {why}")
