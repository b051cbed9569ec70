"""Shows self-healing of all hosts of a play, and writes it to a file."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.plugin_utils.reports import healing_table
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments, commands, report_files
from ansible_collections.katago.fleet.plugins.plugin_utils.run.fleet_hosts import GROUP

display = Display()


class ActionModule(ActionBase):
    """Runs once, on the control node, for all hosts of the play, including unreachable ones."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print the table, write the file."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given, variables = arguments.validated(self), task_vars or {}
        report = healing_table.gather(
            {
                host: variables["hostvars"][host].get("self_healing_shown") or {}
                for host in variables["ansible_play_hosts_all"]
            },
            variables["groups"].get(GROUP) or [],
        )
        sources = variables.get("ansible_inventory_sources") or []
        display.display(commands.as_run_here(healing_table.render(report), sources))
        if given["json"]:
            content = json.dumps(report, indent=2) + "\n"
            path = report_files.write("healing_json", given["json"], content)
            display.display(f"The report was written to {path}.")
        return {**result, "changed": False, "healing": report}
