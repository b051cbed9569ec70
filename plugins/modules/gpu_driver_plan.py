#!/usr/bin/python
"""Plans the driver of a host's GPU; changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_driver_plan
short_description: Plan the driver of a host's GPU
description:
  - Looks at the PCI bus, the kernel and the packages, and says what would be done. It changes nothing but
    APT's lists, which it has read again where they decide, and refuses what cannot work, with the plan.
extends_documentation_fragment: [katago.fleet.gpu_driver]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Plan the driver of the host's GPU
  katago.fleet.gpu_driver_plan:
    settings: {reboot: when_needed}
  register: planned
"""

RETURN = r"""
plan:
  description:
    - "The plan: vendor, devices, target, kernel, driver_in_use, loaded, installed, packages, because, reboot,
      problems, acts, stops_service, and C(text) for operators."
  type: dict
  returned: always
service:
  description: Whether the service ran before a change that was interrupted; null when none was.
  type: bool
  returned: always
reboot:
  description: Why a reboot is needed; empty when it is not.
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
    """Have APT read its archives again where what they have decides; whether it did."""
    decides = settings.version == LATEST or driver_versions.lacks_version(settings, host)
    if driver_host.vendor_of(settings, host.devices) != "nvidia" or not decides:
        return False
    with apt_sources.readable_sources() as (_, options):
        apt.get("update", *options, archives=driver_record.ARCHIVES)
    return True


def plan(settings: Settings, *, update: bool) -> dict[str, Any]:
    """The module's result; with `update` APT reads its archives again where they decide."""
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
    """Plan and return."""
    module = AnsibleModule(
        argument_spec={"settings": driver_settings.ARGUMENTS},
        supports_check_mode=True,
    )
    settings = driver_settings.of(module.params["settings"])
    driver_module.run(module, lambda: plan(settings, update=not module.check_mode))


if __name__ == "__main__":
    main()
