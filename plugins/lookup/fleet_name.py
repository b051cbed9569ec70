"""The name of a fleet."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_name
short_description: The name of the fleet that a host belongs to
description:
  - It is C(fleet_name) when the inventory sets that, and the name of the inventory's directory otherwise.
  - Backups carry it, so that the backup of one fleet is not restored into another one.
  - Fails when there is no name, or one with other characters than letters, digits, dots, hyphens and
    underscores.
author: The katago-mcp-fleet maintainers
options: {}
"""

EXAMPLES = r"""
- name: Show the name of the fleet
  ansible.builtin.debug:
    msg: "{{ lookup('katago.fleet.fleet_name') }}"
"""

RETURN = r"""
_raw:
  description: One name.
  type: list
  elements: str
"""

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_name


class LookupModule(LookupBase):
    """`lookup('katago.fleet.fleet_name')`."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return one name."""
        try:
            return [fleet_name.of_task(variables or {}, self._templar.template)]
        except fleet_name.FleetNameError as error:
            raise AnsibleError(f"Refused. {error}") from None
