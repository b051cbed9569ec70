#!/usr/bin/python
"""Loads a host's installed GPU driver."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_driver_load
short_description: Load a host's installed GPU driver
description:
  - Loads the kernel module and starts the daemon that keeps it loaded. Replaces another loaded module if
    nothing uses it. Returns the reason if this needs a reboot.
  - If no device is expected, loads nothing. Does nothing in check mode.
extends_documentation_fragment: [katago.fleet.gpu_driver]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Load the driver
  katago.fleet.gpu_driver_load:
    settings: {reboot: when_needed}
  register: loaded
"""

RETURN = r"""
reboot:
  description: Why a reboot is needed; empty if it is not.
  type: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    driver_load,
    driver_module,
    driver_settings,
)


def main() -> None:
    """Load the driver and return the result."""
    module = AnsibleModule(
        argument_spec={"settings": driver_settings.ARGUMENTS},
        supports_check_mode=True,
    )
    settings = driver_settings.from_options(module.params["settings"])
    driver_module.run(module, lambda: {"reboot": "" if module.check_mode else driver_load.load(settings)})


if __name__ == "__main__":
    main()
