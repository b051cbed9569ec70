#!/usr/bin/python
"""Shows the verdicts of a watch on all hosts; runs on the control node (plugins/action/watch_report.py)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: watch_report
short_description: Show and record the verdicts of a watch on all hosts of a play
description:
  - Prints one table from every host's C(watch_result), with what ended its windows before their time and the
    command to run next. A host that cannot be reached is in it as unknown.
  - Adds every verdict that is new to the incident's timeline, by which C(katago.fleet.incident) lets an
    incident end.
  - Runs once for the whole play, on the control node alone.
options:
  incident:
    description: The incident that the verdicts belong to.
    type: str
    default: ""
  who:
    description: Who asks for them.
    type: str
    required: true
  wait:
    description: Whether the verdict was waited for; hosts that are still watched fail then.
    type: bool
    default: true
  fetch:
    description: Whether the verdict was asked for; hosts that are still watched fail then.
    type: bool
    default: false
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The verdict
  katago.fleet.watch_report:
    records_dir: records
    incident: 2026-11-24-1
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
verdicts:
  description: Every host's verdict; recovered, watching, breached or unknown.
  type: dict
  returned: always
"""
