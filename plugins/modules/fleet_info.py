#!/usr/bin/python
"""Reads what the overview of the fleet shows of a host; changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_info
short_description: Read what the overview of the fleet shows of a host
description:
  - Reads releases, the service, lowered limits, the lock, security mode, backups, the certificate, the
    kernels and the driver, each with its own deadline. A host of an earlier version lacks some of them.
  - The control node adds what the inventory asks for, as far as it can be known without a build.
  - Reads only.
options:
  patience:
    description: Deadline in seconds of each fact.
    type: int
    default: 15
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Read the host
  katago.fleet.fleet_info:
  register: overview_facts
"""

RETURN = r"""
facts:
  description: Every fact, with C(value) or else C(unknown) (the reason), and C(seconds).
  type: dict
  returned: when the host was reached
expected:
  description: What the inventory asks for; C(version), C(engines), C(networks), C(config), as far as known.
  type: dict
  returned: when the host was reached
skew:
  description: How many seconds the host's clock is ahead of the control node's.
  type: float
  returned: when the host was reached
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils.fleet import measure


def main() -> None:
    """Read all facts."""
    module = AnsibleModule(
        argument_spec={"patience": {"type": "int", "default": 15}}, supports_check_mode=True
    )
    module.exit_json(changed=False, facts=measure.measure(measure.Places(), module.params["patience"]))


if __name__ == "__main__":
    main()
