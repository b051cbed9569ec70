"""Refuses inputs that are not valid, before a procedure does anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible import context
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

from ansible_collections.katago.fleet.plugins.plugin_utils.rollout import plan
from ansible_collections.katago.fleet.plugins.plugin_utils.run import (
    arguments,
    fleet_hosts,
    inputs,
    procedures,
    records_dir,
    rotation,
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
        extra = load_extra_vars(self._loader)
        problems = inputs.problems(extra, name)
        if name in procedures.PROCEDURES and "canary" in procedures.inputs_of(name):
            problems += _rollout_problems(extra, (task_vars or {}).get("ansible_play_hosts_all") or [])
        if name in procedures.PROCEDURES and procedures.PROCEDURES[name].records:
            problems += records_dir.problems(task_vars or {}, self._templar.template)
        problems += variables.renamed(task_vars or {})
        problems += rotation.budget_problems(
            self._templar.template((task_vars or {}).get("fleet_min_available")),
            _leaving(name, extra, (task_vars or {}).get("groups") or {}),
        )
        problems += inputs.unknown_hosts(str(context.CLIARGS.get("subset") or ""), task_vars or {})
        if problems:
            msg = f"Refused; nothing was changed. {' '.join(problems)}"
            return {**result, "failed": True, "refused": True, "msg": msg}
        return {**result, "changed": False}


def _leaving(procedure: str, extra: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> int | None:
    """The number of hosts of the fleet if the procedure must take one out of rotation; None otherwise."""
    takes_out = procedure in procedures.PROCEDURES and "without_drain" in procedures.inputs_of(procedure)
    is_optional = boolean(extra.get("without_drain", False), strict=False)
    if not takes_out or is_optional or not groups.get(fleet_hosts.LOAD_BALANCERS):
        return None
    return len(groups.get(fleet_hosts.GROUP) or ())


def _rollout_problems(extra: Mapping[str, Any], hosts: Sequence[str]) -> Iterator[str]:
    """What is wrong with the inputs of a rollout, which the plan would refuse after the build."""
    canary, serial = (str(extra.get(name) or "").strip() for name in ("canary", "deploy_serial"))
    try:
        plan.check_canary(canary, hosts)
        if serial:
            plan.hosts_at_a_time(serial, 1)
    except plan.PlanError as error:
        yield f"{error}."
