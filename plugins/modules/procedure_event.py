#!/usr/bin/python
"""Documents `katago.fleet.procedure_event`, which runs on the control node only."""

from __future__ import annotations

DOCUMENTATION = r"""
module: procedure_event
short_description: Record an event of a procedure
description:
  - Appends one line of JSON to C(<records_dir>/incidents/<incident>/timeline.jsonl) on the control node. It
    has the UTC time, host, person, run of ansible-playbook, procedure, result and message.
  - Writes nothing in check mode.
options:
  records_dir:
    description:
      - The directory of records on the control node.
      - By default the result of the lookup P(katago.fleet.records_dir#lookup). If the lookup fails, the
        module shows a warning and records nothing.
    type: path
  incident:
    description: The incident that the event belongs to.
    type: str
    required: true
  procedure:
    description: The name of the procedure.
    type: str
    required: true
  result:
    description: The result of the procedure so far. C(begun) means that it has started.
    type: str
    choices: [begun, ok, changed, refused, partial, unknown]
    required: true
  message:
    description: What was done and what was observed, in a sentence.
    type: str
    default: ""
  warning:
    description: An additional warning for the report, for example that the operating system is not tested.
    type: str
    default: ""
  self_healing:
    description:
      - What the host repaired automatically, from C(katago.fleet.host_lock). Events that the timeline
        does not have yet are added to it.
    type: list
    elements: dict
    default: []
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
