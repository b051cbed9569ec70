"""Kills ansible-playbook with SIGKILL before the task with the number KILL_BEFORE.

Counting starts at the task with the name KILL_COUNTS_FROM, or at the first task.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: kill_before
type: aggregate
short_description: Kill the run before a task
description:
  - Counts tasks that may change a host, and skips tasks that only set variables.
"""

HARMLESS = {
    "ansible.builtin.set_fact",
    "ansible.builtin.include_role",
    "ansible.builtin.include_tasks",
    "ansible.builtin.validate_argument_spec",
    "ansible.builtin.debug",
    "katago.fleet.procedure_inputs",
}


class CallbackModule(CallbackBase):
    """Kills the process between two tasks."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kill_before"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._left = int(os.environ["KILL_BEFORE"])
        self._awaited = os.environ.get("KILL_COUNTS_FROM", "")

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Count down."""
        if self._awaited == task.name:
            self._awaited = ""
        if self._awaited or task.action in HARMLESS:
            return
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1
