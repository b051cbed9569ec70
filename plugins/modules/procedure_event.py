#!/usr/bin/python
"""Documents `katago.fleet.procedure_event`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: procedure_event
short_description: Record what a procedure did on a host
description:
  - Appends a line of JSON to C(<records_dir>/incidents/<incident>/timeline.jsonl) on the control node;
    UTC time, host, person, the run of ansible-playbook, procedure, result,
    message. In check mode it only says what it would.
options:
  records_dir:
    description:
      - Where records are kept on the control node.
      - What the lookup P(katago.fleet.records_dir#lookup) gives when it is not given.
      - Where that is not clear, a warning takes the place of the event.
    type: path
  incident:
    description: The incident that the event belongs to.
    type: str
    required: true
  procedure:
    description: The procedure.
    type: str
    required: true
  result:
    description: How it stands.
    type: str
    choices: [begun, ok, changed, refused, partial, unknown]
    required: true
  message:
    description: What was done and seen, in a sentence.
    type: str
    default: ""
  warning:
    description: What the report warns of beside the message, for example of a system that was not tested.
    type: str
    default: ""
  who:
    description: Who runs the procedure.
    type: str
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The event is recorded
  katago.fleet.procedure_event:
    incident: 2026-11-24-1
    procedure: restart
    result: changed
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
event:
  description: The event; at, host, who, run, procedure, result, message.
  type: dict
  returned: always
"""
