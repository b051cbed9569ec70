#!/usr/bin/python
"""Shows the verdicts of a watch. Implemented on the control node by plugins/action/watch_report.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: watch_report
short_description: Show and record the verdicts of a watch on all hosts of a play
description:
  - Prints one table from the C(watch_result) of every host, with the reasons why windows were restarted and
    the next command. A host that cannot be reached is shown as C(unknown).
  - Adds every new verdict to the incident's timeline. C(katago.fleet.incident) reads the verdicts there
    before it closes an incident.
  - Runs once for the whole play, only on the control node.
options:
  incident:
    description: The incident that the verdicts belong to.
    type: str
    default: ""
  who:
    description: Who runs the watch.
    type: str
    required: true
  wait:
    description: Whether the run waited for the verdicts. If so, hosts that are still C(watching) fail.
    type: bool
    default: true
  fetch:
    description: Whether the run only read the verdicts. If so, hosts that are still C(watching) fail.
    type: bool
    default: false
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Show and record the verdicts
  katago.fleet.watch_report:
    records_dir: records
    incident: 2026-11-24-1
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
verdicts:
  description: The verdict on every host. It is recovered, watching, breached, unknown or refused.
  type: dict
  returned: always
"""
