"""The hosts of the plays that set up fleet healing."""

from __future__ import annotations

DOCUMENTATION = r"""
name: healing_hosts
short_description: The host pattern of a play of fleet healing, for C(hosts)
description:
  - The first host of the group C(monitoring) repairs the fleet, if its variable C(fleet_healing_enabled) is
    true. If the variable is false, healing is removed. Without the variable, the play is skipped.
author: The katago-mcp-fleet maintainers
options:
  _terms:
    description:
      - C(monitoring) for this host, C(all) for all hosts that it works on, C(enabled) for this host if it
        repairs the fleet, C(pause) for the first host of the group also without the variable.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Repair the fleet when alerts fire
  hosts: "{{ lookup('katago.fleet.healing_hosts', 'enabled') }}"
"""

RETURN = r"""
_raw:
  description: One host pattern.
  type: list
  elements: str
"""

from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_hosts


class LookupModule(LookupBase):
    """`lookup('katago.fleet.healing_hosts', 'enabled')`."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: Any) -> list[str]:
        """Return one pattern."""
        if fleet_hosts.only_reads():
            return [fleet_hosts.MONITORING]
        known = variables or {}
        return [fleet_hosts.healing(terms[0], known.get("groups") or {}, known.get("hostvars") or {})]
