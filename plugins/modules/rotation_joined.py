#!/usr/bin/python
"""Judges whether a host joined rotation. Implemented by plugins/action/rotation_joined.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rotation_joined
short_description: Judge whether a host joined rotation
description:
  - Judges the answers of all load balancers to M(katago.fleet.load_balancer_rotation).
extends_documentation_fragment: [katago.fleet.rotation]
options:
  kept_out:
    description:
      - Why the host was not to be admitted, from M(katago.fleet.rotation_admission). Empty if it was.
    type: str
    default: ""
  tolerant:
    description: Whether to report a host that could not be admitted without a failure.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Report whether the host joined
  katago.fleet.rotation_joined:
    answers: "{{ joining.results }}"
"""

RETURN = r"""
message:
  description: Where the host is in rotation, or who took it out; empty if nobody did.
  type: str
  returned: always
"""
