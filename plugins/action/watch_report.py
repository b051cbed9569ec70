"""Shows the verdicts of a watch on all hosts of a play, and records them in the incident's timeline."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import outbox
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import watch_table
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.run import commands, inputs

display = Display()


class ActionModule(ActionBase):
    """Runs once, on the control node, for all hosts of the play, including unreachable ones."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print and record the verdicts. Fail unless all hosts recovered, if the run waited or only read."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation.check(self)
        arguments, variables = self._task.args, task_vars or {}
        waited = inputs.switch(arguments, "wait", "watch_wait", default=True)
        decided = inputs.switch(arguments, "fetch", "watch_fetch", default=False) or waited
        results = {
            host: watch_table.read(variables["hostvars"][host].get("watch_result") or {})
            for host in variables["ansible_play_hosts_all"]
        }
        verdicts = {host: watch_table.verdict(each)[0] for host, each in results.items()}
        if self._task.check_mode and "refused" not in verdicts.values():
            for host, each in results.items():
                display.display(f"[{host}] watch: {_predicted(each)} (predicted).")
            return {**result, "changed": False, "verdicts": {}}
        sources = variables.get("ansible_inventory_sources") or []
        table = watch_table.render(results, commands.inventory_arguments(sources))
        display.display(commands.as_run_here(table, sources))
        for host, each in results.items():
            # A refusal is no verdict on the service.
            if not self._task.check_mode and verdicts[host] != "refused":
                self._record(host, each)
        expected = ("recovered",) if decided else ("recovered", "watching")
        short = [f"{host} is {each}" for host, each in verdicts.items() if each not in expected]
        if short:
            msg = f"Not recovered: {', '.join(short)}."
            return {**result, "failed": True, "msg": msg, "verdicts": verdicts}
        return {**result, "changed": False, "verdicts": verdicts}

    def _record(self, host: str, result: watch_table.HostResult) -> None:
        arguments = self._task.args
        line = watch_table.event(host, result, datetime.now(UTC), str(arguments["who"]))
        try:
            incident = records.Records(Path(arguments["records_dir"]), str(arguments["incident"] or ""))
            if not watch_table.is_told(line, outbox.read_timeline(incident.timeline)):
                incident.add_event(line)
        except (records.RecordError, OSError) as error:
            display.warning(f"[{host}] The verdict could not be written to the timeline: {error}")


def _predicted(result: watch_table.HostResult) -> str:
    if "verdict" not in result:
        return f"unknown; {watch_table.verdict(result)[1]}"
    name, why = watch_table.verdict(result)
    if result.get("joined"):
        return f"would join the existing window ({name}: {why})"
    return f"would start a window (verdict before it: {name}: {why})"
