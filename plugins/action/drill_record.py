"""Records a step of a drill that runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import opening
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.store import DrillRecordError, DrillRecords
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments


class ActionModule(ActionBase):
    """Runs once, on the control node."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Merge the changes into the record; return the time."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        monotonic, at = time.monotonic(), timestamps.now()
        given = arguments.validated(self)
        records = DrillRecords(Path(given["records_dir"]))
        changes = {**given["changes"], **({"fault": {"injected": at}} if given["injected"] else {})}
        try:
            records.save(opening.changed(records.load(given["drill"]), changes))
        except (DrillRecordError, shape.ShapeError, OSError) as error:
            raise AnsibleActionFail(f"The step of the drill was not recorded: {error}") from error
        aborted = records.abort_requested(given["drill"])
        return {**result, "changed": True, "at": at, "monotonic": monotonic, "aborted": aborted}
