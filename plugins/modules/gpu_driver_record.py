#!/usr/bin/python
"""Records what is on a host before its driver changes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_driver_record
short_description: Record what is there before the driver of a host's GPU changes
description:
  - Records packages, holds, files, the loaded module, and whether the service ran, before anything is changed
    or stopped. The record of a run that was interrupted is kept.
  - Refuses what cannot work, with the plan. In check mode nothing is recorded.
extends_documentation_fragment: [katago.fleet.gpu_driver]
options:
  service:
    description: Whether the service runs.
    type: bool
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Record what is there
  katago.fleet.gpu_driver_record:
    settings: {reboot: when_needed}
    service: true
"""

RETURN = r"""
continued:
  description: Whether an earlier run had begun the change.
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
    """The module's result; nothing is recorded unless `write`."""
    host = driver_inspection.inspect(settings)
    planned = driver_plan.plan(settings, host)
    driver_plan.refuse(planned)
    if write:
        driver_change.start(host, planned, service=service)
    return {"continued": host.record.unfinished}


def main() -> None:
    """Record and return."""
    module = AnsibleModule(
        argument_spec={
            "settings": driver_settings.ARGUMENTS,
            "service": {"type": "bool", "required": True},
        },
        supports_check_mode=True,
    )
    settings = driver_settings.of(module.params["settings"])
    driver_module.run(
        module,
        lambda: record(settings, service=module.params["service"], write=not module.check_mode),
    )


if __name__ == "__main__":
    main()
