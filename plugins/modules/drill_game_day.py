#!/usr/bin/python
"""Documents `katago.fleet.drill_game_day`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_game_day
short_description: Practise all scenarios in a row
description:
  - Runs C(drill.yml) for every scenario, unattended, with the inventory of this run. A drill that is refused
    does not end the game day.
  - Writes the table of all drills as Markdown to C(<records_dir>/reports/game-day-<time>.md).
  - Fails unless all drills passed. Runs once for the whole play.
options:
  scenarios:
    description: The scenarios. Without one, all of them.
    type: list
    elements: str
    default: []
  minutes:
    description: Minutes for the response of each drill.
    type: float
    default: 5
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Practise all scenarios
  katago.fleet.drill_game_day:
    records_dir: records
"""

RETURN = r"""
table:
  description: The file with the table.
  type: str
  returned: when a drill was run
"""
