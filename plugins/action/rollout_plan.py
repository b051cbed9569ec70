"""Plans a rollout, and shows the plan before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.plugin_utils.rollout import judge, plan, record
from ansible_collections.katago.fleet.plugins.plugin_utils.run import (
    actors,
    fleet_hosts,
    records_dir,
    runs,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation

display = Display()
_NOT_RECORDED = "The rollout is not recorded, so it cannot be continued if it is killed"


class ActionModule(ActionBase):
    """Runs once, on the control node, for all hosts of the play."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Plan, show the plan, and keep a record of it."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments, variables = validation.validated(self), task_vars or {}
        names = list(variables["ansible_play_hosts_all"])
        fleet = (variables.get("groups") or {}).get(fleet_hosts.GROUP, names)
        procedure, release = arguments["procedure"], arguments["release"]
        path = self._record(variables)
        last = record.read(path) if path else None
        resumed = record.resume(
            last, procedure, release, [_host(name, variables["hostvars"][name]) for name in names]
        )
        terms = plan.Terms(
            procedure,
            fleet=len(fleet),
            canary=arguments["canary"],
            serial=arguments["serial"],
            minimum=arguments["min_available"],
            soak_minutes=arguments["soak_minutes"],
            done=resumed.done,
        )
        is_at_work = last is not None and last.run != runs.this_run() and runs.life(last.run) == "alive"
        try:
            if last and is_at_work:
                record.check_apart(last, names)
            planned = plan.plan(resumed.hosts, terms)
        except plan.PlanError as error:
            return {
                **result,
                "failed": True,
                "refused": True,
                "msg": f"Refused; nothing was switched. {str(error).rstrip('.')}.",
            }
        display.display("\n".join(plan.describe(planned, check=self._task.check_mode)))
        soak = asdict(judge.schedule(planned.soak_minutes))
        answer = {**result, "changed": False, "plan": planned.as_dict(), "schedule": soak}
        if path is None:
            return answer
        answer["summary_file"] = str(path.with_name(record.SUMMARY))
        switched = {host.name: host.target for host in planned.hosts if host.name in planned.order}
        targets = {**resumed.targets, **switched}
        if last and is_at_work:
            display.warning(f"{_NOT_RECORDED}: the rollout of {last.who} on other hosts is recorded")
            return answer
        # Without a known target there is nothing to continue, as for a single host that finds its own.
        if not targets or not all(targets.values()):
            return answer
        if record.is_covered(targets, names, fleet):
            answer["record_file"] = str(path)
        if not self._task.check_mode:
            self._keep(record.Record(procedure, release, targets, runs.this_run(), actors.actor()), path)
        return answer

    def _record(self, variables: dict[str, Any]) -> Path | None:
        try:
            return Path(records_dir.of_task(variables, self._templar.template)) / record.FILE
        except records_dir.PlaceError as error:
            display.warning(f"{_NOT_RECORDED}: {error}")
            return None

    def _keep(self, made: record.Record, path: Path) -> None:
        try:
            record.write(made, path)
        except OSError as error:
            display.warning(f"{_NOT_RECORDED}: {error}")


def _host(name: str, variables: Mapping[str, Any]) -> plan.Host:
    """A host as `katago_mcp_pending` describes it. Without it, the host decides when it is visited."""
    pending = variables.get("katago_mcp_pending")
    if not isinstance(pending, Mapping) or not pending:
        return plan.Host(name, None, "", ("it is the only host of the run",))
    try:
        problem = str(pending.get("problem") or "").replace("-l HOST", f"-l {name}")
        return plan.Host(
            name,
            pending["current"],
            pending["release"],
            tuple(pending["reasons"]),
            problem,
            str(pending.get("rejected") or ""),
        )
    except KeyError as error:
        raise AnsibleActionFail(
            f"What was observed on {name} lacks {error}. Run the procedure again."
        ) from None
