"""The report of a triage: the verdicts on all hosts of a play, those that are gone included."""

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
    """Verdicts and entries of facts by host, the fleet's verdict, and the command to run next by host."""

    verdicts: Mapping[str, triage_verdict.Verdict]
    entries: Mapping[str, Mapping[str, Any]]
    fleet: triage_verdict.Fleet
    commands: Mapping[str, str]

    def as_table(self) -> str:
        """The report for people."""
        facts = {host: triage_facts.read(entries) for host, entries in self.entries.items()}
        return triage_table.render(self.verdicts, self.fleet, self.commands, facts)

    def as_dict(self, now: datetime) -> dict[str, Any]:
        """The report for programs."""
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
    """What the hosts of a play have as `triage_result`, from the variables of a task of it."""
    measured = {
        host: task_vars["hostvars"][host].get("triage_result") or {}
        for host in task_vars["ansible_play_hosts_all"]
    }
    verdicts = {host: _verdict(found, now, breach) for host, found in measured.items()}
    inventory = run_commands.inventory_arguments(task_vars.get("ansible_inventory_sources") or [])
    proposed = {
        host: triage_table.command(verdict.next, host, inventory)
        for host, verdict in verdicts.items()
        if verdict.next
    }
    entries = {host: found.get("facts") or {} for host, found in measured.items()}
    return Report(verdicts, entries, triage_verdict.fleet(verdicts, now=now), proposed)


def _verdict(found: Mapping[str, Any], now: datetime, breach: bool) -> triage_verdict.Verdict:
    if "verdict" in found:
        try:
            return triage_verdict.parse(found["verdict"])
        except shape.ShapeError as error:
            why = f"its verdict cannot be used: {error}"
            return triage_verdict.unreachable(why, now=now, breach=breach)
    lines = (str(found.get("msg") or "").strip() or "it was not asked").splitlines()
    return triage_verdict.unreachable(f"no answer: {lines[-1][-300:]}", now=now, breach=breach)
