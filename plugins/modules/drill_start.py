#!/usr/bin/python
"""Documents `katago.fleet.drill_start`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_start
short_description: Check the steady state, open the record of a drill, start prober and watch of alerts
description:
  - Refuses if an incident is open, if a host is not validated, if triage found more than P3 on one, or if a
    request of the prober fails. Then nothing is left of the drill.
  - Reads C(validate_result), C(drill_unvalidated) and C(triage_result) of every host of the play.
  - If the inventory has monitoring hosts, starts C(katago.fleet.drill_alerts) on them in a run of Ansible of
    its own. It has the inventory, the extra variables and the vault of this run.
  - Runs once for the whole play and connects to no host. Check mode starts no program.
options:
  plan:
    description: The plan that C(katago.fleet.drill_plan) returned.
    type: dict
    required: true
  fleet:
    description: The name of the fleet in the record.
    type: str
    default: katago
  prober_targets:
    description:
      - What the prober calls; C(name), C(url), and optionally C(host_header) and C(ca).
      - By default the virtual address of the load balancers, else every load balancer, else every host.
    type: list
    elements: dict
    default: []
  token:
    description: The bearer token of the prober. By default one of C(katago_mcp_tokens) that may analyse.
    type: str
    default: ""
  quiet_seconds:
    description: Seconds in which all requests of the prober must succeed.
    type: float
    default: 5
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Check the steady state, and open the record
  katago.fleet.drill_start:
    records_dir: records
    plan: "{{ drill_planned.plan }}"
    prober_targets: [{name: go.example.org, url: "https://go.example.org/mcp"}]
    token: "{{ token }}"
"""

RETURN = r"""
drill:
  description: The drill's id.
  type: str
  returned: success, except in check mode
directory:
  description: The directory of the drill on the control node.
  type: str
  returned: success, except in check mode
"""
