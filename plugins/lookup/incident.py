"""The incident that a run belongs to."""

from __future__ import annotations

DOCUMENTATION = r"""
name: incident
short_description: The incident that this run belongs to
description:
  - Returns the given id or, without one, the id of the only open incident. Returns an empty string if no
    incident is open, if several are open, and if the records directory cannot be determined.
  - Incidents are read from the directory that the lookup P(katago.fleet.records_dir#lookup) returns.
author: The katago-mcp-fleet maintainers
options:
  _terms:
    description: An incident's id, or an empty string.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Record the result
  katago.fleet.procedure_event:
    records_dir: "{{ lookup('katago.fleet.records_dir') }}"
    incident: "{{ lookup('katago.fleet.incident', '') }}"
    procedure: restart
    result: changed
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
_raw:
  description: One id, or an empty string.
  type: list
  elements: str
"""

from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import store
from ansible_collections.katago.fleet.plugins.plugin_utils.run import records_dir


class LookupModule(LookupBase):
    """`lookup('katago.fleet.incident', id)`."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return one id."""
        (requested,) = terms
        if requested:
            return [requested]
        try:
            return [store.current(records_dir.of_task(variables or {}, self._templar.template), "")]
        except (records.RecordError, records_dir.PlaceError):
            return [""]
