#!/usr/bin/python
"""Plans the change of a host's GPU driver; changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_driver_plan
short_description: Plan the change of a host's GPU driver
description:
  - Inspects the PCI bus, the kernel and the packages, and returns the planned changes. Fails with the plan
    and all problems if the driver cannot work.
  - Changes nothing, except that it updates APT's package lists if the plan depends on them. In check mode it
    does not update them.
extends_documentation_fragment: [katago.fleet.gpu_driver]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Plan the GPU driver
  katago.fleet.gpu_driver_plan:
    settings: {reboot: when_needed}
  register: planned
"""

RETURN = r"""
plan:
  description:
    - "The plan: vendor, devices, target, kernel, driver_in_use, loaded, installed, packages, because, reboot,
      problems, acts, stops_service, and C(text), its lines for the operator."
  type: dict
  returned: always
service:
  description: Whether the service was running before an interrupted change; null without one.
  type: bool
  returned: always
reboot:
  description: Why a reboot is needed; empty if it is not.
  type: str
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils.common import apt
from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    apt_sources,
    driver_host,
    driver_inspection,
    driver_module,
    driver_plan,
    driver_record,
    driver_settings,
    driver_versions,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_host import Host
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import LATEST, Settings


def refresh(settings: Settings, host: Host) -> bool:
    """Update APT's package lists if the plan depends on them; return whether they were updated."""
    decides = settings.version == LATEST or driver_versions.lacks_version(settings, host)
    if driver_host.vendor_of(settings, host.devices) != "nvidia" or not decides:
        return False
    with apt_sources.readable_sources() as (_, options):
        apt.get("update", *options, archives=driver_record.ARCHIVES)
    return True


def plan(settings: Settings, *, update: bool) -> dict[str, Any]:
    """The module's result. `update`: update APT's package lists if the plan depends on them."""
    host = driver_inspection.inspect(settings)
    if update and refresh(settings, host):
        host = driver_inspection.inspect(settings)
    planned = driver_plan.plan(settings, host)
    driver_plan.refuse(planned)
    interrupted = host.record.unfinished
    return {
        "plan": planned.as_dict(),
        "reboot": planned.reboot,
        "service": host.record.service if interrupted else None,
    }


def main() -> None:
    """Plan the change and return the result."""
    module = AnsibleModule(
        argument_spec={"settings": driver_settings.ARGUMENTS},
        supports_check_mode=True,
    )
    settings = driver_settings.from_options(module.params["settings"])
    driver_module.run(module, lambda: plan(settings, update=not module.check_mode))


if __name__ == "__main__":
    main()
