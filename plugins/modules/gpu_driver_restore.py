#!/usr/bin/python
"""Restores the previous GPU driver of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_driver_restore
short_description: Restore the previous GPU driver of a host
description:
  - Restores the packages, holds and files that M(katago.fleet.gpu_driver_record) recorded, and loads the
    kernel module that was loaded. Keeps changes that others made since.
  - Does nothing if no change is unfinished, and in check mode.
options: {}
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Restore the previous driver
  katago.fleet.gpu_driver_restore:
"""

RETURN = r"""
undone:
  description: >-
    C(removed) has the removed packages, C(installed) the packages restored to their previous version, and
    C(lacking) the packages whose previous version no archive has.
  type: dict
  returned: always
reboot:
  description: Why a reboot is needed; empty if it is not.
  type: str
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    driver_module,
    driver_record,
    driver_restore,
)


def restore() -> dict[str, Any]:
    """Restore the driver; return the module's result."""
    before = driver_record.read()
    undone = driver_restore.restore()
    return {
        "changed": bool(undone["removed"] or undone["installed"]),
        "undone": undone,
        "reboot": driver_restore.reload(before.loaded, before.loaded_kind) if before.unfinished else "",
    }


def main() -> None:
    """Restore the previous driver and return the result."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    nothing = {"undone": driver_restore.NOTHING_RESTORED, "reboot": ""}
    driver_module.run(module, lambda: nothing if module.check_mode else restore())


if __name__ == "__main__":
    main()
