"""Enables the block of results for the playbooks beside it, where ansible.cfg does not."""

from __future__ import annotations

from ansible_collections.katago.fleet.plugins.callback import results


class CallbackModule(results.CallbackModule):
    """The block of results, enabled."""

    CALLBACK_NAME = "katago_fleet_results"
    CALLBACK_NEEDS_ENABLED = False
