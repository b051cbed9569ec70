#!/usr/bin/python
"""Documents `katago.fleet.rollout_plan`, which runs on the control node only."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_plan
short_description: Plan a rollout over the hosts of a play, and show the plan
description:
  - Decides from C(katago_mcp_pending) of every host of the play which hosts change, in which order, and how
    long the canary soaks. Shows the plan. Changes no host.
  - The canary is the first pending host, or C(canary). The others follow in batches of 1, 2, 4 and so on, at
    most as many as C(min_available) allows.
  - Hosts that rejected the release before come first, in batches that grow from 1 again.
  - Keeps a record of an unfinished rollout on the control node. If a run was killed, the same command
    continues with the hosts that it has not switched. If exactly one host has the release, it soaks again.
  - Refuses hosts of a rollout that another run on the control node is working on.
options:
  procedure:
    description: The name of the procedure.
    type: str
    required: true
  release:
    description: The release that the operator named; empty for none.
    type: str
    default: ""
  canary:
    description: The host that is switched first; empty for the first pending host.
    type: str
    default: ""
  serial:
    description:
      - Hosts at a time, as a number or a share of the pending hosts. It replaces the growing batches and
        C(min_available). Without C(canary) there is then no canary and no soak.
    type: str
    default: ""
  min_available:
    description: The least number of hosts of the fleet that must stay up, or their share such as C(50%).
    type: str
    default: 50%
  soak_minutes:
    description: Minutes for which the canary is compared with the hosts that were not switched.
    type: float
    default: 0
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Plan the rollout
  katago.fleet.rollout_plan:
    procedure: deploy
    soak_minutes: 5
  run_once: true
  register: rollout_plan
"""

RETURN = r"""
plan:
  description:
    - C(canary), C(soaking), C(soak_minutes), C(references), C(batches), C(sizes), C(order), C(hosts),
      C(skipped), C(spare), C(note), C(soaking_release).
  type: dict
  returned: success
summary_file:
  description: The file on the control node for the summary of the rollout.
  type: str
  returned: when the directory of records is known
schedule:
  description: The samples of the soak; C(rounds), C(seconds) of a round, C(probes) of a sample.
  type: dict
  returned: success
"""
