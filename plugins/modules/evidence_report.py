#!/usr/bin/python
"""Shows what was kept of all hosts; runs on the control node (plugins/action/evidence_report.py)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence_report
short_description: Show what was kept of all hosts of a play
description:
  - Prints from every host's C(evidence_result) where its evidence lies, how long it took, what was
    withheld and what failed, and appends an event for every host to the incident's timeline.
  - Runs once for the whole play, on the control node alone. Fails when not all of every host was kept.
options:
  incident:
    description: The incident that the evidence belongs to.
    type: str
    required: true
  who:
    description: Who collected it.
    type: str
    required: true
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: What was kept is shown
  katago.fleet.evidence_report:
    records_dir: records
    incident: 2026-11-24-1
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
directories:
  description: Where the evidence of the hosts lies.
  type: list
  elements: str
  returned: when all was kept
"""
