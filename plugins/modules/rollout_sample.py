#!/usr/bin/python
"""Samples the service during the soak of a rollout; changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_sample
short_description: Sample the service during the soak of a rollout
description:
  - Reads the running release, the counters of requests by status and of the durations of analyses, and the
    recorded baseline if it was measured with the same engine.
  - Has known positions analysed if C(probes) is given. Then a service with little traffic can be judged too.
  - Does not fail. What cannot be read is null, and a position without an answer has a problem.
options:
  probes:
    description: The number of known positions to request.
    type: int
    default: 0
  deadline:
    description: Seconds for all positions together.
    type: int
    default: 60
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Sample the service
  katago.fleet.rollout_sample:
    probes: 2
  register: sample
"""

RETURN = r"""
sample:
  description: C(release), C(started), C(requests), C(durations), C(probes), C(baseline).
  type: dict
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.release.layout import Layout
from ansible_collections.katago.fleet.plugins.module_utils.rollout import sample


def main() -> None:
    """Take a sample."""
    module = AnsibleModule(
        argument_spec={
            "probes": {"type": "int", "default": 0},
            "deadline": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    taken = sample.take(
        Layout(paths.RELEASE_ROOT),
        paths.BASELINE,
        paths.PROC,
        probes=module.params["probes"],
        deadline=module.params["deadline"],
    )
    module.exit_json(changed=False, sample=taken)


if __name__ == "__main__":
    main()
