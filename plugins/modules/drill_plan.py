#!/usr/bin/python
"""Documents `katago.fleet.drill_plan`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_plan
short_description: Decide what a drill does, and whether it is allowed
description:
  - Chooses the scenario and the hosts. Refuses a drill that the inventory does not allow, with every reason.
  - Closes the records of drills whose runs were killed, as C(aborted). Refuses if another drill runs.
  - Runs once for the whole play and connects to no host.
options:
  scenario:
    description: The name of a scenario, or C(random).
    type: str
    required: true
  mode:
    description:
      - Who responds. C(unattended) is self-healing, then the procedures of the scenario. C(person) is the
        participants.
    type: str
    choices: [unattended, person]
    default: unattended
  minutes:
    description: Minutes for the response.
    type: float
    default: 15
  sealed:
    description: Whether the scenario stays secret until the end.
    type: bool
    default: false
  hosts:
    description: The hosts that get the fault. Without one, a host is chosen.
    type: list
    elements: str
    default: []
  participants:
    description: The people who respond.
    type: list
    elements: str
    default: []
  environment:
    description: What the fleet is used for.
    type: str
    default: production
  allow_production:
    description: Whether a drill on a production fleet is allowed.
    type: bool
    default: false
  window:
    description: When drills are allowed on a production fleet, such as C(Tue,Thu 10:00-12:00 UTC).
    type: str
    default: ""
  max_hosts:
    description: How many hosts of the fleet may get a fault.
    type: int
    default: 1
  min_available:
    description: How many hosts must stay in rotation, a number or a share.
    type: str
    default: 50%
  outage_seconds:
    description: Seconds after which a cause outside of the fleet ends.
    type: int
    default: 30
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Plan the drill
  katago.fleet.drill_plan:
    records_dir: records
    scenario: service_down
    environment: lab
"""

RETURN = r"""
plan:
  description: The drill; mode, participants, scenario, sealed, seconds, and targets with host and fault.
  type: dict
  returned: when the drill is allowed
orphans:
  description: The drills that were closed because their runs are gone.
  type: list
  elements: str
  returned: when the drill is allowed
"""
