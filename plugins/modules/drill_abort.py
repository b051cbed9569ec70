#!/usr/bin/python
"""Documents `katago.fleet.drill_abort`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_abort
short_description: End drills that run, and close those whose runs are gone
description:
  - Asks a run that is alive to end its drill. Closes the record of a run that is gone, and stops its prober.
  - Runs once for the whole play and connects to no host. Works without any record.
options:
  who:
    description: Who aborts the drills.
    type: str
    required: true
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: End all drills
  katago.fleet.drill_abort:
    records_dir: records
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
asked:
  description: The drills whose runs were asked to end.
  type: list
  elements: str
  returned: success
closed:
  description: The drills that were closed, because their runs are gone.
  type: list
  elements: str
  returned: success
incidents:
  description: The incidents of the closed drills that are still open.
  type: list
  elements: str
  returned: success
silenced:
  description: The C(host) and the C(drill) of each silence that the runs of the closed drills may have left.
  type: list
  elements: dict
  returned: success
"""
