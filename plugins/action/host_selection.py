"""Refuses a run whose operator did not name its hosts, before a procedure does anything."""

from __future__ import annotations

from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.plugin_utils.run import (
    arguments,
    commands,
    fleet_hosts,
    selection,
)


class ActionModule(ActionBase):
    """Runs once, on the control node; contacts no host."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Compare the limit, the confirmation and the fleet."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given, variables = arguments.validated(self), task_vars or {}
        problems = selection.problems(
            selection.Selection(
                procedure=given["procedure"],
                limit=str(context.CLIARGS.get("subset") or ""),
                fleet=variables["groups"][fleet_hosts.GROUP],
                confirm=given.get("confirm"),
                last_host=given["last_host"],
                reminder_host=given["reminder_host"],
            )
        )
        if messages := list(problems):
            sources = variables.get("ansible_inventory_sources") or []
            msg = commands.as_run_here(f"Refused; nothing was changed. {' '.join(messages)}", sources)
            return {**result, "failed": True, "refused": True, "msg": msg}
        return {**result, "changed": False}
