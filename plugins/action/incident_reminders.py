"""The control node's half of `katago.fleet.incident_reminders`: sends the alarms, fetches what was done."""

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
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer.host_files import DeliveringAction

display = Display()


class ActionModule(DeliveringAction):
    """Works on the timekeeper, which may be one of those that are ill."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Whatever is in the way is a problem to be told, and no reason to stop."""
        result: dict[str, Any] = {}
        host = str(self._task.delegate_to or (task_vars or {})["inventory_hostname"])
        try:
            # Connects to the host already.
            result = super().run(tmp, task_vars)
            validation.check(self)
            answer = self._set(task_vars)
        except AnsibleConnectionFailure as error:
            answer = {"failed": True, "msg": str(error).strip().splitlines()[0]}
        if answer.get("failed") or answer.get("unreachable"):
            words = (
                f"The timekeeper {host} reminds nobody: {answer.get('msg')}."
                " Name another one: -e incident_timekeeper=HOST with -e do=tell."
            )
            return {**result, "changed": False, "problems": [words]}
        if not self._task.check_mode:
            self._record(host, answer.get("done", []))
        if mode := answer.get("security_mode"):
            return {**result, "changed": False, "problems": self._left(host, mode), "done": answer["done"]}
        return {**result, "changed": answer["changed"], "problems": [], "done": answer.get("done", [])}

    def _set(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        arguments = self._task.args
        clock = arguments["clock"]
        reached = reminders.reachable(arguments["sinks"])
        wanted = {"incident": clock["incident"]}
        if clock["plan"] and reached:
            wanted |= {"plan": clock["plan"], "sinks": json.dumps(reached)}
            delivered = self.deliver_program("incident.reminders", str(paths.REMINDER_PROGRAM), task_vars)
            if delivered.get("failed") or delivered.get("unreachable"):
                return delivered
        answer: dict[str, Any] = self._execute_module(
            module_name="katago.fleet.incident_reminders", module_args=wanted, task_vars=task_vars
        )
        return answer

    def _left(self, host: str, mode: Mapping[str, Any]) -> list[str]:
        """What it means that a host in security mode is left alone; a problem if nobody is reminded."""
        incident = self._task.args["clock"]["incident"]
        words = (
            f"The timekeeper {host} is in security mode {security_mode.Mode(**mode)}."
            " Nothing on it is changed:"
        )
        if self._task.args["clock"]["plan"]:
            return [
                f"{words} it does not remind of {incident} as it now is."
                " Name another one: -e incident_timekeeper=HOST with -e do=tell."
            ]
        display.warning(
            f"{words} what it reminds of {incident} is left there."
            f" When the mode is over, -e do=tell -e incident={incident} takes it back."
        )
        return []

    def _record(self, host: str, done: list[dict[str, Any]]) -> None:
        """Add what is new to the timeline."""
        kept = records.Records(Path(self._task.args["records_dir"]), self._task.args["clock"]["incident"])
        there = outbox.read_timeline(kept.timeline)
        for line in done:
            what = line.get("name") or line.get("key") or ""
            event = {
                "at": line["at"],
                "host": host,
                "who": reminder_timer.WHO,
                "event": line["event"],
                "message": f"{what} {line.get('why', '')}".strip(),
            }
            if event not in there:
                try:
                    kept.add_event(event)
                except OSError as error:
                    display.warning(f"What the timekeeper did is not in the timeline: {error}")
                    return
