#!/usr/bin/python
"""Verifies that the driver of a host's GPU works."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_driver_verify
short_description: Verify that the driver of a host's GPU works
description:
  - Asks C(nvidia-smi) for the devices, and of AMD's and Intel's cards looks for the render nodes. Fails when
    one is missing, or is driven by another version than the installed one. Changes nothing.
extends_documentation_fragment: [katago.fleet.gpu_driver]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Verify that the driver names its devices
  katago.fleet.gpu_driver_verify:
  register: verified
"""

RETURN = r"""
vendor:
  description: Whose GPU there is, C(none) without one.
  type: str
  returned: always
cards:
  description: What C(nvidia-smi) says of each device; C(name) of each of AMD's and Intel's.
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
    """The module's result."""
    on_bus = devices.on_bus(paths.PCI_DEVICES)
    return {
        "vendor": driver_host.vendor_of(settings, on_bus),
        "cards": driver_verify.verify(settings),
        "nodes": driver_verify.nodes(driver_host.devices_of(settings, on_bus)),
    }


def main() -> None:
    """Verify and return."""
    module = AnsibleModule(
        argument_spec={"settings": driver_settings.ARGUMENTS},
        supports_check_mode=True,
    )
    settings = driver_settings.of(module.params["settings"])
    driver_module.run(module, lambda: verify(settings))


if __name__ == "__main__":
    main()
