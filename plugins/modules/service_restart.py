#!/usr/bin/python
"""Restarts the service, and makes sure that nothing of it was left running in between."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_restart
short_description: Restart the service, or only stop it, leaving no process of it behind
description:
  - Stops the unit and waits until nothing of its control group runs, forgets earlier failures, which
    count towards the limit of starts, and starts it.
  - With C(force) the control group is killed first. Processes are found by the control group, never by
    their names.
  - A stop that takes too long fails and says who still runs; a service that was to be restarted starts when
    they have ended.
  - Refuses to restart without C(force) where the disk is full or read-only, since the engine would not
    start again, unless another procedure has tried that.
options:
  force:
    description: Kill the control group instead of waiting for an orderly end.
    type: bool
    default: false
  state:
    description: Whether the service runs afterwards.
    type: str
    choices: [started, stopped]
    default: started
  disk_was_tried:
    description: Whether the disk was tried before something was changed that calls for the restart.
    type: bool
    default: false
  start_deadline:
    description:
      - Seconds that the unit may take to start; the engine may take longer to be ready.
      - What the unit itself says, and some more, when it is not given.
    type: int
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The service runs anew
  katago.fleet.service_restart:
    force: true
"""

RETURN = r"""
before:
  description: The processes of the control group that were there before; pid and name.
  type: list
  elements: dict
  returned: always
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import disk, endings, redaction
from ansible_collections.katago.fleet.plugins.module_utils.service import host_secrets, unit
from ansible_collections.katago.fleet.plugins.module_utils.service import restart as service_restart

POLL_SECONDS = 0.05
KILL_SECONDS = 10
# Over what systemd gives the unit, whose processes it kills then; and where it would wait for ever.
SPARE_SECONDS = 15
PATIENCE_SECONDS = 120


class RestartError(Exception):
    """The unit did not do what it was told; the message says what was seen."""


def stop(group: str, *, force: bool) -> None:
    """Stop the unit and wait until its control group is empty."""
    patience = service_restart.stop_timeout()
    seconds = PATIENCE_SECONDS if patience is None else patience + SPARE_SECONDS
    # First, so that systemd does not start it again when its processes are killed.
    systemctl("stop", "--no-block", paths.SERVICE_UNIT)
    if force:
        systemctl("kill", "--kill-who=all", "--signal=KILL", paths.SERVICE_UNIT, check=False)
        seconds = KILL_SECONDS
    end = time.monotonic() + seconds
    while True:
        left = unit.processes(group)
        active = unit.state().active
        if not left and active in ("inactive", "failed"):
            return
        if time.monotonic() > end:
            words = ", ".join(f"{each['name']} ({each['pid']})" for each in left) or "no process"
            raise RestartError(f"the unit is {active} after {seconds:g} s, and still runs: {words}")
        if force:
            kill(left)
        time.sleep(POLL_SECONDS)


def restart(group: str, parameters: Mapping[str, Any]) -> None:
    """Stop and start; a service that does not stop in time is to start when it has ended."""
    try:
        stop(group, force=parameters["force"])
    except (RestartError, OSError, subprocess.SubprocessError):
        systemctl("start", "--no-block", paths.SERVICE_UNIT, check=False)
        raise
    start(parameters["start_deadline"] or start_deadline())


def kill(processes: list[dict[str, Any]]) -> None:
    """Kill what is left of a control group: systemd forgets a group when its unit has ended."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process["pid"], signal.SIGKILL)


def start(seconds: float) -> None:
    """Start the unit, with earlier starts forgotten, and wait until systemd calls it active."""
    systemctl("reset-failed", paths.SERVICE_UNIT, check=False)
    try:
        systemctl("start", paths.SERVICE_UNIT, seconds=seconds)
    except subprocess.TimeoutExpired as expired:
        raise RestartError(f"the unit is {unit.state().active} after {seconds:g} s of starting") from expired
    except subprocess.CalledProcessError as failed:
        words = host_secrets.shown(unit.journal())
        said = endings.said(redaction.plain(failed.stderr), status=failed.returncode)
        raise RestartError(
            f"the unit does not start: {said}\nIts last log lines:\n{words or 'none'}"
        ) from failed


def start_deadline() -> float:
    """Seconds that systemd gives the unit to start, and some more."""
    patience = service_restart.start_timeout()
    return PATIENCE_SECONDS if patience is None else patience + SPARE_SECONDS


def systemctl(*arguments: str, check: bool = True, seconds: float = 120) -> None:
    """Have systemd do something."""
    subprocess.run(["systemctl", *arguments], check=check, capture_output=True, text=True, timeout=seconds)


def main() -> None:
    """Stop, and start."""
    module = AnsibleModule(
        argument_spec={
            "force": {"type": "bool", "default": False},
            "state": {"choices": ["started", "stopped"], "default": "started"},
            "disk_was_tried": {"type": "bool", "default": False},
            "start_deadline": {"type": "int"},
        },
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = module.params
    stopping = parameters["state"] == "stopped"
    if not stopping and not paths.SERVICE_UNIT_FILE.exists():
        module.fail_json(
            msg=(
                f"Refused; nothing was changed on this host. There is no service:"
                f" {paths.SERVICE_UNIT_FILE} is"
                " missing or leads nowhere. playbooks/deploy.yml installs it."
            ),
            refused=True,
        )
    is_tried = stopping or parameters["force"] or parameters["disk_was_tried"]
    problems = [] if is_tried else list(disk.obstacles())
    if problems:
        module.fail_json(
            msg=(
                f"Refused; nothing was changed on this host. {'; '.join(problems)}: a restarted engine would"
                " not come up again. Mend the disk first, or restart all the same: -e force=true"
            ),
            refused=True,
        )
    group = unit.control_group()
    before = unit.processes(group)
    if module.check_mode or (stopping and not before and unit.state().active == "inactive"):
        module.exit_json(changed=not stopping or bool(before), before=before)
    try:
        service_restart.prepare()
        if stopping:
            stop(group, force=parameters["force"])
        else:
            restart(group, parameters)
    except (RestartError, OSError, subprocess.SubprocessError) as error:
        module.fail_json(
            msg=f"The service was not {'stopped' if stopping else 'restarted'}: {error}", before=before
        )
    module.exit_json(changed=True, before=before)


if __name__ == "__main__":
    main()
