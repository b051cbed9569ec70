"""The control node's part of `katago.fleet.drill_fault`: sends the program that undoes the fault."""

from __future__ import annotations

from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.procedure import security_mode
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.run import runs
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer.host_files import DeliveringAction

MODULE = "katago.fleet.drill_fault"
PROGRAM = "drill.program"


class ActionModule(DeliveringAction):
    """Arms, injects or undoes a fault."""

    # Only arming transfers a file. A directory for it takes three more connections, and a writable disk.
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Install the program before the undo is armed; the rest is done by the host."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = validation.validated(self)
        if arguments["state"] == "armed":
            delivered = self.deliver_program(PROGRAM, str(paths.DRILL_PROGRAM), task_vars)
            if mode := delivered.get("security_mode"):
                host = (task_vars or {})["inventory_hostname"]
                message = security_mode.refusal(mode, host, "the drill")
                return {**result, "failed": True, "refused": True, "msg": message}
            if delivered.get("failed") or delivered.get("unreachable"):
                return {**result, **delivered}
        answer: dict[str, Any] = self._execute_module(
            module_name=MODULE,
            module_args={**arguments, "run": runs.this_run()},
            task_vars=task_vars,
        )
        return {**result, **answer}
