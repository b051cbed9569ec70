"""Enables the timeline for the playbooks beside it, where ansible.cfg does not."""

from __future__ import annotations

from ansible_collections.katago.fleet.plugins.callback import timeline


class CallbackModule(timeline.CallbackModule):
    """The timeline, enabled."""

    CALLBACK_NAME = "katago_fleet_timeline"
    CALLBACK_NEEDS_ENABLED = False
