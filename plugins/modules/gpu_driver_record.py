#!/usr/bin/python
"""Records the state of a host before its GPU driver changes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_driver_record
short_description: Record the state of a host before its GPU driver changes
description:
  - Records packages, holds, files, the loaded kernel module, and whether the service is running. Run it
    before anything is changed or stopped. Keeps the record of an interrupted run.
  - Fails with the plan and all problems if the driver cannot work. Records nothing in check mode.
extends_documentation_fragment: [katago.fleet.gpu_driver]
options:
  service:
    description: Whether the service is running.
    type: bool
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Record the host's state
  katago.fleet.gpu_driver_record:
    settings: {reboot: when_needed}
    service: true
"""

RETURN = r"""
continued:
  description: Whether an interrupted run started the change.
  type: bool
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    driver_change,
    driver_inspection,
    driver_module,
    driver_plan,
    driver_settings,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import Settings


def record(settings: Settings, *, service: bool, write: bool) -> dict[str, bool]:
    """The module's result. Writes the record only if `write` is true."""
    host = driver_inspection.inspect(settings)
    planned = driver_plan.plan(settings, host)
    driver_plan.refuse(planned)
    if write:
        driver_change.start(host, planned, service=service)
    return {"continued": host.record.unfinished}


def main() -> None:
    """Record the state and return the result."""
    module = AnsibleModule(
        argument_spec={
            "settings": driver_settings.ARGUMENTS,
            "service": {"type": "bool", "required": True},
        },
        supports_check_mode=True,
    )
    settings = driver_settings.from_options(module.params["settings"])
    driver_module.run(
        module,
        lambda: record(settings, service=module.params["service"], write=not module.check_mode),
    )


if __name__ == "__main__":
    main()
