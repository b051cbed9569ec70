#!/usr/bin/python
"""Takes a snapshot of what a drill could change on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_snapshot
short_description: Take a snapshot of what a drill could change on a host
description:
  - "Reads files by digest, units, firewall tables, mounts, accounts, queueing disciplines, stopped processes,
    the clock, classes of free space, and what a drill itself may leave. Two snapshots, from before and after
    a drill, are compared on the control node."
  - Changes nothing.
options: {}
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Take a snapshot
  katago.fleet.drill_snapshot:
  register: before
"""

RETURN = r"""
snapshot:
  description: "A flat dictionary: what a drill could change, to its value."
  type: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils.drill import snapshot
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import Host


def main() -> None:
    """Take the snapshot."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, snapshot=snapshot.take(Host()))


if __name__ == "__main__":
    main()
