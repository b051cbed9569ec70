#!/usr/bin/python
"""Documents `katago.fleet.procedure_inputs`, which runs on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: procedure_inputs
short_description: Refuse inputs of a procedure that are not valid
description:
  - Checks the extra variables of the command line against the table of inputs, and reports all problems at
    once. Refuses a misspelt name, an input of another procedure, a missing required input, a value of the
    wrong type, and a value that Ansible cut at its first space.
  - Refuses a procedure that keeps records when it is not clear where they are.
  - Runs once for the whole play and contacts no host.
options:
  procedure:
    description: The name of the procedure, which is that of its playbook.
    type: str
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Validate the operator's input
  katago.fleet.procedure_inputs:
    procedure: restart
"""

RETURN = r"""
refused:
  description: Whether an input is not valid. The message names each one.
  type: bool
  returned: when an input is not valid
"""
