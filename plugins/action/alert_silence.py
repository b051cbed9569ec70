"""The control node's part of `katago.fleet.alert_silence`: what is silenced, and what a failure means."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import silences
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.run import runs


class ActionModule(ActionBase):
    """Fails only if the task itself is wrong."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the arguments, then have the monitoring host set or end the silence."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = validation.validated(self)
        host, alerts = arguments["host"], arguments["alerts"]
        problems = list(silences.problems(host, alerts, arguments["minutes"]))
        ends_any_run = arguments["any_run"] and arguments["state"] == "absent"
        if ends_any_run and not arguments["incident"]:
            problems.append("any_run needs the incident, so that no silence of other work is ended.")
        if problems:
            return {**result, "failed": True, "refused": True, "msg": " ".join(["Refused.", *problems])}
        work = {name: arguments[name] for name in ("procedure", "host", "incident")}
        request = {
            "state": arguments["state"],
            "matchers": silences.matchers(host, alerts),
            "comment": silences.comment(**work, who=arguments["who"], run=runs.this_run()),
            "parts": silences.parts_of_any_run(**work) if ends_any_run else [],
            **{name: arguments[name] for name in ("who", "minutes", "grace", "port")},
        }
        try:
            answer = self._execute_module(
                module_name="katago.fleet.alert_silence", module_args=request, task_vars=task_vars
            )
            why = "" if not _failed(answer) else str(answer.get("msg") or "no reason given")
        except AnsibleConnectionFailure as error:
            answer, why = {}, f"It cannot be reached: {error}"
        except AnsibleError as error:
            answer, why = {}, str(error)
        reached = {"changed": False, "silences": answer.get("silences") or [], "reached": not why}
        return {**result, **reached, **({"warnings": [self._warning(why, arguments)]} if why else {})}

    def _warning(self, why: str, arguments: dict[str, Any]) -> str:
        monitor = self._task.delegate_to or "the monitoring host"
        reason = " ".join(why.split()).rstrip(".")
        effect = (
            f"Alerts about {arguments['host']} are not silenced during {arguments['procedure']}"
            if arguments["state"] == "present"
            else f"The silence of {arguments['host']} was not ended; it expires automatically"
        )
        return f"[{monitor}] {effect}: {reason}."


def _failed(answer: dict[str, Any]) -> bool:
    return bool(answer.get("failed") or answer.get("unreachable"))
