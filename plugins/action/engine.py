"""The control node's part of `katago.fleet.engine`."""

from __future__ import annotations

from ansible_collections.katago.fleet.plugins.plugin_utils.transfer.host_files import AssetAction


class ActionModule(AssetAction):
    """Sends the engine to hosts that lack it."""
