"""Shows the overview of all hosts of a play, and writes it to files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.plugin_utils.fleet import page, results, table
from ansible_collections.katago.fleet.plugins.plugin_utils.fleet.findings import Thresholds
from ansible_collections.katago.fleet.plugins.plugin_utils.fleet.overview import Overview
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments, report_files

display = Display()


class ActionModule(ActionBase):
    """Runs once, on the control node, for all hosts of the play, including unreachable ones."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print the table, write the files."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given, variables = arguments.validated(self), task_vars or {}
        hosts = results.gather(
            {host: variables["hostvars"][host] for host in variables["ansible_play_hosts_all"]},
            results.answers(given["balancers"]),
        )
        thresholds = Thresholds(given["certificate_days"], given["backup_hours"], given["clock_seconds"])
        overview = Overview.of(hosts, thresholds, datetime.now(UTC))
        display.display(table.render(overview))
        for variable, path, content in (
            ("fleet_json", given["json"], json.dumps(overview.as_dict(), indent=2, default=str) + "\n"),
            ("fleet_html", given["html"], page.render(overview)),
        ):
            if path:
                display.display(f"The overview was written to {report_files.write(variable, path, content)}.")
        findings: Mapping[str, Any] = {
            host: [asdict(each) for each in found] for host, found in overview.findings.items()
        }
        return {**result, "changed": False, "findings": findings}
