"""Refuses inputs that are not valid, before a procedure does anything."""

from __future__ import annotations

from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

from ansible_collections.katago.fleet.plugins.plugin_utils.run import (
    arguments,
    inputs,
    procedures,
    records_dir,
    variables,
)


class ActionModule(ActionBase):
    """Runs once, on the control node; contacts no host."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the extra variables against the table of inputs, and where records go."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        name = arguments.validated(self)["procedure"]
        problems = inputs.problems(load_extra_vars(self._loader), name)
        if name in procedures.PROCEDURES and procedures.PROCEDURES[name].records:
            problems += records_dir.problems(task_vars or {}, self._templar.template)
        problems += variables.renamed(task_vars or {})
        problems += inputs.unknown_hosts(str(context.CLIARGS.get("subset") or ""), task_vars or {})
        if problems:
            msg = f"Refused; nothing was changed. {' '.join(problems)}"
            return {**result, "failed": True, "refused": True, "msg": msg}
        return {**result, "changed": False}
