"""The control node's part of `katago.fleet.drill_alerts`: asks again and again, and decides."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.plugin_utils.drill import alert_watch
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.store import DrillRecordError, DrillRecords
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments, runs

_LOOK_SECONDS = 5


class ActionModule(ActionBase):
    """Runs on each monitoring host, in a run of Ansible of its own beside the drill."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask until the drill has ended."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given, known = arguments.validated(self), task_vars or {}
        records = DrillRecords(Path(given["records_dir"]))
        watch = alert_watch.Watch(records, given["drill"], str(known["inventory_hostname"]))
        end = time.monotonic() + given["seconds"]
        try:
            while time.monotonic() < end and not watch.is_over(runs.life):
                answer = self._asked(given["port"], known)
                watch.look(answer, datetime.now(UTC))
                time.sleep(_LOOK_SECONDS)
        except (DrillRecordError, OSError) as error:
            raise AnsibleActionFail(f"The watch of alerts has ended: {error}") from error
        return {**result, "changed": False, "aborted": records.abort_requested(given["drill"])}

    def _asked(self, port: int, known: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer of the monitoring host, with `problem` if it has none."""
        try:
            answer: dict[str, Any] = self._execute_module(
                module_name="katago.fleet.drill_alerts", module_args={"port": port}, task_vars=dict(known)
            )
        except AnsibleConnectionFailure as error:
            self._connection.reset()
            return {"problem": f"it cannot be reached: {_line(error)}"}
        except AnsibleError as error:
            return {"problem": _line(error)}
        if answer.get("failed") or answer.get("unreachable"):
            return {"problem": _line(answer.get("msg") or "no reason given")}
        return answer


def _line(problem: object) -> str:
    return " ".join(str(problem).split()).rstrip(".")
