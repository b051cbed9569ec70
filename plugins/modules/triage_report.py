#!/usr/bin/python
"""Shows the verdicts on all hosts; runs on the control node (plugins/action/triage_report.py)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: triage_report
short_description: Show the verdicts on all hosts of a play
description:
  - Prints one table from every host's C(triage_result), the worst host first, with reasons, recent
    changes and the command to run next. A host that cannot be reached is in it as unknown.
  - Runs once for the whole play, on the control node alone. Writes a report for programs when told where.
options:
  path:
    description: The file that the report is written to as JSON; its field C(verdict) is the fleet's.
    type: path
  fail_on:
    description: Fail when the fleet's verdict is this or worse, after the report was written.
    type: str
    choices: [unknown, P3, P2, P1, P0]
  breach:
    description: Whether an operator knows of a security breach.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The verdict
  katago.fleet.triage_report:
    path: /tmp/triage.json
"""

RETURN = r"""
verdict:
  description: The fleet's verdict; P0 to P3, unknown or healthy.
  type: str
  returned: always
"""
