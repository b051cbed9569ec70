#!/usr/bin/python
"""Documents `katago.fleet.review_report`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: review_report
short_description: Report on all incidents
description:
  - Reads its inputs from the extra variables of C(playbooks/report_actions.yml) and
    C(playbooks/report_quarter.yml).
  - C(report_actions.yml) prints overdue action items and reviews, and fails if there are any.
  - C(report_quarter.yml) writes the report of a quarter (C(quarter=2026Q4)) as
    C(<records_dir>/reports/2026Q4.md) and C(.html).
  - C(as_of) is the reporting date. The report shows the state at the end of that day. The default of a
    quarterly report is the quarter's last day or, while the quarter continues, the day of the newest record.
    The default of C(report_actions.yml) is today.
  - Runs once for the whole play and connects to no host. Check mode only reports what would be written.
options:
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
    roster: "{{ incident_roster }}"
"""

RETURN = r"""
overdue:
  description: The overdue action items.
  type: list
  elements: str
  returned: with C(report_actions.yml)
overdue_reviews:
  description: The overdue reviews.
  type: list
  elements: str
  returned: with C(report_actions.yml)
quarter:
  description: The quarter of the report.
  type: str
  returned: with C(report_quarter.yml)
as_of:
  description: The reporting date.
  type: str
  returned: with C(report_quarter.yml)
"""
