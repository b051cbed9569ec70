"""The host that shares the files of a deployment."""

from __future__ import annotations

DOCUMENTATION = r"""
name: asset_host
short_description: The host that serves engines and networks to the others
description:
  - Returns the host that shares files in this run. If none does, the host that the inventory names, or else
    the first host of the group C(katago) that the run reaches. If there is none, the host of the task.
  - Use it for C(delegate_to) of C(katago.fleet.asset_share).
author: The katago-mcp-fleet maintainers
options:
  _terms:
    description: The value of C(katago_asset_host).
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Share the files that hosts lack
  katago.fleet.asset_share:
    state: started
    host: "{{ katago_asset_host }}"
  delegate_to: "{{ lookup('katago.fleet.asset_host', katago_asset_host) }}"
  run_once: true
"""

RETURN = r"""
_raw:
  description: The name of a host.
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.lookup import LookupBase

from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_hosts
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer import sharing


class LookupModule(LookupBase):
    """`lookup('katago.fleet.asset_host', katago_asset_host)`."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: Any) -> list[str]:
        """Return one name."""
        # A host that fails meanwhile must not change where the share is stopped.
        if share := sharing.read(Path(constants.DEFAULT_LOCAL_TMP)):
            return [share.host]
        known = variables or {}
        named = str(terms[0] or "") if terms else ""
        group = known.get("groups", {}).get(fleet_hosts.GROUP, [])
        reached = known.get("ansible_play_hosts", [])
        return [sharing.asset_host(named, group, reached) or known["inventory_hostname"]]
