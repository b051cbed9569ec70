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
from ansible_collections.katago.fleet.plugins.plugin_utils.run import commands, inputs

display = Display()


class ActionModule(ActionBase):
    """Runs once, on the control node, for all hosts of the play, those that are gone included."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print, record; fail unless all hosts recovered, where that was waited or asked for."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments, known = self._task.args, task_vars or {}
        waited = inputs.switch(arguments, "wait", "watch_wait", default=True)
        decided = inputs.switch(arguments, "fetch", "watch_fetch", default=False) or waited
        found = {
            host: watch_table.read(known["hostvars"][host].get("watch_result") or {})
            for host in known["ansible_play_hosts_all"]
        }
        verdicts = {host: watch_table.verdict(each)[0] for host, each in found.items()}
        if self._task.check_mode and "refused" not in verdicts.values():
            for host, each in found.items():
                display.display(f"[{host}] watch: {_predicted(each)} (predicted).")
            return {**result, "changed": False, "verdicts": {}}
        sources = known.get("ansible_inventory_sources") or []
        table = watch_table.render(found, commands.inventory_arguments(sources))
        display.display(commands.as_run_here(table, sources))
        for host, each in found.items():
            # What is refused says nothing of the service.
            if not self._task.check_mode and verdicts[host] != "refused":
                self._record(host, each)
        expected = ("recovered",) if decided else ("recovered", "watching")
        short = [f"{host} is {each}" for host, each in verdicts.items() if each not in expected]
        if short:
            msg = f"Not recovered: {', '.join(short)}."
            return {**result, "failed": True, "msg": msg, "verdicts": verdicts}
        return {**result, "changed": False, "verdicts": verdicts}

    def _record(self, host: str, found: watch_table.HostResult) -> None:
        arguments = self._task.args
        line = watch_table.event(host, found, datetime.now(UTC), str(arguments["who"]))
        try:
            kept = records.Records(Path(arguments["records_dir"]), str(arguments["incident"] or ""))
            if not watch_table.is_told(line, outbox.read_timeline(kept.timeline)):
                kept.add_event(line)
        except (records.RecordError, OSError) as error:
            display.warning(f"[{host}] The verdict is not in the timeline: {error}")


def _predicted(found: watch_table.HostResult) -> str:
    if "verdict" not in found:
        return f"unknown; {watch_table.verdict(found)[1]}"
    name, why = watch_table.verdict(found)
    if found.get("joined"):
        return f"would join or read the window that is there, {name}: {why}"
    return f"would begin a window; there is {name}: {why}"
