"""Records a procedure's result on a host in the incident's timeline, and prints it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import log
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import outbox
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.run import commands, records_dir, runs

display = Display()
RESULTS = ("begun", "ok", "changed", "refused", "partial", "unknown")


class ActionModule(ActionBase):
    """Runs on the control node only."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Append the event, except in check mode. If it cannot be written, warn and continue."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation.check(self)
        arguments = self._task.args
        host = (task_vars or {})["inventory_hostname"]
        outcome = str(arguments["result"])
        if outcome not in RESULTS:
            return {**result, "failed": True, "msg": f"result is {outcome!r}. Accepted: {', '.join(RESULTS)}"}
        warning = str(arguments.get("warning") or "")
        message = str(arguments.get("message") or "")
        event = {
            "at": timestamps.now(),
            "host": host,
            "who": str(arguments["who"]),
            "run": runs.this_run(),
            "procedure": str(arguments["procedure"]),
            "result": outcome,
            "message": f"{message} Warning: {warning}.".strip() if warning else message,
        }
        predicted = " (predicted)" if self._task.check_mode else ""
        summary = f"[{host}] {event['procedure']}: {outcome}{predicted}. {event['message']}".rstrip()
        sources = (task_vars or {}).get("ansible_inventory_sources") or []
        if outcome != "begun":
            # The callback `results` shows it at the end of the run.
            result["summary"] = commands.as_run_here(summary, sources)
        if warning and outcome not in ("begun", "ok", "changed"):
            display.warning(f"[{host}] {warning}")
        if not self._task.check_mode:
            try:
                repairs = [log.as_event(each) for each in arguments.get("self_healing") or []]
                root = (
                    Path(arguments["records_dir"])
                    if arguments.get("records_dir")
                    else records_dir.of_task(task_vars or {}, self._templar.template)
                )
                record = records.Records(root, str(arguments["incident"]))
                recorded = outbox.read_timeline(record.timeline) if repairs else []
                for each in [log.timeline(repair, host) for repair in repairs]:
                    if each not in recorded:
                        record.add_event(each)
                record.add_event(event)
            except (records.RecordError, records_dir.PlaceError, shape.ShapeError, OSError) as error:
                display.warning(f"[{host}] The incident's timeline lacks this result: {error}")
        return {**result, "changed": False, "event": event}
