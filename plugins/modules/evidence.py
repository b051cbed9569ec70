#!/usr/bin/python
"""Collects and redacts the evidence of a host. Changes nothing on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence
short_description: Store the evidence of a host on the control node
description:
  - Collects the items that explain an incident, all at the same time, each with its own deadline and size
    limit. Stores them on the control node in C(<records_dir>/evidence/<incident>/<host>/<UTC time>/). Only
    the owner can read that directory, and it is never overwritten.
  - The volatile items (metrics, journal, processes, memory, sockets) are stored before the rest is collected.
    A collector that hangs, fails or never ends affects only its own item, whose C(problem) says so.
  - Secrets are removed on the host. An item that cannot be redacted is withheld, with the reason.
  - C(manifest.jsonl) has the sha256, size, status, duration and clock of every item, as a chain of hashes.
    Each hash is signed with a key of the control node. C(bin/evidence verify) verifies the chain.
  - A host of the group C(load_balancer) has the items of HAProxy and keepalived. One that is not in the group
    C(katago) has no items of the service.
  - Needs no disk space on the host. In check mode nothing is collected.
options:
  incident:
    description: The incident that the evidence belongs to. If empty, C(no-incident).
    type: str
    required: true
  tier:
    description: C(hot) collects only the volatile items, C(full) all items.
    type: str
    choices: [hot, full]
    default: hot
  key:
    description:
      - The private key on the control node, in PEM, that signs the evidence. It is created on first use.
      - If empty, C(katago-mcp-fleet/evidence.pem) in the user's configuration directory.
    type: str
    default: ""
  optional:
    description:
      - Whether to continue if the evidence cannot be stored. C(without) then has the reason. If C(procedure)
        is set, the timeline has it too.
    type: bool
    default: false
  procedure:
    description: The procedure that continues without evidence.
    type: str
  who:
    description: Who runs the procedure.
    type: str
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Store the volatile evidence
  katago.fleet.evidence:
    records_dir: records
    incident: 2026-11-24-1
"""

RETURN = r"""
directory:
  description: The directory of the evidence on the control node.
  type: str
  returned: when evidence was stored
items:
  description:
    - The stored items. Each has name, tier, sha256, bytes, source_bytes, exit, began, seconds,
      deadline_seconds, tier_seconds, tier_deadline_seconds, problem, redacted, withheld,
      clock_offset_seconds, clock_uncertainty_seconds.
  type: list
  elements: dict
  returned: when evidence was stored
complete:
  description: Whether all items of all requested tiers were collected and stored.
  type: bool
  returned: when evidence was stored
undeployed:
  description: Why the service is not deployed on the host, which explains absent items; empty if it is.
  type: str
  returned: when evidence was stored
without:
  description: Why the evidence could not be stored, although the procedure continues.
  type: str
  returned: when C(optional) is set and the evidence could not be stored
seconds:
  description: The duration on the control node, in seconds.
  type: float
  returned: when evidence was stored
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.evidence import items, runner
from ansible_collections.katago.fleet.plugins.module_utils.release import deployed
from ansible_collections.katago.fleet.plugins.module_utils.release.layout import Layout


def main() -> None:
    """Collect a tier and return it."""
    module = AnsibleModule(
        argument_spec={
            "tier": {"type": "str", "choices": list(items.TIERS), "required": True},
            "parts": {"type": "list", "elements": "str", "choices": list(items.PARTS), "required": True},
        },
        supports_check_mode=True,
    )
    tier: items.Tier = module.params["tier"]
    began, started = time.time(), time.monotonic()
    packed = list(runner.collect(tier, module.params["parts"]))
    module.exit_json(
        changed=False,
        began=began,
        ended=time.time(),
        seconds=time.monotonic() - started,
        deadline=runner.worst_seconds(tier),
        packed=packed,
        undeployed=(
            deployed.undeployed(Layout(paths.RELEASE_ROOT), paths.SERVICE_UNIT_FILE)
            if "service" in module.params["parts"]
            else ""
        ),
    )


if __name__ == "__main__":
    main()
