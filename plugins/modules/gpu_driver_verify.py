#!/usr/bin/python
"""Verifies that a host's GPU driver works."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_driver_verify
short_description: Verify that a host's GPU driver works
description:
  - Queries NVIDIA devices with C(nvidia-smi). For AMD and Intel devices, checks their render nodes.
  - Fails if a device is missing, or if it uses another driver version than the installed one. Changes
    nothing.
extends_documentation_fragment: [katago.fleet.gpu_driver]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Verify the GPU driver
  katago.fleet.gpu_driver_verify:
  register: verified
"""

RETURN = r"""
vendor:
  description: The vendor of the host's GPUs; C(none) for a CPU host.
  type: str
  returned: always
cards:
  description: What C(nvidia-smi) reports for each device. For AMD and Intel, only C(name).
  type: list
  elements: dict
  returned: always
nodes:
  description: The device nodes that an engine needs.
  type: list
  elements: str
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    devices,
    driver_host,
    driver_module,
    driver_settings,
    driver_verify,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import Settings


def verify(settings: Settings) -> dict[str, Any]:
    """Verify the driver; return the module's result."""
    on_bus = devices.on_bus(paths.PCI_DEVICES)
    return {
        "vendor": driver_host.vendor_of(settings, on_bus),
        "cards": driver_verify.verify(settings),
        "nodes": driver_verify.nodes(driver_host.devices_of(settings, on_bus)),
    }


def main() -> None:
    """Verify the driver and return the result."""
    module = AnsibleModule(
        argument_spec={"settings": driver_settings.ARGUMENTS},
        supports_check_mode=True,
    )
    settings = driver_settings.from_options(module.params["settings"])
    driver_module.run(module, lambda: verify(settings))


if __name__ == "__main__":
    main()
