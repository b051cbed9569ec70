#!/usr/bin/python
"""Finds the vendor of a host's GPU."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Find the vendor of a host's GPU
description:
  - Inspects only the PCI bus. Changes nothing.
options:
  vendor:
    description:
      - The vendor of the GPUs to use. C(auto) uses the GPUs on the bus, C(none) makes the host a CPU host.
    type: str
    choices: [auto, nvidia, amd, intel, none]
    default: auto
  devices:
    description: GPUs to use instead of the GPUs on the bus, each with C(vendor) and C(device).
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
  description: The vendor of the GPUs that the host uses; C(none) for a CPU host.
  type: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.gpu import devices, driver_host
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import Settings


def main() -> None:
    """Inspect the bus and return the result."""
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
