#!/usr/bin/python
"""Shows the collected evidence of all hosts. Runs on the control node (plugins/action/evidence_report.py)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence_report
short_description: Show the collected evidence of all hosts of a play
description:
  - Reads C(evidence_result) of every host. Prints the directory of its evidence, the duration, and the items
    that were withheld or failed. Appends an event for every host to the incident's timeline.
  - Runs once for the whole play, on the control node. Fails if the evidence of a host is missing or
    incomplete.
options:
  incident:
    description: The incident that the evidence belongs to.
    type: str
    required: true
  who:
    description: Who collected the evidence.
    type: str
    required: true
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Show the collected evidence
  katago.fleet.evidence_report:
    records_dir: records
    incident: 2026-11-24-1
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
directories:
  description: The directories of the hosts' evidence.
  type: list
  elements: str
  returned: when the evidence of all hosts is complete
"""
