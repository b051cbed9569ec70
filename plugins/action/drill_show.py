"""Shows running and past drills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.plugin_utils.drill import listing
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.store import DrillRecords
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments

display = Display()


class ActionModule(ActionBase):
    """Runs once, on the control node. Reads only."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print a line for each drill; warn of records that cannot be used."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        drills, problems = DrillRecords(Path(arguments.validated(self)["records_dir"])).load_all()
        for problem in problems:
            display.warning(problem)
        for line in listing.lines(drills):
            display.display(line)
        return {**result, "changed": False, "drills": [each["id"] for each in drills]}
