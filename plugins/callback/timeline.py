"""Writes the result of every task to the timeline of the incident that the run belongs to."""

from __future__ import annotations

DOCUMENTATION = r"""
name: timeline
type: notification
short_description: Keep an incident's timeline
description:
  - Appends a line of JSON to C(incidents/<incident>/timeline.jsonl) in the directory of the records for every
    result of a task of any playbook; UTC time, actor, command, host, task, result. It has no output of tasks,
    and of extra variables only the values that are known to be no secrets.
  - The directory is that of the lookup P(katago.fleet.records_dir#lookup), for the first host of the group
    C(katago).
  - The incident is that of C(-e incident=ID), or else the only one that is open. From the task that
    opens one on, it is that one. A run in check mode leaves nothing, nor does one that reviews or reports.
  - Never makes a run fail. What cannot be written is told once, as a warning.
  - The playbooks of this collection enable it; C(callbacks_enabled) is needed only for playbooks of your own.
options: {}
author: The katago-mcp-fleet maintainers
"""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from ansible import context
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.callback import CallbackBase
from ansible.template import Templar
from ansible.utils.vars import load_extra_vars

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import files
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import store
from ansible_collections.katago.fleet.plugins.plugin_utils.run import actors, commands, records_dir

FLEET = "katago"
OPENS = ("katago.fleet.incident",)
# What is written about incidents is no part of them, and has to be the same the next time.
ABOUT = ("review.yml", "report_actions.yml", "report_quarter.yml")
_EXPLAINED = (records.RecordError, records_dir.PlaceError, OSError)


def _harmless(method: Callable[..., None]) -> Callable[..., None]:
    """Whatever goes wrong with the record, the run goes on: it may be what saves the night."""

    @functools.wraps(method)
    def guarded(self: CallbackModule, *arguments: Any, **named: Any) -> None:
        try:
            method(self, *arguments, **named)
        except Exception as error:
            self.give_up(error)

    return guarded


class CallbackModule(CallbackBase):
    """One write for each result, none of them waited for but at the end."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "katago.fleet.timeline"
    CALLBACK_NEEDS_ENABLED = True

    _writer: ClassVar[CallbackModule | None] = None
    """The one that writes, where both a playbook and ansible.cfg enable the timeline."""

    def __init__(self) -> None:
        super().__init__()
        self._file: int | None = None
        self._root: Path | None = None
        self._extra: dict[str, Any] = {}
        self._incident = ""
        self._common: dict[str, str] = {}
        self._warned = False
        self._off = False

    def give_up(self, error: Exception) -> None:
        """Say once that the timeline lacks something, and why."""
        if not self._warned:
            self._warned = True
            kind = "" if isinstance(error, _EXPLAINED) else f"{type(error).__name__}: "
            self._display.warning(f"This run is not, or not wholly, in an incident's timeline: {kind}{error}")

    @_harmless
    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Find out which incident this is about, and what is run."""
        if CallbackModule._writer is None:
            CallbackModule._writer = self
        self._off = (
            bool(context.CLIARGS.get("check"))
            or CallbackModule._writer is not self
            or Path(playbook._file_name).name in ABOUT
        )
        if not self._off:
            self._extra = load_extra_vars(DataLoader())
            arguments = context.CLIARGS.get("args", ())
            command = commands.shown(arguments, context.CLIARGS, self._extra)
            self._common = {"who": actors.actor(), "command": command}

    @_harmless
    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Find out where the records are, which only variables of the inventory tell."""
        if self._off or self._root is not None:
            return
        variables, template = _variables(play)
        if not variables.get("groups", {}).get(FLEET):
            self._display.warning(f"The inventory has no host in the group {FLEET}: -i names another one.")
            return
        root = records_dir.of_task(variables, template)
        if notice := records_dir.notice(variables, variables["ansible_inventory_sources"], root):
            self._display.warning(notice)
        self._incident = store.current(root, str(self._extra.get("incident") or ""))
        self._root = root

    @_harmless
    def v2_runner_on_ok(self, result: Any) -> None:
        """A task that went well; one that opened an incident says which."""
        if not self._incident and result.task.action in OPENS:
            self._incident = str(result.result.get("incident") or "")
        self._add(result, "changed" if result.result.get("changed") else "ok")

    @_harmless
    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task that failed."""
        self._add(result, "ignored" if ignore_errors else "failed")

    @_harmless
    def v2_runner_on_skipped(self, result: Any) -> None:
        """A task whose condition did not hold."""
        self._add(result, "skipped")

    @_harmless
    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host that gave no answer."""
        self._add(result, "unreachable")

    @_harmless
    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The end: what was written is brought to the disk."""
        if self._file is not None:
            os.fsync(self._file)
            os.close(self._file)
            self._file = None

    def _add(self, result: Any, outcome: str) -> None:
        if self._off or self._root is None or not self._incident:
            return
        if self._file is None:
            path = records.Records(self._root, self._incident).timeline
            # A misspelt id makes no incident.
            if result.result.get("refused") and not path.parent.exists():
                return
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        event = {
            "at": timestamps.now(),
            "host": result.host.get_name(),
            **self._common,
            "task": _name(result.task),
            "action": str(result.task.action),
            "result": outcome,
        }
        files.append_lines(self._file, json.dumps(event).encode() + b"\n", durable=False)


def _variables(play: Any) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    """The variables of the fleet's first host, and what renders them."""
    manager = play.get_variable_manager()
    hosts = manager._inventory.get_hosts(FLEET, ignore_limits=True, ignore_restrictions=True)
    variables = manager.get_vars(play=play, host=hosts[0] if hosts else None)
    return variables, Templar(loader=play.get_loader(), variables=variables).template


def _name(task: Any) -> str:
    """A task's name as it is written: what its templates are rendered to may be a secret."""
    written = getattr(task, "_ds", None)
    name = written.get("name") if isinstance(written, dict) else None
    return str(name or task.action)
