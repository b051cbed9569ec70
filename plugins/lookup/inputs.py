"""The inputs that an operator gave a procedure."""

from __future__ import annotations

DOCUMENTATION = r"""
name: inputs
short_description: The inputs of a procedure, from the command line
description:
  - Reads the extra variables of the command line (C(-e)) and nothing else. A variable of the inventory that
    has the name of an input, C(force) for example, has no effect.
  - Inputs, their types and their defaults are declared in one table, shown in C(docs/reference/inputs.md).
  - Texts are plain. Ansible does not render templates in them.
author: The katago-mcp-fleet maintainers
options:
  _terms:
    description: The name of a procedure, which is that of its playbook.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Restart the service, by force when -e force=true is given
  ansible.builtin.include_role:
    name: katago.fleet.katago_mcp
    tasks_from: restart
  vars:
    katago_mcp_force: "{{ lookup('katago.fleet.inputs', 'restart').force }}"
"""

RETURN = r"""
_raw:
  description: One mapping with every input of the procedure; the default of each one that was not given.
  type: list
  elements: dict
"""

from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.lookup import LookupBase
from ansible.utils.vars import load_extra_vars

from ansible_collections.katago.fleet.plugins.plugin_utils.run import inputs, procedures


class LookupModule(LookupBase):
    """`lookup('katago.fleet.inputs', 'restart')`."""

    def run(
        self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Return one mapping."""
        (name,) = terms
        if name not in procedures.PROCEDURES:
            raise AnsibleError(f"{name} is not a procedure. Known: {', '.join(procedures.PROCEDURES)}.")
        known = variables or {}
        # Play variables may be defined by this lookup, so only those of the inventory are read.
        host = known.get("hostvars", {}).get(known.get("inventory_hostname"), {})
        try:
            return [inputs.values(load_extra_vars(DataLoader()), name, host)]
        except inputs.InputError as error:
            raise AnsibleError(f"Refused. {error}") from None
