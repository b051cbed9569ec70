#!/usr/bin/python
"""Shows the verdicts on all hosts. Implemented on the control node by plugins/action/triage_report.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: triage_report
short_description: Show the verdicts on all hosts of a play
description:
  - Prints one table from the C(triage_result) of every host, the worst host first, with reasons, recent
    changes and the next command. A host that cannot be reached is shown as C(unknown).
  - Runs once for the whole play, only on the control node. With C(path), it also writes a JSON report.
options:
  path:
    description: File for the JSON report. The report's field C(verdict) is the fleet's verdict.
    type: path
  fail_on:
    description:
      - Fail if the fleet's verdict is this level or worse. The report is written first.
      - Never fail if it is empty.
    type: str
    choices: ["", unknown, P3, P2, P1, P0]
    default: ""
  breach:
    description: Whether an operator reports a security breach.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Show the verdicts
  katago.fleet.triage_report:
    path: /tmp/triage.json
"""

RETURN = r"""
verdict:
  description: The fleet's verdict; P0 to P3, unknown or healthy.
  type: str
  returned: always
"""
