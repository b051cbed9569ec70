#!/usr/bin/python
"""Documents `katago.fleet.procedure_inputs`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: procedure_inputs
short_description: Refuse extra variables that cannot be followed
description:
  - Refuses a name given with C(-e) that resembles a known one without being any, words that Ansible
    lost, and a switch that is neither true nor false; all of them at once.
  - For playbooks that only read. Procedures have it done by M(katago.fleet.host_lock).
  - Runs once for the whole play and asks no host.
options:
  names:
    description: Names of the extra variables that the playbook takes, besides the roles' own.
    type: list
    elements: str
    default: []
  records:
    description: Whether the playbook keeps records. Refuses when it is not clear where.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: What is asked for can be followed
  katago.fleet.procedure_inputs:
    names: [breach]
"""

RETURN = r"""
refused:
  description: Whether something cannot be followed; the message says what.
  type: bool
  returned: when it is so
"""
