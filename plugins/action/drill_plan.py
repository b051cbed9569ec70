"""Decides what a drill does, and closes the records of drills whose runs are gone."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.plugin_utils.drill import orphans
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import plan as drill_plan
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.store import DrillRecords
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments, fleet_hosts, runs

display = Display()


class ActionModule(ActionBase):
    """Runs once, on the control node. Connects to no host."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the plan, or refuse the drill."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = arguments.validated(self)
        groups = (task_vars or {})["groups"]
        try:
            closed = self._orphans(Path(given["records_dir"]))
            plan = drill_plan.decide(
                drill_plan.Request(
                    scenario=given["scenario"],
                    mode=given["mode"],
                    minutes=given["minutes"],
                    sealed=given["sealed"],
                    hosts=tuple(given["hosts"]),
                    participants=tuple(given["participants"]),
                ),
                drill_plan.Guard(
                    environment=given["environment"],
                    allow_production=given["allow_production"],
                    window=given["window"],
                    max_hosts=given["max_hosts"],
                    min_available=given["min_available"],
                    outage_seconds=given["outage_seconds"],
                ),
                groups.get(fleet_hosts.GROUP, []),
                groups.get(fleet_hosts.LOAD_BALANCERS, []),
                now=datetime.now(UTC),
                chance=random.SystemRandom(),
            )
        except drill_plan.PlanError as error:
            return {
                **result,
                "failed": True,
                "refused": True,
                "msg": f"Refused; nothing was changed. {error}",
            }
        except OSError as error:
            raise AnsibleActionFail(f"The records of drills cannot be used: {error}") from error
        self._show(plan)
        return {**result, "changed": False, "plan": plan.as_dict(), "orphans": closed}

    def _orphans(self, root: Path) -> list[str]:
        """Close the drills whose runs are gone; refuse if another one runs."""
        closed = []
        for record, life in DrillRecords(root).running(runs.life):
            if life != "dead":
                raise drill_plan.PlanError(
                    f"The drill {record['id']} has been running since {record['started']}. Wait until it"
                    " ends, or end it: ansible-playbook playbooks/drill_abort.yml."
                )
            if not self._task.check_mode and (problem := orphans.close(root, record)):
                display.warning(problem)
            display.warning(
                f"The drill {record['id']} did not end: its run was killed. It is closed as aborted."
            )
            closed.append(record["id"])
        return closed

    def _show(self, plan: drill_plan.Plan) -> None:
        if plan.sealed:
            display.display("The scenario is sealed. It is shown after the drill.")
            return
        targets = ", ".join(f"{each.fault} on {each.host}" for each in plan.targets)
        display.display(f"{SCENARIOS[plan.scenario].title}: {targets}. The response has {plan.seconds:g} s.")
