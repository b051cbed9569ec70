"""The control node's half of `katago.fleet.network`: sends the network to hosts that lack it."""

from __future__ import annotations

from typing import Any

from ansible_collections.katago.fleet.plugins.plugin_utils.transfer.host_files import DeliveringAction


class ActionModule(DeliveringAction):
    """Installs a network on a host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the host, deliver, install."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        local = str(arguments.pop("path"))
        return {**result, **self.deliver("katago.fleet.network", arguments, local, task_vars)}
