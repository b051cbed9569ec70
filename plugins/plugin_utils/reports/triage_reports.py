"""The report of a triage: the verdicts on all hosts of a play, including unreachable ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts as triage_facts
from ansible_collections.katago.fleet.plugins.module_utils.triage import rules_load_balancer
from ansible_collections.katago.fleet.plugins.module_utils.triage import verdict as triage_verdict
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import triage_table
from ansible_collections.katago.fleet.plugins.plugin_utils.run import commands as run_commands
from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_hosts


@dataclass(frozen=True)
class Report:
    """Verdicts and entries of facts by host, the fleet's verdict, and the next command by host."""

    verdicts: Mapping[str, triage_verdict.Verdict]
    entries: Mapping[str, Mapping[str, Any]]
    fleet: triage_verdict.Fleet
    commands: Mapping[str, str]

    def as_table(self) -> str:
        """The report as a table for people."""
        facts = {host: triage_facts.read(entries) for host, entries in self.entries.items()}
        return triage_table.render(self.verdicts, self.fleet, self.commands, facts)

    def as_dict(self, now: datetime) -> dict[str, Any]:
        """The report as a JSON object for programs."""
        return {
            "at": timestamps.stamp(now),
            **triage_verdict.as_dict(self.fleet),
            "hosts": {
                host: {
                    **triage_verdict.as_dict(verdict),
                    "command": self.commands.get(host),
                    "facts": self.entries[host],
                }
                for host, verdict in self.verdicts.items()
            },
            "counts": self.fleet.hosts,
        }


def gather(task_vars: Mapping[str, Any], now: datetime, *, breach: bool) -> Report:
    """Build the report from the `triage_result` of every host of the play.

    Load balancers that an earlier play measured are in it too.
    """
    measured = {
        host: task_vars["hostvars"][host].get("triage_result") or {}
        for host in task_vars["ansible_play_hosts_all"]
    }
    measured |= {
        host: task_vars["hostvars"][host]["triage_result"]
        for host in task_vars["groups"].get(fleet_hosts.LOAD_BALANCERS) or ()
        if host not in measured and "triage_result" in task_vars["hostvars"][host]
    }
    entries = {host: result.get("facts") or {} for host, result in measured.items()}
    between = rules_load_balancer.between({host: triage_facts.read(each) for host, each in entries.items()})
    verdicts = {
        host: triage_verdict.extended(_verdict(result, now, breach), between.get(host, ()), now=now)
        for host, result in measured.items()
    }
    inventory = run_commands.inventory_arguments(task_vars.get("ansible_inventory_sources") or [])
    proposed = {
        host: triage_table.command(verdict.next, host, inventory)
        for host, verdict in verdicts.items()
        if verdict.next
    }
    return Report(verdicts, entries, triage_verdict.fleet(verdicts, now=now), proposed)


def _verdict(result: Mapping[str, Any], now: datetime, breach: bool) -> triage_verdict.Verdict:
    if "verdict" in result:
        try:
            return triage_verdict.parse(result["verdict"])
        except shape.ShapeError as error:
            why = f"the host's verdict is malformed: {error}"
            return triage_verdict.unreachable(why, now=now, breach=breach)
    lines = (str(result.get("msg") or "").strip() or "the task did not run on this host").splitlines()
    return triage_verdict.unreachable(f"no answer: {lines[-1][-300:]}", now=now, breach=breach)
