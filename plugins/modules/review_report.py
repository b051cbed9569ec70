#!/usr/bin/python
"""Documents `katago.fleet.review_report`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: review_report
short_description: Report on all incidents
description:
  - C(report=actions) prints overdue action items and reviews, and fails if there are any.
  - C(report=quarter) writes the report of a quarter (C(quarter=2026Q4)) as
    C(<records_dir>/reports/2026Q4.md) and C(.html).
  - C(as_of) is the reporting date. The report shows the state at the end of that day. The default of a
    quarterly report is the quarter's last day or, while the quarter continues, the day of the newest record.
    The default of C(report=actions) is today.
  - Runs once for the whole play and connects to no host. Check mode only reports what would be written.
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
      - The contacts; see the role C(incident). A report shows only how many there are and when they must be
        verified.
    type: raw
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Write the report
  katago.fleet.review_report:
    records_dir: records
    report: actions
    roster: "{{ incident_roster }}"
"""

RETURN = r"""
overdue:
  description: The overdue action items.
  type: list
  elements: str
  returned: with C(report=actions)
overdue_reviews:
  description: The overdue reviews.
  type: list
  elements: str
  returned: with C(report=actions)
quarter:
  description: The quarter of the report.
  type: str
  returned: with C(report=quarter)
as_of:
  description: The reporting date.
  type: str
  returned: with C(report=quarter)
"""
