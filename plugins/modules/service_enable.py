#!/usr/bin/python
"""Enables the service at boot, without showing the unit's environment."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_enable
short_description: Enable the service at boot
description:
  - Does the same as C(ansible.builtin.systemd_service) with C(enabled), for the service alone. That module
    returns all properties of the unit, including secrets in its environment, and verbose runs print them.
options: {}
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Enable the service at boot
  katago.fleet.service_enable:
"""

RETURN = r"""
"""

import subprocess

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import endings, redaction
from ansible_collections.katago.fleet.plugins.module_utils.service import unit


def main() -> None:
    """Enable the unit if it is not enabled."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    is_enabled = unit.is_enabled()
    if is_enabled or module.check_mode:
        module.exit_json(changed=not is_enabled)
    done = systemctl("enable")
    if done.returncode != 0:
        reason = endings.describe(redaction.plain(done.stderr), status=done.returncode)
        module.fail_json(msg=f"{paths.SERVICE_UNIT} was not enabled: {reason}")
    module.exit_json(changed=True)


def systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemctl for the unit, and return its result."""
    return subprocess.run(
        ["systemctl", *arguments, paths.SERVICE_UNIT],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


if __name__ == "__main__":
    main()
