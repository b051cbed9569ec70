#!/usr/bin/python
"""Restarts or stops the service, and verifies that no process of it keeps running."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_restart
short_description: Restart or stop the service, and leave no process of it running
description:
  - Stops the unit, waits until its control group has no process, resets the unit's start counter, and starts
    the unit.
  - With C(force), kills the control group first. Processes are found by the control group, never by their
    names.
  - Fails if the stop takes too long, and lists the processes that still run. With C(started), the service
    then starts as soon as these processes have exited.
  - Does not check first whether the service would start again. C(service_start_check) does, and procedures
    run it before this module.
options:
  force:
    description: Kill the control group instead of waiting until the service stops.
    type: bool
    default: false
  state:
    description: C(started) restarts the service, C(stopped) only stops it.
    type: str
    choices: [started, stopped]
    default: started
  start_deadline:
    description:
      - Seconds that the unit may take to start. The engine may take longer to become ready.
      - By default a little longer than the unit's own start timeout.
    type: int
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Restart the service by force
  katago.fleet.service_restart:
    force: true
"""

RETURN = r"""
before:
  description: The processes of the control group before the module ran; pid and name.
  type: list
  elements: dict
  returned: always
"""

import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.service import control, unit
from ansible_collections.katago.fleet.plugins.module_utils.service import restart as service_restart


def main() -> None:
    """Check, stop, and start unless only a stop was requested."""
    module = AnsibleModule(
        argument_spec={
            "force": {"type": "bool", "default": False},
            "state": {"choices": ["started", "stopped"], "default": "started"},
            "start_deadline": {"type": "int"},
        },
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = module.params
    stopping = parameters["state"] == "stopped"
    if not stopping and not paths.SERVICE_UNIT_FILE.exists():
        module.fail_json(
            msg=(
                "Refused; nothing was changed on this host. The service is not installed:"
                f" {paths.SERVICE_UNIT_FILE} is missing or a broken symlink."
                " Install it with playbooks/deploy.yml."
            ),
            refused=True,
        )
    group = unit.control_group()
    before = unit.processes(group)
    if module.check_mode or (stopping and not before and unit.state().active == "inactive"):
        module.exit_json(changed=not stopping or bool(before), before=before)
    try:
        service_restart.prepare()
        if not stopping and (problem := service_restart.load_problem()):
            module.fail_json(
                msg=f"Refused; the service was not stopped. {problem}. Repair the unit, then run again.",
                refused=True,
                before=before,
            )
        if stopping:
            control.stop(group, force=parameters["force"])
        else:
            control.restart(group, force=parameters["force"], start_seconds=parameters["start_deadline"])
    except (control.RestartError, OSError, subprocess.SubprocessError) as error:
        module.fail_json(
            msg=f"The service was not {'stopped' if stopping else 'restarted'}: {error}", before=before
        )
    module.exit_json(changed=True, before=before)


if __name__ == "__main__":
    main()
