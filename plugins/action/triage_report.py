"""Shows the verdicts on all hosts of a play, and writes them down for programs."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.module_utils import atomic, triage
from ansible_collections.katago.fleet.plugins.plugin_utils import triage_table

display = Display()


class ActionModule(ActionBase):
    """Runs once, on the control node, for all hosts of the play, those that are gone included."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Gather every host's verdict, print, write."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        known = task_vars or {}
        breach = bool(self._task.args.get("breach", False))
        fail_on = self._task.args.get("fail_on") or None
        if fail_on and fail_on not in triage.LEVELS[1:]:
            raise AnsibleActionFail(
                f"triage_fail_on is {fail_on!r}; accepted: {', '.join(reversed(triage.LEVELS[1:]))}"
            )
        now = datetime.now(UTC)
        measured = {
            host: known["hostvars"][host].get("triage_result") or {}
            for host in known["ansible_play_hosts_all"]
        }
        verdicts = {host: _verdict(found, now, breach) for host, found in measured.items()}
        fleet = triage.fleet(verdicts, now=now)
        inventory = _inventory(known.get("ansible_inventory_sources") or [])
        commands = {
            host: triage_table.command(verdict.next, host, inventory)
            for host, verdict in verdicts.items()
            if verdict.next
        }
        facts = {host: found.get("facts") or {} for host, found in measured.items()}
        display.display(triage_table.render(verdicts, fleet, commands, facts))
        report = {
            "at": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            **triage.as_dict(fleet),
            "hosts": {
                host: {
                    **triage.as_dict(verdict),
                    "command": commands.get(host),
                    "facts": facts[host],
                }
                for host, verdict in verdicts.items()
            },
            "counts": fleet.hosts,
        }
        if path := self._task.args.get("path"):
            display.display(f"Written to {_write(Path(path).expanduser(), report)}.")
        if fail_on and triage.severity(fleet.verdict) >= triage.severity(fail_on):
            msg = f"The fleet is {fleet.verdict}; triage_fail_on is {fail_on}."
            return {**result, "failed": True, "msg": msg, "verdict": fleet.verdict}
        return {**result, "changed": False, "verdict": fleet.verdict}


def _verdict(found: Mapping[str, Any], now: datetime, breach: bool) -> triage.Verdict:
    if "verdict" in found:
        return triage.as_verdict(found["verdict"])
    why = str(found.get("msg") or "it was not asked").strip().splitlines()
    return triage.unreachable(f"no answer: {why[-1][-300:]}", now=now, breach=breach)


def _inventory(sources: list[str]) -> list[str]:
    """The `-i` arguments without which the commands would not find the hosts."""
    default = [str(Path(source).resolve()) for source in constants.DEFAULT_HOST_LIST]
    if [str(Path(source).resolve()) for source in sources] == default:
        return []
    return [part for source in sources for part in ("-i", shlex.quote(os.path.relpath(source)))]


def _write(path: Path, report: Mapping[str, Any]) -> Path:
    try:
        atomic.write(path, (json.dumps(report, indent=2, default=str) + "\n").encode(), mode=0o600)
    except OSError as error:
        raise AnsibleActionFail(
            f"triage_json is {path}, which cannot be written: {error.strerror}. Name a file in a"
            " directory that exists."
        ) from error
    return path
