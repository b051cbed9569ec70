#!/usr/bin/python
"""Documents `katago.fleet.review_report`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: review_report
short_description: Report over the records of all incidents
description:
  - Follows the extra variables of C(playbooks/report.yml). With C(do=actions) prints action items and
    reviews that are overdue, and fails when there are any. With C(do=quarter) writes the report of a
    quarter (C(quarter=2026Q4)) as C(<records_dir>/reports/2026Q4.md) and C(.html).
  - C(as_of) is the day at whose end things are told. For a report it is the quarter's last day, or the
    day of the newest record while the quarter goes on; for C(do=actions), today.
  - Runs once for the whole play and asks no host. In check mode only says what would be written.
options:
  roster:
    description:
      - Whom to call; see the role C(incident). Only the date by which it is to be looked through is told.
    type: raw
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: What is asked for is reported
  katago.fleet.review_report:
    records_dir: records
    roster: "{{ incident_roster }}"
"""

RETURN = r"""
overdue:
  description: Action items that are open after their date.
  type: list
  elements: str
  returned: with C(do=actions)
overdue_reviews:
  description: Reviews that are open after they were due.
  type: list
  elements: str
  returned: with C(do=actions)
quarter:
  description: The quarter that was reported.
  type: str
  returned: with C(do=quarter)
as_of:
  description: The day at whose end things are told.
  type: str
  returned: with C(do=quarter)
"""
