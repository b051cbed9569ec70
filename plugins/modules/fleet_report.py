#!/usr/bin/python
"""Shows the overview of a fleet. Implemented on the control node by plugins/action/fleet_report.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_report
short_description: Show the overview of the fleet
description:
  - Prints one table from the C(overview_facts) of every host, those with findings first. A host that cannot
    be reached is a row too.
  - Runs once for the whole play, only on the control node. Can also write JSON and a page.
options:
  json:
    description: File for the overview as JSON; none if it is empty.
    type: path
  html:
    description: File for the overview as a page that loads nothing else; none if it is empty.
    type: path
  certificate_days:
    description: Report a certificate that expires within so many days.
    type: float
    required: true
  backup_hours:
    description: Report a host whose last verified backup is older than so many hours.
    type: float
    required: true
  clock_seconds:
    description: Report a clock that differs by more than so many seconds.
    type: float
    required: true
  balancers:
    description: The results of C(load_balancer_rotation) on every load balancer; empty without any.
    type: list
    elements: dict
    default: []
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Show the overview
  katago.fleet.fleet_report:
    html: /tmp/fleet.html
    certificate_days: 21
    backup_hours: 26
    clock_seconds: 5
"""

RETURN = r"""
findings:
  description: The findings of every host, each with C(kind), C(text) and C(urgent).
  type: dict
  returned: always
"""
