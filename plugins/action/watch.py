"""The control node's part of `katago.fleet.watch`: installs the sampler and waits for its verdict."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.procedure import security_mode
from ansible_collections.katago.fleet.plugins.module_utils.release import deployed
from ansible_collections.katago.fleet.plugins.module_utils.watch import samples, window
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.run import inputs
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer.host_files import DeliveringAction

display = Display()
# Seconds to wait for an unreachable host, which is enough for a reboot.
GONE_SECONDS = 180
_SWITCHES = {"probes": True, "wait": True, "restart": False, "fetch": False}


class ActionModule(DeliveringAction):
    """Starts or joins a watch on a host, and waits for the verdict."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the arguments, install the sampler, start or join a window, wait."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation.check(self)
        arguments = self._task.args
        try:
            switches = {
                name: inputs.strict_bool(arguments.get(name, default), f"watch_{name}")
                for name, default in _SWITCHES.items()
            }
            terms = _terms(arguments, probes=switches["probes"])
            problems = _problems(terms, arguments)
        except ValueError as error:
            problems = [f"{error}."]
        if problems:
            msg = f"Refused; nothing was changed on this host. {' '.join(problems)}"
            return {**result, "failed": True, "refused": True, "msg": msg}
        fetch = switches["fetch"]
        if not fetch:
            delivered = self.deliver_program("watch.sampler", str(paths.WATCH_PROGRAM), task_vars)
            if delivered.get("failed") or delivered.get("unreachable"):
                why = str(delivered.get("msg") or "no reason given").strip().splitlines()[-1]
                return {**result, **delivered, "msg": f"The sampler cannot be installed: {why}"}
            if mode := delivered.get("security_mode"):
                return {**result, **_refused(mode, task_vars)}
        request = {
            "terms": asdict(terms),
            "restart": switches["restart"],
            "fetch": fetch,
            "incident": str(arguments.get("incident") or ""),
            "who": str(arguments["who"]),
        }
        answer = self._ask(request, task_vars)
        if mode := answer.get("security_mode"):
            return {**result, **_refused(mode, task_vars)}
        if undeployed := answer.get("undeployed"):
            host = str((task_vars or {})["inventory_hostname"])
            return {
                **result,
                "failed": True,
                "refused": True,
                "msg": deployed.refusal(undeployed, host),
                "next_step": deployed.command(host),
            }
        if answer.get("failed") or answer.get("unreachable") or fetch or self._task.check_mode:
            return {**result, **answer}
        if switches["wait"]:
            host = (task_vars or {})["inventory_hostname"]
            display.display(f"[{host}] {_start_message(answer)}")
            changed, joined = answer["changed"], answer["joined"]
            answer = self._wait(answer, {**request, "fetch": True}, terms, task_vars)
            answer |= {"changed": changed, "joined": joined}
        return {**result, **answer}

    def _wait(
        self,
        answer: dict[str, Any],
        request: dict[str, Any],
        terms: samples.Terms,
        task_vars: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """Poll the host until the verdict is decided. Tolerate an unreachable host for GONE_SECONDS."""
        before, answered = len(answer["verdict"]["resets"]), time.monotonic()
        while not _is_decided(answer, before):
            time.sleep(min(terms.interval, max(2.0, answer["verdict"]["left"])))
            try:
                newest = self._ask(request, task_vars)
            except AnsibleConnectionFailure:
                if time.monotonic() - answered > GONE_SECONDS:
                    raise
                self._connection.reset()
                continue
            if newest.get("failed"):
                return newest
            answer, answered = newest, time.monotonic()
        return answer

    def _ask(self, request: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name="katago.fleet.watch", module_args=request, task_vars=task_vars
        )
        return answer


def _refused(mode: Mapping[str, Any], task_vars: Mapping[str, Any] | None) -> dict[str, Any]:
    host = str((task_vars or {})["inventory_hostname"])
    return {
        "failed": True,
        "refused": True,
        "msg": security_mode.refusal(mode, host, "watch"),
        "next_step": f"ansible-playbook playbooks/security_show.yml -l {host}",
    }


def _terms(arguments: Mapping[str, Any], *, probes: bool) -> samples.Terms:
    numbers = ("minutes", "interval", "patience", "fewest_requests", "visits")
    values = {name: int(arguments[name]) for name in numbers if name in arguments}
    return samples.Terms(**values, probes=probes)


def _problems(terms: samples.Terms, arguments: Mapping[str, Any]) -> list[str]:
    """The parameters that are out of range, as sentences."""
    least, most = (int(each) for each in arguments.get("bounds", (15, window.MOST_MINUTES)))
    if not least <= terms.minutes <= most:
        return [f"-e minutes={terms.minutes} is out of range; accepted: {least} to {most}."]
    bounds = {"interval": (1, int(terms.seconds) // 4), "patience": (3, 600), "fewest_requests": (1, 1 << 30)}
    return [
        f"watch_{name} is {getattr(terms, name)}; accepted: {low} to {high}."
        for name, (low, high) in bounds.items()
        if not low <= getattr(terms, name) <= high
    ]


def _is_decided(answer: Mapping[str, Any], resets: int) -> bool:
    verdict = answer["verdict"]
    full = verdict["verdict"] in ("recovered", "unknown") and not verdict["left"]
    ended = not answer["alive"] or bool(answer["over"])
    return full or ended or len(verdict["resets"]) > resets


def _start_message(answer: Mapping[str, Any]) -> str:
    verdict = answer["verdict"]
    left = f"{verdict['left'] / 60:.1f} of {answer['minutes']} minutes left"
    if answer["joined"]:
        return f"Joined the watch of {answer['who']}: {verdict['verdict']}, {left}."
    return f"Started a watch of {answer['minutes']} minutes. It continues if this run is interrupted."
