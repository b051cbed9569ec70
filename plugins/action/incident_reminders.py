"""The control node's part of `katago.fleet.incident_reminders`: delivers the alarms, fetches the events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.incident import reminder_timer, reminders
from ansible_collections.katago.fleet.plugins.module_utils.procedure import security_mode
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import outbox
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.run import commands
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer.host_files import DeliveringAction

display = Display()


class ActionModule(DeliveringAction):
    """Works on the reminder host, which may itself be unhealthy."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Set the reminders. A failure is returned in `problems`; it does not stop the run."""
        result: dict[str, Any] = {}
        host = str(self._task.delegate_to or (task_vars or {})["inventory_hostname"])
        try:
            # This already connects to the host.
            result = super().run(tmp, task_vars)
            validation.check(self)
            answer = self._set(task_vars)
        except AnsibleConnectionFailure as error:
            answer = {"failed": True, "msg": str(error).strip().splitlines()[0]}
        if answer.get("failed") or answer.get("unreachable"):
            problem = (
                f"The reminders on {host} were not set: {answer.get('msg')}. {self._other_host(task_vars)}"
            )
            return {**result, "changed": False, "problems": [problem]}
        if not self._task.check_mode:
            self._record(host, answer.get("done", []))
        if mode := answer.get("security_mode"):
            problems = self._unchanged(host, mode, task_vars)
            return {**result, "changed": False, "problems": problems, "done": answer["done"]}
        return {**result, "changed": answer["changed"], "problems": [], "done": answer.get("done", [])}

    def _set(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        arguments = self._task.args
        clock = arguments["clock"]
        groups = reminders.reachable(arguments["channels"])
        module_args = {"incident": clock["incident"]}
        if clock["plan"] and groups:
            module_args |= {"plan": clock["plan"], "channels": json.dumps(groups)}
            delivered = self.deliver_program("incident.reminders", str(paths.REMINDER_PROGRAM), task_vars)
            if delivered.get("failed") or delivered.get("unreachable"):
                return delivered
        answer: dict[str, Any] = self._execute_module(
            module_name="katago.fleet.incident_reminders", module_args=module_args, task_vars=task_vars
        )
        return answer

    def _other_host(self, task_vars: dict[str, Any] | None) -> str:
        """How to have another host send the reminders."""
        incident = self._task.args["clock"]["incident"]
        text = (
            f"Run ansible-playbook playbooks/incident_deliver.yml -e incident={incident}"
            " -e incident_reminder_host=HOST to use another host."
        )
        return commands.as_run_here(text, (task_vars or {}).get("ansible_inventory_sources") or [])

    def _unchanged(self, host: str, mode: Mapping[str, Any], task_vars: dict[str, Any] | None) -> list[str]:
        """The consequence of a reminder host in security mode: a problem if its reminders are outdated."""
        incident = self._task.args["clock"]["incident"]
        reason = (
            f"The reminder host {host} is in security mode {security_mode.Mode(**mode)}, so nothing on it was"
            " changed."
        )
        if self._task.args["clock"]["plan"]:
            return [f"{reason} Its reminders of {incident} are outdated. {self._other_host(task_vars)}"]
        text = (
            f"{reason} It still has the reminders of {incident}. Once security mode is off, run"
            f" ansible-playbook playbooks/incident_deliver.yml -e incident={incident} to remove them."
        )
        sources = (task_vars or {}).get("ansible_inventory_sources") or []
        display.warning(commands.as_run_here(text, sources))
        return []

    def _record(self, host: str, done: list[dict[str, Any]]) -> None:
        """Add new events of the reminder timer to the timeline."""
        record = records.Records(Path(self._task.args["records_dir"]), self._task.args["clock"]["incident"])
        recorded = outbox.read_timeline(record.timeline)
        for line in done:
            what = line.get("name") or line.get("key") or ""
            event = {
                "at": line["at"],
                "host": host,
                "who": reminder_timer.WHO,
                "event": line["event"],
                "message": f"{what} {line.get('why', '')}".strip(),
            }
            if event not in recorded:
                try:
                    record.add_event(event)
                except OSError as error:
                    display.warning(f"The incident's timeline lacks what the reminder timer did: {error}")
                    return
