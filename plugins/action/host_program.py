"""The control node's part of `katago.fleet.host_program`: builds and sends the program."""

from __future__ import annotations

from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.procedure import security_mode
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer.host_files import DeliveringAction


class ActionModule(DeliveringAction):
    """Installs a program on a host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Build the program, check the host, deliver, install."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation.check(self)
        arguments = self._task.args
        delivered = self.deliver_program(str(arguments["module"]), str(arguments["path"]), task_vars)
        if mode := delivered.pop("security_mode", None):
            host = (task_vars or {})["inventory_hostname"]
            message = security_mode.refusal(mode, host, "the installation of a program")
            return {**result, **delivered, "failed": True, "refused": True, "msg": message}
        return {**result, **delivered}
