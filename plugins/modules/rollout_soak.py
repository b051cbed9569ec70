#!/usr/bin/python
"""Documents `katago.fleet.rollout_soak`, which runs on the control node only."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_soak
short_description: Judge a canary by the samples of a soak, and wait for the next round
description:
  - Collects the result of M(katago.fleet.rollout_sample) of every host of the play. Compares the failures of
    the canary with failures of the same kind on the hosts that were not switched, and its latency with theirs
    or, if no other host was measured, with its recorded baseline.
  - Fails if the canary does not answer, or if somebody else changed it. If the canary fails the soak, returns
    the verdict C(failed), and the playbook rolls it back.
  - Waits until the next round is due, unless the soak is over.
options:
  canary:
    description: The host that is judged.
    type: str
    required: true
  release:
    description: The release that it must run; empty if that is not known.
    type: str
    required: true
  round:
    description: The number of this round, from 0.
    type: int
    required: true
  rounds:
    description: The number of the last round.
    type: int
    required: true
  seconds:
    description: The length of a round.
    type: float
    required: true
  probes:
    description: The known positions of a sample, where the clients send too little.
    type: int
    required: true
  soak:
    description: What this module returned in the previous round.
    type: dict
    default: {}
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Judge the canary
  katago.fleet.rollout_soak:
    canary: katago-1
    release: 0.1.0-2f6a9c0d1e3b
    round: 1
    rounds: 10
    seconds: 30
    probes: 1
    soak: "{{ rollout_soak }}"
  run_once: true
  register: rollout_soak
"""

RETURN = r"""
verdict:
  description:
    - C(state), one of C(passed), C(failed), C(undecided), C(unknown); C(reasons); C(basis), what the verdict
      rests on; the figures of C(canary) and C(others).
  type: dict
  returned: always
samples:
  description: The samples so far, by host.
  type: dict
  returned: always
started:
  description: When the soak started, in seconds of the control node's monotonic clock.
  type: float
  returned: always
probes:
  description: The known positions that the next samples should request.
  type: int
  returned: always
over:
  description: Whether the soak is over.
  type: bool
  returned: always
"""
