#!/usr/bin/python
"""Generates load. Implemented on the control node by plugins/action/load.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: load
short_description: Call the service as clients do, and report how fast it answers
description:
  - Calls the load balancers or the hosts of the play's inventory in both protocol generations, for a limited
    time, and prints a table and charts. Each analysis has a position that no cache has.
  - Refuses a production fleet without I(allow_production). A fleet is one unless the inventory sets
    C(fleet_environment) to another value than C(production).
  - Stops when the service reports overload, or at least half of the calls fail, for I(overload_seconds), and
    fails then.
  - Runs once for the whole play, only on the control node.
options:
  through:
    description: What is called; load balancers if there are any, when it is empty.
    type: str
    choices: ["", load_balancers, hosts]
    default: ""
  rate:
    description: Calls a second, started at fixed times; 0 for I(clients).
    type: float
    default: 0
  clients:
    description: Clients, each of which calls again as soon as its last call ended.
    type: int
    default: 4
  seconds:
    description: Duration of the run.
    type: float
    default: 60
  soak_hours:
    description: Duration in hours, instead of I(seconds); 0 for I(seconds).
    type: float
    default: 0
  session_percent:
    description: Share of the calls, or clients, that use the protocol generation with sessions.
    type: int
    default: 50
  tool:
    description: The tool that is called.
    type: str
    choices: [analyzePosition, evaluateTerritory, getEngineStatus]
    default: analyzePosition
  visits:
    description: Visits of an analysis.
    type: int
    default: 8
  deadline:
    description: Seconds for one call.
    type: float
    default: 30
  overload_seconds:
    description: Stop after so many seconds of overload.
    type: float
    default: 10
  allow_production:
    description: Call a production fleet.
    type: bool
    default: false
  json:
    description: File for the report as JSON; none if it is empty.
    type: path
  html:
    description: File for the report as a page that loads nothing else; none if it is empty.
    type: path
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Call the service ten times a second for a minute
  katago.fleet.load:
    rate: 10
    html: /tmp/load.html
"""

RETURN = r"""
report:
  description: The report, as in I(json).
  type: dict
  returned: when calls were made
"""
