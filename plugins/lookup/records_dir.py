"""The directory of the records."""

from __future__ import annotations

DOCUMENTATION = r"""
name: records_dir
short_description: The directory on the control node in which a fleet's records are kept
description:
  - Incidents, timelines, evidence, reviews and reports lie there. It is C(katago_records_dir) when that is
    set, and C(.katago-records) in the directory of the inventory otherwise.
  - It never depends on the current directory. Fails when there is no such directory, when several
    inventories leave it open which it is, when it would lie in an installed collection or be read as
    inventory, and when records of version 0.1.0 were not moved yet.
author: The katago-mcp-fleet maintainers
options: {}
"""

EXAMPLES = r"""
- name: Show where the records are
  ansible.builtin.debug:
    msg: "{{ lookup('katago.fleet.records_dir') }}"
"""

RETURN = r"""
_raw:
  description: One absolute path. The directory need not exist yet.
  type: list
  elements: str
"""

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ansible_collections.katago.fleet.plugins.plugin_utils.run import records_dir


class LookupModule(LookupBase):
    """`lookup('katago.fleet.records_dir')`."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return one path."""
        try:
            return [str(records_dir.of_task(variables or {}, self._templar.template))]
        except records_dir.PlaceError as error:
            raise AnsibleError(f"Refused. {error}") from None
