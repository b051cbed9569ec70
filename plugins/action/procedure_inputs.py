"""Refuses extra variables that cannot be followed, for playbooks that take no lock."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

from ansible_collections.katago.fleet.plugins.plugin_utils.run import inputs, records_dir


class ActionModule(ActionBase):
    """Runs once, on the control node; no host is asked."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look at what was given."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        problems = inputs.problems(load_extra_vars(self._loader), self._task.args.get("names", []))
        if self._task.args.get("records"):
            problems += records_dir.problems(task_vars or {}, self._templar.template)
        if problems:
            msg = f"Refused; nothing was changed on this host. {' '.join(problems)}"
            return {**result, "failed": True, "refused": True, "msg": msg}
        return {**result, "changed": False}
