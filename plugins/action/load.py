"""Runs the load generator as a program of its own, shows its progress, and returns its report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments, interruption
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import background, targets
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.load import REPORT, Order, Report

_SECONDS_OF_HOUR = 3600
_PRODUCTION = "production"

display = Display()


class ActionModule(ActionBase):
    """Runs once, on the control node, for all hosts of the play."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Refuse what must not be called, run the program, and show what it prints."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given, variables = arguments.validated(self), task_vars or {}
        if not given["allow_production"] and (names := _of_production(variables)):
            raise AnsibleActionFail(
                f"Refused; nothing was called. This is a production fleet: {', '.join(names)}."
                f" fleet_environment is {_PRODUCTION} unless the inventory sets it. Set it to staging or lab"
                " there if the fleet serves nobody, or add -e allow_production=true to call it anyway."
            )
        try:
            order = _order(given, variables)
        except targets.TargetError as error:
            raise AnsibleActionFail(f"Refused; nothing was called. {error}") from error
        called = ", ".join(f"{target.name} ({target.url})" for target in order.targets)
        if self._task.check_mode:
            display.display(f"Would call {called} for {order.seconds:g} s.")
            return {**result, "skipped": True, "msg": "nothing was called"}
        display.display(f"Calling {called} for {order.seconds:g} s. Ctrl-C ends the run.")
        report = _run(order, given)
        failed = report["ended"] == "overload"
        msg = f"The run was stopped: {report['reason']}." if failed else f"The run ended: {report['reason']}."
        return {**result, "changed": False, "failed": failed, "msg": msg, "report": report}


def _of_production(variables: Mapping[str, Any]) -> list[str]:
    """The hosts of the play that belong to a production fleet."""
    hostvars = variables["hostvars"]
    return [
        name
        for name in variables["ansible_play_hosts_all"]
        if hostvars[name].get("fleet_environment", _PRODUCTION) == _PRODUCTION
    ]


def _order(given: Mapping[str, Any], variables: Mapping[str, Any]) -> Order:
    found, token = targets.of_inventory(
        variables["groups"],
        variables["hostvars"],
        through=given["through"] or None,
        selected=variables["ansible_play_hosts_all"],
    )
    return Order(
        targets=found,
        token=token,
        rate=given["rate"],
        clients=given["clients"],
        session_percent=given["session_percent"],
        seconds=given["soak_hours"] * _SECONDS_OF_HOUR or given["seconds"],
        deadline=given["deadline"],
        overload_seconds=given["overload_seconds"],
        tool=given["tool"],
        visits=given["visits"],
    )


def _run(order: Order, given: Mapping[str, Any]) -> Report:
    """Run the program, show its lines, and return its report. The program ends if this process does."""
    files: list[str] = []
    for option, name in (
        ("--text", os.environ.get(interruption.VARIABLE, "")),
        ("--json", given["json"]),
        ("--html", given["html"]),
    ):
        files += [option, str(Path(name).expanduser().absolute())] if name else []
    line = report = ""
    with background.attached("loading", files) as (orders, output):
        orders.write(f"{order.as_json()}\n")
        orders.flush()
        for line in output:
            if line.startswith(REPORT):
                report = line.removeprefix(REPORT)
            else:
                display.display(line.rstrip("\n"))
    if not report:
        raise AnsibleActionFail(f"The load generator ended without a report: {line.strip() or 'no output'}")
    parsed: Report = json.loads(report)
    return parsed
