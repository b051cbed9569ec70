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

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import endings, redaction
from ansible_collections.katago.fleet.plugins.module_utils.service import host_secrets, journal, unit
from ansible_collections.katago.fleet.plugins.module_utils.service import restart as service_restart

POLL_SECONDS = 0.05
KILL_SECONDS = 10
# Added to the unit's own timeout, after which systemd kills its processes; and the limit without a timeout.
SPARE_SECONDS = 15
PATIENCE_SECONDS = 120


class RestartError(Exception):
    """The unit did not stop or start; the message has its state."""


def stop(group: str, *, force: bool) -> None:
    """Stop the unit and wait until its control group is empty."""
    patience = service_restart.stop_timeout()
    seconds = PATIENCE_SECONDS if patience is None else patience + SPARE_SECONDS
    # Before the kill, so that systemd does not restart the unit.
    systemctl("stop", "--no-block", paths.SERVICE_UNIT)
    if force:
        systemctl("kill", "--kill-who=all", "--signal=KILL", paths.SERVICE_UNIT, check=False)
        seconds = KILL_SECONDS
    end = time.monotonic() + seconds
    while True:
        running = unit.processes(group)
        active = unit.state().active
        if not running and active in ("inactive", "failed"):
            return
        if time.monotonic() > end:
            names = ", ".join(f"{each['name']} ({each['pid']})" for each in running) or "none"
            raise RestartError(f"the unit is {active} after {seconds:g} s; processes still running: {names}")
        if force:
            kill(running)
        time.sleep(POLL_SECONDS)


def restart(group: str, parameters: Mapping[str, Any]) -> None:
    """Stop and start. If the stop takes too long, systemd starts the service as soon as it has stopped."""
    try:
        stop(group, force=parameters["force"])
    except (RestartError, OSError, subprocess.SubprocessError):
        systemctl("start", "--no-block", paths.SERVICE_UNIT, check=False)
        raise
    start(parameters["start_deadline"] or start_deadline())


def kill(processes: list[dict[str, Any]]) -> None:
    """Kill processes that remain in the control group; systemd no longer does once the unit has stopped."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process["pid"], signal.SIGKILL)


def start(seconds: float) -> None:
    """Reset the start counter, start the unit, and wait until it is active."""
    systemctl("reset-failed", paths.SERVICE_UNIT, check=False)
    since = time.time()
    try:
        systemctl("start", paths.SERVICE_UNIT, seconds=seconds)
    except subprocess.TimeoutExpired as expired:
        raise RestartError(f"the unit is still {unit.state().active} after {seconds:g} s") from expired
    except subprocess.CalledProcessError as failed:
        raise RestartError(f"the unit does not start: {start_failure(failed, since)}") from failed


def start_failure(failed: subprocess.CalledProcessError, since: float) -> str:
    """Why the unit did not start, by what it wrote `since` then, and its last log lines."""
    try:
        complaints = journal.complaints(journal.since(since))
    except journal.JournalError:
        complaints = []
    reason = endings.SEPARATOR.join(complaints) or endings.describe(
        redaction.plain(failed.stderr), status=failed.returncode
    )
    lines = unit.journal(since=since)
    return str(host_secrets.redacted(f"{reason}\nIts last log lines:\n{lines or 'none'}"))


def start_deadline() -> float:
    """Seconds to wait for the start: a little longer than the unit's own timeout."""
    patience = service_restart.start_timeout()
    return PATIENCE_SECONDS if patience is None else patience + SPARE_SECONDS


def systemctl(*arguments: str, check: bool = True, seconds: float = 120) -> None:
    """Run systemctl. Raises SubprocessError."""
    subprocess.run(["systemctl", *arguments], check=check, capture_output=True, text=True, timeout=seconds)


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
