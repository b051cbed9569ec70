#!/usr/bin/python
"""Checks which hosts an operator named. Implemented by plugins/action/host_selection.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_selection
short_description: Check that an operator named the hosts of a procedure
description:
  - Refuses unless C(-l) names hosts of the fleet, one by one. With C(confirm), the same names must be
    repeated there.
  - Runs once for the whole play, only on the control node.
options:
  procedure:
    description: The procedure's name.
    type: str
    required: true
  confirm:
    description: The names of the hosts, separated by commas. Not checked if it is not given.
    type: str
  last_host:
    description: Whether the hosts may be all hosts of the fleet.
    type: bool
    default: true
  reminder_host:
    description: The host that sends reminders of incidents, which is refused; empty for none.
    type: str
    default: ""
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Check that the operator confirmed these hosts
  katago.fleet.host_selection:
    procedure: remove_host
    confirm: katago-3
    last_host: false
"""

RETURN = r"""
"""
