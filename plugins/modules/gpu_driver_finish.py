#!/usr/bin/python
"""Finishes a change of a host's GPU driver."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_driver_finish
short_description: Finish a change of a host's GPU driver
description:
  - Marks the change as finished. Removes all kept package archives except those of the installed driver and
    of the previous one.
  - Does nothing in check mode.
options: {}
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Finish the change
  katago.fleet.gpu_driver_finish:
"""

RETURN = r"""
{}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils.gpu import driver_module, driver_restore


def main() -> None:
    """Finish the change and return the result."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    driver_module.run(module, lambda: {"changed": not module.check_mode and driver_restore.finish()})


if __name__ == "__main__":
    main()
