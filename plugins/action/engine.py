"""The control node's half of `katago.fleet.engine` and `katago.fleet.network`: sends what a host lacks.

`meta/runtime.yml` leads the network's module here.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.katago.fleet.plugins.plugin_utils.transfer.host_files import DeliveringAction


class ActionModule(DeliveringAction):
    """Installs an engine or a network on a host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the host, deliver, install."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        local = str(arguments.pop("path"))
        return {**result, **self.deliver(self._task.action, arguments, local, task_vars)}
