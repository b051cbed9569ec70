"""Ends drills that run, and closes the records of those whose runs are gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.plugin_utils.drill import orphans
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.store import DrillRecords
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import store as incident_store
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments, runs

display = Display()


class ActionModule(ActionBase):
    """Runs once, on the control node. Works without any record."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask live runs to end, close the others; return the incidents that nobody will close."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = arguments.validated(self)
        root = Path(given["records_dir"])
        records = DrillRecords(root)
        reason = f"{given['who']} aborted it"
        asked, closed = [], []
        try:
            for record, life in list(records.running(runs.life)):
                drill = record["id"]
                if life != "dead":
                    records.request_abort(drill, reason)
                    asked.append(drill)
                    continue
                if problem := orphans.close(root, record):
                    display.warning(problem)
                closed.append(record)
        except OSError as error:
            raise AnsibleActionFail(
                f"The records of drills cannot be changed: {error}. The hosts were undone anyway."
            ) from error
        still_open = incident_store.open_incidents(root)
        for drill in asked:
            display.display(f"{drill} was asked to end. Its run closes its record and its incident.")
        return {
            **result,
            "changed": bool(asked or closed),
            "asked": asked,
            "closed": [each["id"] for each in closed],
            "incidents": [each["incident"] for each in closed if each["incident"] in still_open],
            "silenced": [{"drill": each["id"], "host": host} for each in closed for host in each["hosts"]],
        }
