#!/usr/bin/python
"""Documents `katago.fleet.drill_record`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_record
short_description: Record a step of a drill that runs
description:
  - Merges changes into the record of the drill, and returns the time.
  - Runs once for the whole play and connects to no host.
options:
  drill:
    description: The drill's id.
    type: str
    required: true
  changes:
    description: Changes of C(fault), C(incident), C(steady_state) or C(undo).
    type: dict
    default: {}
  injected:
    description: Whether the fault was injected just now.
    type: bool
    default: false
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Record the incident
  katago.fleet.drill_record:
    records_dir: records
    drill: drill-2026-11-30-1
    changes: {incident: drill-2026-11-30-1}
"""

RETURN = r"""
at:
  description: The time, UTC.
  type: str
  returned: success
monotonic:
  description: The same time in seconds, by a clock that nobody can set.
  type: float
  returned: success
aborted:
  description: Why the drill must end; empty if it may continue.
  type: str
  returned: success
"""
