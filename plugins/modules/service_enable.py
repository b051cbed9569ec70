#!/usr/bin/python
"""Has systemd start the service with the host, and says nothing of what the unit was given."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_enable
short_description: Have the service start with the host
description:
  - Does what C(ansible.builtin.systemd_service) does with C(enabled), for the service alone. That module
    answers with all properties of the unit, the secrets in its environment among them, which verbose runs
    print.
options: {}
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The service starts with the host
  katago.fleet.service_enable:
"""

RETURN = r"""
"""

import subprocess

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import endings, redaction


def main() -> None:
    """Enable the unit unless it is."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    is_enabled = systemctl("is-enabled", "--quiet").returncode == 0
    if is_enabled or module.check_mode:
        module.exit_json(changed=not is_enabled)
    done = systemctl("enable")
    if done.returncode != 0:
        said = endings.said(redaction.plain(done.stderr), status=done.returncode)
        module.fail_json(msg=f"{paths.SERVICE_UNIT} was not enabled: {said}")
    module.exit_json(changed=True)


def systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What systemd says to an order for the unit."""
    return subprocess.run(
        ["systemctl", *arguments, paths.SERVICE_UNIT],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


if __name__ == "__main__":
    main()
