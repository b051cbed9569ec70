"""Writes the result of every task to the timeline of the run's incident."""

from __future__ import annotations

DOCUMENTATION = r"""
name: timeline
type: notification
short_description: Record task results in an incident's timeline
description:
  - Appends a line of JSON to C(incidents/<incident>/timeline.jsonl) in the records directory for every task
    result of any playbook. The line has the UTC time, actor, command, host, task and result. It never has
    the output of tasks. Of extra variables it has only values that are known not to be secret.
  - The records directory is that of the lookup P(katago.fleet.records_dir#lookup), for the first host of the
    group C(katago).
  - The incident is that of C(-e incident=ID) or, without it, the only open incident. If a task opens an
    incident, the rest of the run belongs to that incident.
  - Check mode, reviews and reports record nothing.
  - A run never fails because of this callback. If something cannot be written, it warns once.
  - The playbooks of this collection enable it. Set C(callbacks_enabled) only for playbooks of your own.
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
from ansible_collections.katago.fleet.plugins.module_utils.common import directories, files
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import store
from ansible_collections.katago.fleet.plugins.plugin_utils.run import (
    actors,
    commands,
    fleet_hosts,
    records_dir,
)

OPENS = ("katago.fleet.incident",)
CHECKS = ("katago.fleet.procedure_inputs", "ansible.builtin.validate_argument_spec")
# Reviews and reports are not part of an incident. Recording them would change the next review.
ABOUT = ("review.yml", "report_actions.yml", "report_quarter.yml")
_EXPLAINED = (records.RecordError, records_dir.PlaceError, OSError)


def _harmless(method: Callable[..., None]) -> Callable[..., None]:
    """Turn any error in the callback into a warning, so that the run continues."""

    @functools.wraps(method)
    def guarded(self: CallbackModule, *arguments: Any, **named: Any) -> None:
        try:
            method(self, *arguments, **named)
        except Exception as error:
            self.give_up(error)

    return guarded


class CallbackModule(CallbackBase):
    """Writes one line for each result. Waits for the disk only at the end of the run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "katago.fleet.timeline"
    CALLBACK_NEEDS_ENABLED = True

    _writer: ClassVar[CallbackModule | None] = None
    """The instance that writes, if both a playbook and ansible.cfg enable the callback."""

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
        """Warn once that the timeline is incomplete, with the reason."""
        if not self._warned:
            self._warned = True
            kind = "" if isinstance(error, _EXPLAINED) else f"{type(error).__name__}: "
            self._display.warning(
                f"The incident's timeline lacks part of this run, which continues: {kind}{error}"
            )

    @_harmless
    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Decide whether this run is recorded, and note the actor and the command."""
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
        """Find the records directory, which depends on variables of the inventory, and the incident."""
        if self._off or self._root is not None:
            return
        variables, template = variables_of_fleet(play)
        root = records_dir.of_task(variables, template)
        if notice := records_dir.notice(variables, variables["ansible_inventory_sources"], root):
            self._display.warning(notice)
        self._incident = store.current(root, str(self._extra.get("incident") or ""))
        self._root = root

    @_harmless
    def v2_runner_on_ok(self, result: Any) -> None:
        """Record a task that succeeded. If it opened an incident, the run belongs to that one."""
        if not self._incident and result.task.action in OPENS:
            self._incident = str(result.result.get("incident") or "")
        self._add(result, "changed" if result.result.get("changed") else "ok")

    @_harmless
    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Record a task that failed."""
        self._add(result, "ignored" if ignore_errors else "failed")

    @_harmless
    def v2_runner_on_skipped(self, result: Any) -> None:
        """Record a task that was skipped."""
        self._add(result, "skipped")

    @_harmless
    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Record an unreachable host."""
        self._add(result, "unreachable")

    @_harmless
    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Flush the timeline to disk at the end of the run."""
        if self._file is not None:
            os.fsync(self._file)
            os.close(self._file)
            self._file = None

    def _add(self, result: Any, outcome: str) -> None:
        if self._off or self._root is None or not self._incident:
            return
        if self._file is None:
            path = records.Records(self._root, self._incident).timeline
            # A refused run with a misspelt id must not create a directory, nor must a check before it.
            is_check = result.task.action in CHECKS or result.result.get("refused")
            if is_check and not path.parent.exists():
                return
            directories.make(path.parent, mode=directories.PRIVATE)
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


def variables_of_fleet(play: Any) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    """The variables of the fleet's first host, and the function that renders templates with them.

    If there is no such host, they are those of the control node.
    """
    manager = play.get_variable_manager()
    group = manager._inventory.groups.get(fleet_hosts.GROUP)
    hosts = group.get_hosts() if group else []
    host = hosts[0] if hosts else manager._inventory.get_host(fleet_hosts.CONTROL_NODE)
    variables = manager.get_vars(play=play, host=host)
    return variables, Templar(loader=play.get_loader(), variables=variables).template


def _name(task: Any) -> str:
    """A task's name as written in the playbook: a rendered template could contain a secret."""
    source = getattr(task, "_ds", None)
    name = source.get("name") if isinstance(source, dict) else None
    return str(name or task.action)
