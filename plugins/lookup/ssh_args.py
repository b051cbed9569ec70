"""The options of SSH for a procedure's connections."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ssh_args
short_description: SSH options of a host with what a procedure needs added
description:
  - Has the value of C(ansible_ssh_args) that the inventory gives the host, or else the configured
    C(ssh_args), as a whole. SSH takes the first value that it is given of an option.
  - Playbooks set C(ansible_ssh_args) to it. A value of C(-e) is used as it is.
author: The katago-mcp-fleet maintainers
options:
  fresh:
    description:
      - Whether to open a new connection that ends after 10 seconds without a response, instead of a minute.
        A connection that was kept open would hide for a minute that a host is frozen.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Run a command over a connection of its own
  ansible.builtin.command: uptime
  changed_when: false
  vars:
    ansible_ssh_args: "{{ lookup('katago.fleet.ssh_args', fresh=true) }}"
"""

RETURN = r"""
_raw:
  description: The options in one text.
  type: list
  elements: str
"""

from typing import Any

from ansible import constants
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.loader import connection_loader
from ansible.plugins.lookup import LookupBase

ALIVE = "-o ServerAliveInterval=15 -o ServerAliveCountMax=4"
FRESH = "-o ControlMaster=no -o ControlPath=none -o ServerAliveInterval=5 -o ServerAliveCountMax=2"


class LookupModule(LookupBase):
    """`lookup('katago.fleet.ssh_args', fresh=false)`."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return one text."""
        known = variables or {}
        # Without the variables of the play, which are what this lookup is the value of.
        host = known["hostvars"][known["inventory_hostname"]]
        own = host.get("ansible_ssh_args")
        if own is None:
            # The options of a plugin are known once it was loaded.
            connection_loader.get("ssh", class_only=True)
            own = constants.config.get_config_value("ssh_args", plugin_type="connection", plugin_name="ssh")
        return [f"{FRESH} {own}".strip() if boolean(kwargs.get("fresh", False)) else f"{own} {ALIVE}".strip()]
