"""The hosts that a procedure works on."""

from __future__ import annotations

DOCUMENTATION = r"""
name: hosts
short_description: The host pattern of a procedure, for C(hosts) of its first play
description:
  - Returns C(katago), the group of the fleet, or the group in the first term.
  - Ends the run with status 1 and a message if the inventory has no host in that group, or if C(-l) selects
    none of them. Ansible itself would skip the play and end with status 0.
  - Use it for C(hosts) of a play only. Options that only list or check a playbook, such as C(--syntax-check)
    and C(--list-hosts), are never refused.
author: The katago-mcp-fleet maintainers
options:
  _terms:
    description: The group, C(katago), C(load_balancer) or C(monitoring). C(katago) without it.
    type: list
    elements: str
  contacts:
    description:
      - Whether the procedure contacts hosts. If it does not, and the group is empty, it runs on the control
        node (C(localhost)).
    type: bool
    default: true
  also:
    description: More groups of hosts that the procedure works on, which the inventory need not have.
    type: list
    elements: str
    default: []
  alone:
    description: Whether C(-l) may select only hosts of C(also).
    type: bool
    default: true
  later:
    description: Groups whose hosts only a later play works on. C(-l) may select only hosts of them.
    type: list
    elements: str
    default: []
  optional:
    description: Whether the play is skipped if the inventory has no host in that group.
    type: bool
    default: false
  having:
    description:
      - The name of a variable of the inventory. Only hosts for which it is not empty are selected; without
        one, the play is skipped. For a later play than the first.
    type: str
"""

EXAMPLES = r"""
- name: Restart
  hosts: "{{ lookup('katago.fleet.hosts') }}"
  gather_facts: false
"""

RETURN = r"""
_raw:
  description: One host pattern.
  type: list
  elements: str
"""

from typing import Any

from ansible import context
from ansible.errors import ExitCode
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display

from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_hosts, records_dir

display = Display()


class LookupModule(LookupBase):
    """`lookup('katago.fleet.hosts', 'katago', contacts=true, having='backup_repository')`."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return one pattern, or end the run."""
        group = terms[0] if terms else fleet_hosts.GROUP
        if fleet_hosts.only_reads():
            return [group]
        known = variables or {}
        if boolean(kwargs.get("optional", False)) and not (known.get("groups") or {}).get(group):
            return [fleet_hosts.NOBODY]
        if having := kwargs.get("having"):
            return [fleet_hosts.having(str(having), known.get("groups") or {}, known.get("hostvars") or {})]
        try:
            pattern = fleet_hosts.pattern(
                known.get("groups") or {},
                context.CLIARGS.get("subset"),
                known.get("ansible_inventory_sources") or [],
                contacts=boolean(kwargs.get("contacts", True)),
                group=group,
                also=kwargs.get("also", ()),
                alone=boolean(kwargs.get("alone", True)),
                later=kwargs.get("later", ()),
            )
        except fleet_hosts.NoHostError as error:
            # An exception would be shown with the template and lines of the playbook around the message.
            display.error(str(error), wrap_text=False)
            raise SystemExit(int(ExitCode.GENERIC_ERROR)) from None
        if pattern == fleet_hosts.CONTROL_NODE:
            display.warning(
                f"The inventory has no host in the group {group}. Variables of that group, such"
                f" as {records_dir.VARIABLE} and incident_channels, are not read."
            )
        return [pattern]
