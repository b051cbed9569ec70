#!/usr/bin/python
"""Documents `katago.fleet.drill_show`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_show
short_description: Show running and past drills
description:
  - Prints one line for each drill. A sealed scenario is not shown while the drill runs.
  - Runs once for the whole play and connects to no host.
options: {}
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Show the drills
  katago.fleet.drill_show:
    records_dir: records
"""

RETURN = r"""
drills:
  description: The ids of the drills, oldest first.
  type: list
  elements: str
  returned: success
"""
