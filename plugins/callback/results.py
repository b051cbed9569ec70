"""Shows at the end of a run what happened on each host, in one block."""

from __future__ import annotations

DOCUMENTATION = r"""
name: results
type: notification
short_description: Show the results of a run in one block at its end
description:
  - Shows one entry for every host on which a procedure ran, for every failure that was not rescued, and for
    every message of C(debug). An entry has the result, what changed and the next command.
  - The playbooks of this collection enable it; C(callbacks_enabled) is needed only for playbooks of your own.
options: {}
author: The katago-mcp-fleet maintainers
"""

from typing import Any, ClassVar

from ansible.plugins.callback import CallbackBase

EVENT = "katago.fleet.procedure_event"
REPORTS = ("ansible.builtin.debug", "debug")
_LONGEST = 4000
"""Characters of a failure; the whole of it is above, where the task failed."""


class CallbackModule(CallbackBase):
    """Collects results while the run goes, and shows them at its end."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "katago.fleet.results"
    CALLBACK_NEEDS_ENABLED = True

    _shown_by: ClassVar[CallbackModule | None] = None
    """The one that shows, where both a playbook and ansible.cfg enable the callback."""

    def __init__(self) -> None:
        super().__init__()
        self._procedures: dict[tuple[str, str], str] = {}
        self._failures: dict[str, str] = {}
        self._reports: list[str] = []

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Take the part of the one that shows, unless it is taken."""
        if CallbackModule._shown_by is None:
            CallbackModule._shown_by = self

    def v2_runner_on_ok(self, result: Any) -> None:
        """Keep the result of a procedure, and what a play reports by `debug`."""
        if result.task.action in REPORTS and "msg" in result.result:
            self._reports.append(f"[{result.host.get_name()}] {result.result['msg']}")
        summary = result.result.get("summary")
        if result.task.action == EVENT and summary:
            host = result.host.get_name()
            procedure = str(result.result.get("event", {}).get("procedure"))
            self._procedures.pop((host, procedure), None)
            self._procedures[host, procedure] = str(summary)
            self._failures.pop(host, None)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Keep a failure; what a procedure reports afterwards replaces it."""
        if not ignore_errors:
            self._failures[result.host.get_name()] = str(result.result.get("msg") or "failed").strip()

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Keep why a host did not answer."""
        reason = str(result.result.get("msg") or "no reason given").strip()
        self._failures[result.host.get_name()] = f"unreachable: {reason}"

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Show the block."""
        if CallbackModule._shown_by is not self:
            return
        failed = {**stats.failures, **stats.dark}
        entries = [*self._reports, *self._procedures.values()]
        same: dict[str, list[str]] = {}
        for host, message in self._failures.items():
            if host in failed:
                same.setdefault(message, []).append(host)
        entries += [f"[{', '.join(hosts)}] {message[:_LONGEST]}" for message, hosts in same.items()]
        if entries:
            self._display.banner("RESULT")
            self._display.display("\n".join(entries))
