#!/usr/bin/python
"""Documents `katago.fleet.drill_scorecard`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_scorecard
short_description: Score a drill
description:
  - Scores a drill by its record, C(<records_dir>/drills/<drill>/drill.json), compares its recovery with
    earlier drills, and writes C(scorecard.json), C(scorecard.md) and C(scorecard.html) beside the record.
  - A drill that is invalid or aborted gets a scorecard without a score. A drill that runs is refused.
  - The same records give the same bytes. Check mode only reports what would be written.
  - Runs once for the whole play and connects to no host.
options:
  drill:
    description: The ID of the drill.
    type: str
    required: true
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Score the drill
  katago.fleet.drill_scorecard:
    records_dir: records
    drill: drill-2026-11-24-1
"""

RETURN = r"""
score:
  description: The score, 0 to 100; none if the drill has no score.
  type: int
  returned: success
reasons:
  description: A sentence for every criterion that lost points, and for those that are not graded.
  type: list
  elements: str
  returned: success
slower:
  description: Whether the recovery was slower than usual.
  type: bool
  returned: success
paths:
  description: The files of the scorecard.
  type: list
  elements: str
  returned: success
"""
