#!/usr/bin/python
"""Documents `katago.fleet.procedure_event`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: procedure_event
short_description: Record what a procedure did on a host
description:
  - Appends a line of JSON to C(<records_dir>/incidents/<incident>/timeline.jsonl) on the control node. The
    line has the UTC time, host, person, run of ansible-playbook, procedure, result and message.
  - Check mode only prints the event.
options:
  records_dir:
    description:
      - The records directory on the control node.
      - Default is the directory that the lookup P(katago.fleet.records_dir#lookup) returns.
      - If the directory cannot be determined, the module warns and records nothing.
    type: path
  incident:
    description: The incident that the event belongs to.
    type: str
    required: true
  procedure:
    description: The procedure's name.
    type: str
    required: true
  result:
    description: The procedure's result so far.
    type: str
    choices: [begun, ok, changed, refused, partial, unknown]
    required: true
  message:
    description: What was done and observed, in a sentence.
    type: str
    default: ""
  warning:
    description: A warning in addition to the message, for example about an untested system.
    type: str
    default: ""
  who:
    description: The person who runs the procedure.
    type: str
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Record the event
  katago.fleet.procedure_event:
    incident: 2026-11-24-1
    procedure: restart
    result: changed
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
event:
  description: The event, with at, host, who, run, procedure, result and message.
  type: dict
  returned: always
"""
