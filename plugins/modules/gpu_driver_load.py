#!/usr/bin/python
"""Loads the installed driver of a host's GPU."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_driver_load
short_description: Load the installed driver of a host's GPU
description:
  - Loads the module, in place of another where nothing uses that, and starts the daemon that keeps it loaded.
    Says where only a reboot can do that.
  - With no device expected nothing is loaded. In check mode it does nothing.
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
  description: Why a reboot is needed; empty when it is not.
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
    """Load and return."""
    module = AnsibleModule(
        argument_spec={"settings": driver_settings.ARGUMENTS},
        supports_check_mode=True,
    )
    settings = driver_settings.of(module.params["settings"])
    driver_module.run(module, lambda: {"reboot": "" if module.check_mode else driver_load.load(settings)})


if __name__ == "__main__":
    main()
