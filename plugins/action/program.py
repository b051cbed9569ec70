"""The control node's half of `katago.fleet.program`: makes the program and sends it to hosts that lack it."""

from __future__ import annotations

import tempfile
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import digest
from ansible_collections.katago.fleet.plugins.plugin_utils import programs
from ansible_collections.katago.fleet.plugins.plugin_utils.delivery import DeliveringAction


class ActionModule(DeliveringAction):
    """Installs a program on a host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Pack, ask the host, deliver, install."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        content = programs.pack(str(self._task.args["module"]))
        arguments = {"path": self._task.args["path"], "sha256": digest.of_bytes(content)}
        with tempfile.NamedTemporaryFile(prefix="katago-program-") as packed:
            packed.write(content)
            packed.flush()
            delivered = self.deliver("katago.fleet.program", arguments, packed.name, task_vars)
        return {**result, **delivered}
