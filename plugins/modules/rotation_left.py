#!/usr/bin/python
"""Judges whether a host left rotation. Implemented on the control node by plugins/action/rotation_left.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rotation_left
short_description: Judge whether a host left rotation
description:
  - Judges the answers of all load balancers to M(katago.fleet.load_balancer_rotation). Fails if one of them
    refused, or if none could be asked.
extends_documentation_fragment: [katago.fleet.rotation]
options:
  without_drain:
    description: Whether to continue if no load balancer could be asked.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Check that the host left
  katago.fleet.rotation_left:
    answers: "{{ leaving.results }}"
"""

RETURN = r"""
balancers:
  description: The load balancers on which this procedure took the host out.
  type: list
  elements: str
  returned: success
undo:
  description: The load balancers on which the host must join again after a refusal.
  type: list
  elements: str
  returned: always
message:
  description: What was done, as a sentence; empty if no load balancer sends requests to the host.
  type: str
  returned: success
"""
