#!/usr/bin/python
"""Documents `katago.fleet.procedure_inputs`, which runs on the control node only."""

from __future__ import annotations

DOCUMENTATION = r"""
module: procedure_inputs
short_description: Refuse invalid extra variables
description:
  - Refuses a misspelt name of an extra variable, a value that Ansible cut off after the first word, and a
    switch that is neither true nor false. Reports all problems at once.
  - For playbooks that only read. For all other playbooks M(katago.fleet.host_lock) makes the same checks.
  - Runs once for the whole play and connects to no host.
options:
  names:
    description: The names of the extra variables of the playbook, in addition to the roles' own.
    type: list
    elements: str
    default: []
  records:
    description: Whether the playbook writes records. If so, an unclear records directory is refused too.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Validate the operator's input
  katago.fleet.procedure_inputs:
    names: [breach]
"""

RETURN = r"""
refused:
  description: Whether an extra variable was refused; the message has the reasons.
  type: bool
  returned: when one was refused
"""
