#!/usr/bin/python
"""Documents `katago.fleet.drill_observe`, whose work is done on the control node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_observe
short_description: Observe a drill on a host, and respond to it
description:
  - C(cut) starts the procedure of the fault, and kills its run when the host is locked.
  - C(landing) waits until a probe sees the fault. The probes are the prober and the host, never the injector.
  - C(recovery) waits until the prober sees no failure, the host shows no fault, and the service is validated.
    An unattended response gives the host time to repair itself, then runs the procedures of the scenario.
  - Returns early if C(drill_abort.yml) was run, if a real alert fires, if another incident is opened, or if
    the prober ends.
options:
  plan:
    description: The plan that C(katago.fleet.drill_plan) returned.
    type: dict
    required: true
  drill:
    description: The drill's id.
    type: str
    required: true
  phase:
    description: What is done.
    type: str
    choices: [cut, landing, recovery]
    required: true
  incident:
    description: The incident of the drill.
    type: str
    required: true
  since:
    description: When the injection started, as C(monotonic) of C(katago.fleet.drill_record).
    type: float
    required: true
  injected:
    description: When the fault was injected, in the same time.
    type: float
    default: 0
  load_balancer:
    description: The arguments of C(katago.fleet.load_balancer_validate).
    type: dict
    default: {has_tokens: true}
  responds:
    description: Whether an unattended drill runs the procedures of the scenario.
    type: bool
    default: true
  landing_seconds:
    description: Seconds in which a probe must see the fault.
    type: float
    default: 30
  self_healing_seconds:
    description: Seconds in which only the host itself responds.
    type: float
    default: 20
  settle_seconds:
    description: Seconds to wait for the recovery after the last procedure.
    type: float
    default: 60
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Wait until the fault lands
  katago.fleet.drill_observe:
    records_dir: records
    plan: "{{ drill_planned.plan }}"
    drill: drill-2026-11-30-1
    incident: drill-2026-11-30-1
    phase: landing
    since: "{{ drill_injecting.monotonic }}"
    injected: "{{ drill_injected.monotonic }}"
"""

RETURN = r"""
landing:
  description: When a probe saw the fault (C(at), null if none did), what it saw, and why it was interrupted.
  type: dict
  returned: with the phase C(landing)
recovery:
  description: When everything worked again (C(at), null if it did not), and the problems.
  type: dict
  returned: with the phase C(recovery)
runs:
  description: The procedures that were run.
  type: list
  elements: dict
  returned: with the phase C(recovery)
run:
  description: The output of the procedure that was killed.
  type: str
  returned: with the phase C(cut)
"""
