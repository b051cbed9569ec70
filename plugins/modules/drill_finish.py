#!/usr/bin/python
"""Documents `katago.fleet.drill_finish`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_finish
short_description: End a drill and complete its record
description:
  - Stops the prober, and writes outcome, times, traffic, actions, messages and differences to the record.
  - Reads C(drill_landing), C(drill_recovery), C(drill_repairs), C(drill_snapshot_before),
    C(drill_snapshot_after), C(drill_writes_before), C(drill_writes_after) and C(drill_undone) of the hosts
    that got a fault.
  - Runs once for the whole play and connects to no host.
options:
  drill:
    description: The drill's id.
    type: str
    required: true
  since:
    description: When the injection started, as C(monotonic) of C(katago.fleet.drill_record); 0 if it did not.
    type: float
    default: 0
  injected:
    description: When the fault was injected, in the same time; 0 if it was not.
    type: float
    default: 0
  failure:
    description: Why a step of the drill itself failed; empty if none did.
    type: str
    default: ""
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Complete the record
  katago.fleet.drill_finish:
    records_dir: records
    drill: drill-2026-11-30-1
"""

RETURN = r"""
outcome:
  description: C(passed), C(failed), C(invalid) or C(aborted).
  type: str
  returned: success
reason:
  description: The reason of the outcome.
  type: str
  returned: success
summary:
  description: What the drill showed, in sentences.
  type: str
  returned: success
"""
