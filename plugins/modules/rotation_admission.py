#!/usr/bin/python
"""Decides whether a host may join rotation. Implemented by plugins/action/rotation_admission.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rotation_admission
short_description: Decide whether a host may join rotation
description:
  - Judges what all load balancers answered to M(katago.fleet.load_balancer_rotation) with C(state=info).
  - If one of them keeps the host out for this procedure, the service is validated as by
    M(katago.fleet.service_validate), without waiting. The host may join only if every check passes.
  - If none of them does, nothing is validated and nothing is to be requested of them.
  - Changes nothing itself.
extends_documentation_fragment: [katago.fleet.rotation]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Decide whether the host may join
  katago.fleet.rotation_admission:
    answers: "{{ seen.results }}"
  register: admission
"""

RETURN = r"""
state:
  description: The C(state) to request of the load balancers, C(in) or C(info).
  type: str
  returned: success
kept_out:
  description: Why the host must stay out, as part of a sentence; empty if the service is validated.
  type: str
  returned: success
"""
