#!/usr/bin/python
"""Documents `katago.fleet.drill_tabletop`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_tabletop
short_description: Practise a scenario without a fault
description:
  - With C(scenario), shows the symptoms, what triage would report of this fleet, and the questions. The
    drill is recorded with the mode C(tabletop) and the people who took part.
  - With C(drill), shows the right answers of a recorded drill. With C(answers), it also records how the
    answers of people were marked, and writes the scorecard again. A drill that people responded to may be
    marked as well.
  - Runs once for the whole play and connects to no host. Check mode shows the same and records nothing.
options:
  scenario:
    description: The scenario, or C(random); empty with C(drill).
    type: str
    default: ""
  participants:
    description: The people who take part; at least one, except with C(drill).
    type: list
    elements: str
    default: []
  drill:
    description: The ID of the drill of which the right answers are shown.
    type: str
    default: ""
  answers:
    description:
      - The marks, C(ID=MARK) with the ID of the question and C(right), C(partly) or C(wrong). A note may
        follow a colon.
    type: list
    elements: str
    default: []
  fleet:
    description: The name of the fleet in the record.
    type: str
    default: katago
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Practise
  katago.fleet.drill_tabletop:
    records_dir: records
    scenario: service_down
    participants: [Anna, Bo]
"""

RETURN = r"""
drill:
  description: The ID of the drill; empty in check mode with C(scenario).
  type: str
  returned: success
score:
  description: The score, 0 to 100; none until all answers are marked.
  type: int
  returned: with C(drill)
"""
