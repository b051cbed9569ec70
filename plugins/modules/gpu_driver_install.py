#!/usr/bin/python
"""Installs a host's GPU driver."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_driver_install
short_description: Install a host's GPU driver
description:
  - Adds the missing package sources and simulates the change with APT. Installs, pins and holds the packages
    and disables nouveau. Verifies that the kernel module is built for the kernel that will boot.
  - Needs the record of M(katago.fleet.gpu_driver_record). Continues an interrupted run.
  - In check mode, changes nothing and returns the plan.
extends_documentation_fragment: [katago.fleet.gpu_driver]
options:
  continued:
    description:
      - Whether an interrupted run started the change. Use the value that M(katago.fleet.gpu_driver_record)
        returns.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Install the driver
  katago.fleet.gpu_driver_install:
    settings: {reboot: when_needed}
"""

RETURN = r"""
plan:
  description:
    - "The plan: vendor, devices, target, kernel, driver_in_use, loaded, installed, packages, because, reboot,
      problems, acts, stops_service, and C(text), its lines for the operator."
  type: dict
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    driver_change,
    driver_inspection,
    driver_module,
    driver_plan,
    driver_settings,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import Settings


def install(settings: Settings, *, continued: bool) -> dict[str, Any]:
    """Install the driver; return the module's result."""
    return {"changed": True, "plan": driver_change.install(settings, continued=continued).as_dict()}


def simulate(settings: Settings) -> dict[str, Any]:
    """Plan only; return the module's result in check mode."""
    planned = driver_plan.plan(settings, driver_inspection.inspect(settings))
    driver_plan.refuse(planned)
    return {"changed": planned.acts, "plan": planned.as_dict()}


def main() -> None:
    """Install the driver and return the result."""
    module = AnsibleModule(
        argument_spec={
            "settings": driver_settings.ARGUMENTS,
            "continued": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    settings = driver_settings.from_options(module.params["settings"])
    driver_module.run(
        module,
        lambda: (
            simulate(settings)
            if module.check_mode
            else install(settings, continued=module.params["continued"])
        ),
    )


if __name__ == "__main__":
    main()
