#!/usr/bin/python
"""Reads what self-healing does on a host, and for the fleet on a monitoring host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: healing_info
short_description: Read the state of self-healing
description:
  - Reads whether repairs are on, paused or stopped, by whom and why, the budget that is left, and the last
    repairs. On a monitoring host also those of the whole fleet. Changes nothing.
options: {}
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Read the state of self-healing
  katago.fleet.healing_info:
  register: self_healing_shown
"""

RETURN = r"""
host:
  description:
    - Self-healing of the host itself, with C(installed), C(mode), C(paused), C(stopped), C(status), C(why),
      C(checked_at), C(left) and C(repairs).
  type: dict
  returned: success
fleet:
  description: Fleet healing, with the same keys. Only one monitoring host has it.
  type: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils.self_healing import overview, uptime


def main() -> None:
    """Read both."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    boot, seconds = uptime.read()
    module.exit_json(
        changed=False,
        host=overview.as_dict(overview.of_host(overview.Places(), boot, seconds)),
        fleet=overview.as_dict(overview.of_fleet(overview.FLEET, boot, seconds)),
    )


if __name__ == "__main__":
    main()
