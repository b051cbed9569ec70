"""Shows at the end of a run what happened on each host, in one block."""

from __future__ import annotations

DOCUMENTATION = r"""
name: results
type: notification
short_description: Show the results of a run in one block at its end
description:
  - Shows one entry for every host on which a procedure ran, for every failure that was not rescued, and for
    every message of C(debug). An entry has the result, what changed and the next command.
  - With the callback P(katago.fleet.output#callback) the message of a failure is shown only there. A block
    C(HANDLED FAILURES) before it then has the failures after which the procedure continued.
  - Follows a rollout. Shows each batch when it starts and each host when it is done, with the time that is
    left as far as earlier batches tell. A block C(ROLLOUT) at the end has the hosts that were changed,
    failed, were not touched or skipped, and why; the figures of the canary; and the duration. Writes it to
    C(rollout_result.json) in the records directory, and removes the record of a rollout that is complete.
  - The playbooks of this collection enable it; C(callbacks_enabled) is needed only for playbooks of your own.
options: {}
author: The katago-mcp-fleet maintainers
"""

import atexit
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from ansible import constants, context
from ansible.plugins.callback import CallbackBase

from ansible_collections.katago.fleet.plugins.module_utils.common import files
from ansible_collections.katago.fleet.plugins.plugin_utils.rollout import outcomes
from ansible_collections.katago.fleet.plugins.plugin_utils.rollout.progress import Progress
from ansible_collections.katago.fleet.plugins.plugin_utils.run import commands

EVENT = "katago.fleet.procedure_event"
PLAN = "katago.fleet.rollout_plan"
SOAK = "katago.fleet.rollout_soak"
ASSERTS = ("ansible.builtin.assert", "assert")
"""With this, a batch stops because an earlier host failed."""
REPORTS = ("ansible.builtin.debug", "debug")
SUCCESSES = ("ok", "changed")
_LONGEST = 8000
"""Characters of a failure; `-v` shows the whole of it where the task failed."""
_MOST_OUTPUT = 2000
"""Characters of what a failed program wrote."""


class Handled(NamedTuple):
    """A failure after which the play went on, by a rescue for example."""

    host: str
    task: str
    message: str


def failure(result: Mapping[str, Any]) -> str:
    """Why a task failed: its message, the items of its loop that failed, what its program wrote at last."""
    message = str(result.get("msg") or result.get("censored") or "no reason given").strip()
    if isinstance(items := result.get("results"), list):
        failed = [each for each in items if isinstance(each, dict) and each.get("failed")]
        return "\n".join([message, *(failure(each) for each in failed)])
    written = str(result.get("stderr") or result.get("stdout") or "").strip()
    if written and written not in message:
        message += f"\n{written[-_MOST_OUTPUT:]}"
    return message


class CallbackModule(CallbackBase):
    """Collects results while the run goes, and shows them at its end."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "katago.fleet.results"
    CALLBACK_NEEDS_ENABLED = True

    _shown_by: ClassVar[CallbackModule | None] = None
    """The one that shows, where both a playbook and ansible.cfg enable the callback."""
    shows_handled: ClassVar[bool] = False
    """Whether failures that were handled are shown too, because nothing else shows them."""

    def __init__(self) -> None:
        super().__init__()
        self._procedures: dict[tuple[str, str], str] = {}
        self._failures: dict[str, str] = {}
        self._handled: list[Handled] = []
        self._reports: list[str] = []
        self._rollout: Progress | None = None
        self._rollout_file: str | None = None
        self._rollout_record: str | None = None
        self._procedure = ""

    @classmethod
    def is_active(cls) -> bool:
        """Whether a block will be shown at the end of the run."""
        return cls._shown_by is not None

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Take the part of the one that shows, unless it is taken."""
        if CallbackModule._shown_by is None:
            CallbackModule._shown_by = self
            # Ansible calls no callback at the end of a run that is interrupted.
            atexit.register(self._show)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Note to which procedure the play belongs."""
        self._procedure = str(play.get_vars().get("procedure_name", ""))

    def v2_runner_on_ok(self, result: Any) -> None:
        """Keep the result of a procedure, and what a play reports by `debug`."""
        host = result.host.get_name()
        self._follow_rollout(host, result)
        if result.task.action in REPORTS and "msg" in result.result:
            self._reports.append(f"[{host}] {result.result['msg']}")
        summary = result.result.get("summary")
        if result.task.action == EVENT and summary:
            event = result.result.get("event", {})
            procedure = str(event.get("procedure"))
            self._procedures.pop((host, procedure), None)
            self._procedures[host, procedure] = str(summary)
            self._failures.pop(host, None)
            if event.get("result") not in SUCCESSES:
                # The message of a procedure that failed has what its tasks failed with.
                self._handled = [each for each in self._handled if each.host != host]

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Keep a failure; what a procedure reports afterwards replaces it."""
        self._follow_rollout(result.host.get_name(), result)
        if not ignore_errors:
            if result.task.action not in (PLAN, SOAK, *ASSERTS):
                self._lose(result, "refused")
            self._fail(result, failure(result.result))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Keep why a host did not answer."""
        if not result.task.ignore_unreachable:
            self._lose(result, outcomes.UNREACHABLE)
            self._fail(result, f"unreachable: {failure(result.result)}")

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Show the block."""
        failed = {**stats.failures, **stats.dark}
        for host in [each for each in self._failures if each not in failed]:
            self._failures.pop(host)
        self._show()

    def _follow_rollout(self, host: str, result: Any) -> None:
        """Show the progress of a rollout when a batch starts."""
        if CallbackModule._shown_by is not self:
            return
        action, values = result.task.action, result.result
        if action == PLAN and (values.get("plan") or {}).get("order") and not result.task.check_mode:
            self._end_rollout()
            self._rollout = Progress(values["plan"], time.monotonic())
            self._rollout_file, self._rollout_record = values.get("summary_file"), values.get("record_file")
        if self._rollout is None:
            return
        if action == SOAK and values.get("verdict"):
            self._rollout.soaked(values["verdict"], over=values["over"])
        line = None
        if action == EVENT and (event := values.get("event")):
            line = self._rollout.reported(host, event, time.monotonic())
        if line:
            self._display.display(line)

    def _lose(self, result: Any, outcome: str) -> None:
        """Note a host of a rollout that fails without an event."""
        if self._rollout is not None and self._procedure == self._rollout.procedure:
            self._rollout.lost(result.host.get_name(), outcome, time.monotonic())

    def _end_rollout(self) -> None:
        """Show the summary of a rollout, and write it as JSON."""
        if self._rollout is None:
            return
        now, rollout, self._rollout = time.monotonic(), self._rollout, None
        self._print("ROLLOUT", rollout.summary(now))
        try:
            if self._rollout_file:
                content = json.dumps(rollout.as_dict(now), indent=1) + "\n"
                files.write(Path(self._rollout_file), content.encode(), mode=0o600)
            if self._rollout_record and rollout.is_complete:
                Path(self._rollout_record).unlink(missing_ok=True)
        except OSError as error:
            self._display.warning(f"The result of the rollout was not recorded: {error}")

    def _fail(self, result: Any, message: str) -> None:
        host = result.host.get_name()
        self._failures[host] = message
        self._handled.append(Handled(host, result.task.get_name(), message))

    def _show(self) -> None:
        """Show what was collected, and forget it."""
        if CallbackModule._shown_by is not self:
            return
        same: dict[str, list[str]] = {}
        for host, message in self._failures.items():
            same.setdefault(message, []).append(host)
        failures = [f"[{', '.join(sorted(hosts))}] {message[:_LONGEST]}" for message, hosts in same.items()]
        entries = [*self._reports, *self._procedures.values(), *failures]
        handled = self._handled_besides(_folded("\n".join(entries))) if CallbackModule.shows_handled else []
        self._reports, self._handled = [], []
        self._procedures, self._failures = {}, {}
        self._print("HANDLED FAILURES", handled)
        self._end_rollout()
        self._print("RESULT", entries)

    def _print(self, heading: str, entries: Sequence[str]) -> None:
        if entries:
            sources = context.CLIARGS.get("inventory") or constants.DEFAULT_HOST_LIST
            self._display.banner(heading)
            self._display.display(commands.as_run_here("\n".join(entries), sources))

    def _handled_besides(self, shown: str) -> list[str]:
        """Entries for the failures that were handled and are not part of what is shown."""
        return [
            f"[{host}] {task}: {message[:_LONGEST]}"
            for host, task, message in dict.fromkeys(self._handled)
            if _folded(message) not in shown
        ]


def _folded(text: str) -> str:
    return " ".join(text.split())
