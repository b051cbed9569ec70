"""The incident that a run belongs to."""

from __future__ import annotations

DOCUMENTATION = r"""
name: incident
short_description: The incident that this run belongs to
description:
  - The one that is given, or else the only one that is open; empty for none, and when several are open.
author: The katago-mcp-fleet maintainers
options:
  _terms:
    description: The directory of the records, and the id that is given or an empty text.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: The end is recorded
  katago.fleet.procedure_event:
    records_dir: records
    incident: "{{ lookup('katago.fleet.incident', 'records', '') }}"
    procedure: restart
    result: changed
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
_raw:
  description: One id, or an empty text.
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import store


class LookupModule(LookupBase):
    """`lookup('katago.fleet.incident', directory, given)`."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return one id."""
        directory, given = terms
        try:
            return [store.current(Path(directory), given)]
        except records.RecordError:
            return [""]
