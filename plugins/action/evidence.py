"""The control node's half of `katago.fleet.evidence`: keeps what the host sends."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.module_utils import collectors
from ansible_collections.katago.fleet.plugins.plugin_utils import records


class ActionModule(ActionBase):
    """Collects and keeps; refuses a procedure whose evidence cannot be kept."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Make the directory first: what cannot be kept need not be collected."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.check_mode:
            return {**result, "changed": False, "skipped": True}
        arguments = self._task.args
        try:
            kept = records.Records(Path(arguments["records_dir"]), str(arguments["incident"]))
            collected = self._execute_module(
                module_name="katago.fleet.evidence", module_args={}, task_vars=task_vars
            )
            if collected.get("failed") or collected.get("unreachable"):
                return {**result, **collected, "refused": True}
            items = [
                collectors.Item(
                    item["name"],
                    zlib.decompress(base64.b64decode(item["content"])),
                    item["seconds"],
                    item["problem"],
                )
                for item in collected["packed"]
            ]
            directory, manifest = kept.keep_evidence(
                (task_vars or {})["inventory_hostname"], collected["at"], items
            )
        except (records.RecordError, OSError) as error:
            return {
                **result,
                "failed": True,
                "refused": True,
                "msg": f"Refused; nothing was changed on this host. The evidence cannot be kept: {error}.",
            }
        return {**result, "changed": False, "directory": str(directory), "items": manifest["items"]}
