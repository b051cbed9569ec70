#!/usr/bin/python
"""Shows self-healing of all hosts. Implemented on the control node by plugins/action/healing_report.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: healing_report
short_description: Show self-healing of all hosts and of the fleet
description:
  - Prints one table from the C(self_healing_shown) of every host of the play. A host that cannot be reached
    is a row too.
  - Runs once for the whole play, only on the control node. Can also write JSON.
options:
  json:
    description: File for the same facts as JSON; none if it is empty.
    type: path
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Show self-healing
  katago.fleet.healing_report:
    json: /tmp/healing.json
"""

RETURN = r"""
healing:
  description: What is shown, C(fleet) and C(hosts), by name.
  type: dict
  returned: always
"""
