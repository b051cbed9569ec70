"""Checks the steady state of the fleet, opens the record of a drill, starts prober and watch of alerts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import (
    alert_watch,
    client_side,
    opening,
    steady,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import plan as drill_plan
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.procedure_runs import setting
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.store import DrillRecords
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import store as incident_store
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import triage_reports
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments, fleet_hosts, runs
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import client, prober

display = Display()
_SURPLUS_SECONDS = 600
"""A prober or a watch that nobody stops ends this long after the response had to be finished."""


class ActionModule(ActionBase):
    """Runs once, on the control node, after all hosts were validated and measured."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the drill's id, or refuse the drill and leave nothing."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given, known = arguments.validated(self), task_vars or {}
        root = Path(given["records_dir"])
        records = DrillRecords(root)
        problems = [*_incidents(root), *_unvalidated(known), *_findings(known, records)]
        try:
            if problems or self._task.check_mode:
                return {**result, **_verdict(problems)}
            drill = records.reserve(datetime.now(UTC).date(), runs.this_run())
            plan = drill_plan.plan(given["plan"])
            groups, hostvars = known["groups"], known["hostvars"]
            seconds = plan.seconds + _SURPLUS_SECONDS
            order = prober.Order(
                targets=_targets(given["prober_targets"]) or client_side.targets(groups, hostvars),
                token=given["token"] or client_side.token(groups, hostvars),
                seconds=seconds,
            )
            running = prober.start(order, records.prober(drill))
            since = time.monotonic()
            time.sleep(given["quiet_seconds"])
            if problems := list(_failures(records.prober(drill), since)):
                running.stop()
                records.discard(drill)
                return {**result, **_verdict(problems)}
            records.save(opening.record(drill, plan, given["fleet"], timestamps.now()))
        except (OSError, prober.ProberError) as error:
            raise AnsibleActionFail(f"Refused; no host was changed. {error}") from error
        if monitors := groups.get(fleet_hosts.MONITORING):
            try:
                own = setting(known, drill, records.directory(drill))
                alert_watch.start(own, monitors, root, drill, seconds)
            except OSError as error:
                display.warning(f"No alert ends this drill: the watch of alerts did not start: {error}.")
        return {**result, "changed": True, "drill": drill, "directory": str(records.directory(drill))}


def _verdict(problems: list[str]) -> dict[str, Any]:
    if not problems:
        return {"changed": False}
    return {
        "failed": True,
        "refused": True,
        "msg": "Refused; nothing was changed. The fleet is not healthy, so nobody could tell the fault of the"
        f" drill from what is wrong already. {' '.join(problems)} Repair it first:"
        " ansible-playbook playbooks/triage.yml",
    }


def _incidents(root: Path) -> Iterator[str]:
    if names := incident_store.open_incidents(root):
        yield f"An incident is open: {', '.join(names)}."


def _unvalidated(known: Mapping[str, Any]) -> Iterator[str]:
    for host in known["groups"].get(fleet_hosts.GROUP, []):
        variables = known["hostvars"][host]
        if why := variables.get("drill_unvalidated"):
            yield f"{host} is not validated: {why}."
        elif not (variables.get("validate_result") or {}).get("checks"):
            yield f"{host} was not validated: it cannot be reached, or -l excludes it."


def _findings(known: Mapping[str, Any], records: DrillRecords) -> Iterator[str]:
    now = datetime.now(UTC)
    report = triage_reports.gather(known, now, breach=False)
    return steady.problems(report.verdicts, steady.practised(records.load_all()[0], now))


def _targets(values: list[Mapping[str, str]]) -> tuple[client.Target, ...]:
    return tuple(
        client.Target(
            name=each["name"],
            url=each["url"],
            host_header=each.get("host_header", ""),
            ca=each.get("ca", ""),
            pinned=bool(each.get("ca")),
        )
        for each in values
    )


def _failures(path: Path, since: float) -> Iterator[str]:
    traffic = prober.summary(path, since)
    if not traffic["requests"]:
        yield "The prober made no request."
    elif traffic["failed"]:
        reasons = {
            str(each.get("reason") or each["outcome"])
            for each in prober.calls(path, since)
            if each["outcome"] != client.OK
        }
        yield (
            f"{traffic['failed']} of {traffic['requests']} requests of the prober failed:"
            f" {'; '.join(sorted(reasons)[:3])}."
        )
