#!/usr/bin/python
"""Collects the evidence of a host, redacted; changes nothing on it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence
short_description: Keep the evidence of a host on the control node
description:
  - Collects what explains an incident, all at once, each item with a deadline and a limit of its own,
    and keeps it on the control node as C(<records_dir>/evidence/<incident>/<host>/<UTC time>/),
    readable by its owner alone and never overwritten.
  - What is volatile (metrics, journal, processes, memory, sockets) is kept before the rest is
    collected. A collector that hangs, fails or does not end costs its own item, which says so.
  - Secrets are taken out on the host. What cannot be redacted is withheld, with the reason.
  - C(manifest.jsonl) has the sha256, size, status, duration and clock of every item as a chain of
    hashes, each signed with a key of the control node; C(bin/evidence verify) checks it.
  - Needs no disk on the host. In check mode nothing is collected.
options:
  incident:
    description: The incident that the evidence belongs to; C(no-incident) when it is empty.
    type: str
    required: true
  tier:
    description: The volatile part alone, C(hot), or all of it, C(full).
    type: str
    choices: [hot, full]
    default: hot
  key:
    description:
      - The private key on the control node, in PEM, that signs the evidence. It is made on first use.
      - C(katago-mcp-fleet/evidence.pem) in the user's configuration directory when it is empty.
    type: str
    default: ""
  optional:
    description:
      - Whether to go on when it cannot be kept. Then C(without) says why, and so does the timeline
        when a procedure is given.
    type: bool
    default: false
  procedure:
    description: The procedure that goes on without evidence.
    type: str
  who:
    description: Who runs the procedure.
    type: str
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The volatile evidence is kept
  katago.fleet.evidence:
    records_dir: records
    incident: 2026-11-24-1
"""

RETURN = r"""
directory:
  description: Where the evidence lies on the control node.
  type: str
  returned: when some was kept
items:
  description:
    - What was kept; name, tier, sha256, bytes, source_bytes, exit, began, seconds, deadline_seconds,
      tier_seconds, tier_deadline_seconds, problem, redacted, withheld, clock_offset_seconds,
      clock_uncertainty_seconds.
  type: list
  elements: dict
  returned: when some was kept
complete:
  description: Whether every tier that was asked for was collected and kept.
  type: bool
  returned: when some was kept
without:
  description: Why there is none, although it goes on.
  type: str
  returned: when it is optional and could not be kept
seconds:
  description: How long it took on the control node.
  type: float
  returned: when some was kept
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils.evidence import items, runner


def main() -> None:
    """Collect a tier and send it."""
    module = AnsibleModule(
        argument_spec={"tier": {"type": "str", "choices": list(items.TIERS), "required": True}},
        supports_check_mode=True,
    )
    tier: items.Tier = module.params["tier"]
    began, started = time.time(), time.monotonic()
    packed = list(runner.collect(tier))
    module.exit_json(
        changed=False,
        began=began,
        ended=time.time(),
        seconds=time.monotonic() - started,
        deadline=runner.worst_seconds(tier),
        packed=packed,
    )


if __name__ == "__main__":
    main()
