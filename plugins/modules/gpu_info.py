#!/usr/bin/python
"""Tells whose GPU a host has."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Whose GPU a host has
description:
  - Looks at the PCI bus only, and changes nothing.
options:
  vendor:
    description: Whose GPUs are used; C(auto) takes those on the bus, C(none) makes it a CPU host.
    type: str
    choices: [auto, nvidia, amd, intel, none]
    default: auto
  devices:
    description: GPUs in place of those on the bus; C(vendor) and C(device) of each.
    type: list
    elements: dict
    default: []
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Find the host's GPU
  katago.fleet.gpu_info:
  register: gpu
"""

RETURN = r"""
vendor:
  description: Whose GPU is used, C(none) without one.
  type: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.gpu import devices, driver_host
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import Settings


def main() -> None:
    """Look and return."""
    module = AnsibleModule(
        argument_spec={
            "vendor": {"choices": ["auto", "nvidia", "amd", "intel", "none"], "default": "auto"},
            "devices": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    settings = Settings(vendor=module.params["vendor"], devices=module.params["devices"] or None)
    vendor = driver_host.vendor_of(settings, devices.on_bus(paths.PCI_DEVICES))
    module.exit_json(changed=False, vendor=vendor)


if __name__ == "__main__":
    main()
