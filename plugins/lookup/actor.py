"""Who runs a procedure, for the history of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: actor
short_description: Who runs this procedure, as user@control-node from ADDRESS
description:
  - Who logged in, also behind C(sudo) and C(su), and the control node's name. If they logged in by SSH, the
    address that they came from follows, since several people may use the same account.
author: The katago-mcp-fleet maintainers
options: {}
"""

EXAMPLES = r"""
- name: The switch is recorded under a name
  katago.fleet.release_switch:
    release: last_good
    why: drill
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
_raw:
  description: One name.
  type: list
  elements: str
"""

from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.katago.fleet.plugins.plugin_utils.run import actors


class LookupModule(LookupBase):
    """`lookup('katago.fleet.actor')`."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return one name."""
        return [actors.actor()]
