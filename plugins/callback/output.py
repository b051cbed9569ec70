"""The output of a run: that of Ansible, except that a failure is shown once."""

from __future__ import annotations

DOCUMENTATION = r"""
name: output
type: stdout
short_description: Ansible's default output, with every failure shown once
description:
  - Shows tasks, warnings and the recap as P(ansible.builtin.default#callback) does. Where a task fails, it
    shows only that it failed. The message is in the block RESULT at the end of the run, which the callback
    P(katago.fleet.results#callback) shows.
  - With C(-v), or without that callback, it shows failures as P(ansible.builtin.default#callback) does.
  - Set C(stdout_callback) to C(katago.fleet.output) to use it, as C(ansible.cfg) of the checkout does.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
author: The katago-mcp-fleet maintainers
"""

from typing import Any

from ansible import constants
from ansible.plugins.callback import default

from ansible_collections.katago.fleet.plugins.callback import results

AT_THE_END = "The reason is shown at the end."


class CallbackModule(default.CallbackModule):
    """Ansible's default output without the messages of failures."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "katago.fleet.output"

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Have the block of results show what this callback leaves out."""
        results.CallbackModule.shows_handled = not self._display.verbosity
        super().v2_playbook_on_start(playbook)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Show that a task failed; the whole message only of a failure that is ignored."""
        if not self._is_short():
            super().v2_runner_on_failed(result, ignore_errors)
            return
        reason = results.failure(result.result) if ignore_errors else AT_THE_END
        self._show(result, f"fatal: [{self.host_label(result)}]: FAILED! {reason}")
        if ignore_errors:
            self._display.display("...ignoring", color=constants.COLOR_SKIP)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """Show which item of a loop failed."""
        if not self._is_short():
            super().v2_runner_item_on_failed(result)
            return
        item = self._get_item_label(result.result)
        self._show(result, f"failed: [{self.host_label(result)}] (item={item})")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Show that a host is unreachable; why, if the play continues."""
        if not self._is_short():
            super().v2_runner_on_unreachable(result)
            return
        is_ignored = result.task.ignore_unreachable
        reason = results.failure(result.result) if is_ignored else AT_THE_END
        self._show(result, f"fatal: [{self.host_label(result)}]: UNREACHABLE! {reason}")
        if is_ignored:
            self._display.display("...ignoring", color=constants.COLOR_SKIP)

    def _is_short(self) -> bool:
        return not self._display.verbosity and results.CallbackModule.is_active()

    def _show(self, result: Any, line: str) -> None:
        if self._last_task_banner != result.task._uuid:
            self._print_task_banner(result.task)
        self._handle_warnings(result.result)
        self._display.display(
            line, color=constants.COLOR_ERROR, stderr=self.get_option("display_failed_stderr")
        )
