"""The control node's half of `katago.fleet.host_lock`: whose it is, and whether it may be taken."""

from __future__ import annotations

import os
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock, security_mode
from ansible_collections.katago.fleet.plugins.module_utils.release import deployed
from ansible_collections.katago.fleet.plugins.plugin_utils.run import actors, commands, runs
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation

display = Display()


class ActionModule(ActionBase):
    """Takes the lock, or says whose it is."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the host; take over or break only what may be."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation.check(self)
        arguments = self._task.args
        taking = arguments["state"] == "held"
        wanted = {
            "state": arguments["state"],
            "procedure": str(arguments["procedure"]),
            "owner": str(arguments["who"]),
            "run": runs.this_run(),
            "session": actors.session(os.getppid()),
        }
        answer = self._ask(wanted, task_vars)
        if answer.get("failed") or answer.get("unreachable") or not taking:
            return {**result, **answer}
        if mode := answer.pop("security_mode", None):
            host = (task_vars or {})["inventory_hostname"]
            words = security_mode.refusal(mode, host, wanted["procedure"])
            shown = f"ansible-playbook playbooks/security_show.yml -l {host}"
            return {**result, **answer, "failed": True, "refused": True, "msg": words, "next_step": shown}
        if why := answer.pop("undeployed", None):
            words = deployed.refusal(why, (task_vars or {})["inventory_hostname"])
            return {**result, **answer, "failed": True, "refused": True, "msg": words}
        if answer["holder"]["run"] == wanted["run"]:
            return {**result, **answer}
        return {**result, **self._contest(answer, wanted, task_vars)}

    def _contest(
        self, answer: dict[str, Any], wanted: dict[str, Any], task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        host = (task_vars or {})["inventory_hostname"]
        holder = host_lock.Holder(**answer["holder"])
        breaking = _names(str(self._task.args.get("break_lock") or ""))
        now = runs.life(holder.run) if holder.run.count(":") == 2 else "unknown"
        claimant = host_lock.Holder(wanted["owner"], wanted["procedure"], wanted["run"], holder.since)
        if not host_lock.may_take_over(holder, claimant, now, breaking):
            command = commands.again(wanted["procedure"], host, {"break_lock": holder.name})
            message = host_lock.refusal(holder, answer["age"], now, host, breaking, command)
            return {**answer, "failed": True, "refused": True, "msg": message}
        if not self._task.check_mode:
            replacing = {"instead_of": answer["holder"], "going_on": not breaking}
            answer = self._ask({**wanted, **replacing}, task_vars)
            if answer.get("failed") or answer["holder"]["run"] != wanted["run"]:
                return {
                    "failed": True,
                    "refused": True,
                    "msg": "Refused; somebody else was faster.",
                    **answer,
                }
        display.warning(
            f"[{host}] The lock of {holder.owner} for {holder.procedure} since {holder.since}"
            f" {'would be' if self._task.check_mode else 'is'} taken over:"
            f" {'it was to be broken' if breaking else 'its run is dead'}."
        )
        return {**answer, "taken_over": holder.__dict__}

    def _ask(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name="katago.fleet.host_lock", module_args=arguments, task_vars=task_vars
        )
        return answer


def _names(value: str) -> list[str]:
    return [name for each in value.split(",") if (name := each.strip())]
