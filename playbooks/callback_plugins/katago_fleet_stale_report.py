"""Enables the replacement of old reports for the playbooks beside it, where ansible.cfg does not."""

from __future__ import annotations

from ansible_collections.katago.fleet.plugins.callback import stale_report


class CallbackModule(stale_report.CallbackModule):
    """The replacement of old reports, enabled."""

    CALLBACK_NAME = "katago_fleet_stale_report"
    CALLBACK_NEEDS_ENABLED = False
