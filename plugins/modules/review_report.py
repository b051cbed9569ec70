#!/usr/bin/python
"""Documents `katago.fleet.review_report`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: review_report
short_description: Report over the records of all incidents
description:
  - With C(report=actions) prints action items and
    reviews that are overdue, and fails when there are any. With C(report=quarter) writes the report of a
    quarter (C(quarter=2026Q4)) as C(<records_dir>/reports/2026Q4.md) and C(.html).
  - C(as_of) is the day at whose end things are told. For a report it is the quarter's last day, or the
    day of the newest record while the quarter goes on; for C(report=actions), today.
  - Runs once for the whole play and asks no host. In check mode only says what would be written.
options:
  report:
    description: The report that is made.
    type: str
    choices: [actions, quarter]
    required: true
  quarter:
    description: The quarter that is reported on; empty for the newest one with records.
    type: str
    default: ""
  as_of:
    description: The day for which the report is made; empty for today, or the end of the quarter.
    type: str
    default: ""
  roster:
    description:
      - Whom to call; see the role C(incident). Only the date by which it is to be looked through is told.
    type: raw
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: List what is overdue
  katago.fleet.review_report:
    records_dir: records
    report: actions
    roster: "{{ incident_roster }}"
"""

RETURN = r"""
overdue:
  description: Action items that are open after their date.
  type: list
  elements: str
  returned: with C(report=actions)
overdue_reviews:
  description: Reviews that are open after they were due.
  type: list
  elements: str
  returned: with C(report=actions)
quarter:
  description: The quarter that was reported.
  type: str
  returned: with C(report=quarter)
as_of:
  description: The day at whose end things are told.
  type: str
  returned: with C(report=quarter)
"""
