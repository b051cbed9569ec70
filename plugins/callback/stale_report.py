"""Replaces the old report of triage when a new triage starts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: stale_report
type: notification
short_description: Replace the JSON report of an earlier triage when a new one starts
description:
  - If the file of C(triage_json) exists when a playbook with triage starts, its verdict becomes C(unknown)
    before anything else happens. A triage that is refused, fails or is killed then leaves no old verdict.
  - The playbooks of this collection enable it. Set C(callbacks_enabled) only for playbooks of your own.
options: {}
author: The katago-mcp-fleet maintainers
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.callback import CallbackBase

from ansible_collections.katago.fleet.plugins.callback import timeline
from ansible_collections.katago.fleet.plugins.plugin_utils.run import triage_file

PROCEDURE = "triage"
PATH = "triage_json"


class CallbackModule(CallbackBase):
    """Acts once, before the first play."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "katago.fleet.stale_report"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Find the plays of triage and the file that they will write."""
        for play in playbook.get_plays():
            if play.vars.get("procedure_name") != PROCEDURE:
                continue
            variables, template = timeline.variables_of_fleet(play)
            try:
                if path := str(template(variables.get(PATH) or "")):
                    triage_file.begin(Path(path).expanduser(), datetime.now(UTC))
            except (AnsibleError, OSError) as error:
                self._display.warning(f"{PATH}: the report of an earlier run was not replaced: {error}")
