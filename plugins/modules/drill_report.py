#!/usr/bin/python
"""Documents `katago.fleet.drill_report`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_report
short_description: Report on the drills of a month or a quarter
description:
  - Writes the drills of a period, what is overdue, who took part and how recoveries change, as
    C(<records_dir>/reports/drills-2026-11.md), C(.html) and C(.json), or C(drills-2026Q4).
  - Without a period, reports on the month and the quarter of the newest drill.
  - C(as_of) is the reporting date. The report shows the state at the end of that day, so the same records
    give the same bytes. The default is the period's last day or, while the period continues, the day of the
    newest drill.
  - A record that is damaged, or that another version wrote, is named in the report and not counted.
  - Runs once for the whole play and connects to no host. Check mode only reports what would be written.
options:
  month:
    description: The month, for example C(2026-11).
    type: str
    default: ""
  quarter:
    description: The quarter, for example C(2026Q4).
    type: str
    default: ""
  as_of:
    description: The day for which the report is made; empty for the end of the period.
    type: str
    default: ""
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Write the report
  katago.fleet.drill_report:
    records_dir: records
    month: 2026-11
"""

RETURN = r"""
overdue:
  description: What was overdue at the end of the reporting date.
  type: list
  elements: str
  returned: success
unread:
  description: The records that are not counted, with the reasons.
  type: list
  elements: str
  returned: success
paths:
  description: The files of the reports.
  type: list
  elements: str
  returned: success
"""
