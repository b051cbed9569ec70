"""The report of a triage: the verdicts on all hosts of a play, including unreachable ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts as triage_facts
from ansible_collections.katago.fleet.plugins.module_utils.triage import verdict as triage_verdict
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import triage_table
from ansible_collections.katago.fleet.plugins.plugin_utils.run import commands as run_commands


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
    """Build the report from the `triage_result` of every host of the play."""
    measured = {
        host: task_vars["hostvars"][host].get("triage_result") or {}
        for host in task_vars["ansible_play_hosts_all"]
    }
    verdicts = {host: _verdict(result, now, breach) for host, result in measured.items()}
    inventory = run_commands.inventory_arguments(task_vars.get("ansible_inventory_sources") or [])
    proposed = {
        host: triage_table.command(verdict.next, host, inventory)
        for host, verdict in verdicts.items()
        if verdict.next
    }
    entries = {host: result.get("facts") or {} for host, result in measured.items()}
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
