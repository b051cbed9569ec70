#!/usr/bin/python
"""Sets or removes an incident's reminders on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: incident_reminders
short_description: Set an incident's reminders on a host
description:
  - Writes the alarms of an incident to the reminder host. A systemd timer there runs the program
    C(katago-incident-timekeeper) every minute, which sends the alarms that are due. It does not need the
    control node and survives a reboot.
  - Without alarms, removes those of the incident. With the last incident, also removes the timer and the
    channels' secrets.
  - If the host cannot be reached, the module does not fail; it returns the reason in C(problems).
  - On a host in security mode nothing is changed. The module reports that and still reads the host's events.
options:
  clock:
    description: The incident's alarms, as C(katago.fleet.incident) returns them.
    type: dict
    required: true
  channels:
    description: Groups of channels. Only channels that a host can reach are passed to it.
    type: raw
    required: true
  records_dir:
    description: The records directory on the control node. The host's events are added to the timeline there.
    type: path
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Set the reminders
  katago.fleet.incident_reminders:
    clock: "{{ incident_outcome.clock }}"
    channels: "{{ incident_channels }}"
    records_dir: records
"""

RETURN = r"""
problems:
  description: Why nobody will be reminded.
  type: list
  elements: str
  returned: always
done:
  description: The events of the reminder timer for the incident so far.
  type: list
  elements: dict
  returned: when the host was reached
"""

import subprocess
from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    directories,
    endings,
    files,
    unit_state,
)
from ansible_collections.katago.fleet.plugins.module_utils.incident import reminder_timer
from ansible_collections.katago.fleet.plugins.module_utils.procedure import security_mode


def is_current(path: Path, content: str) -> bool:
    """Whether a file has the content."""
    return path.is_file() and path.read_text() == content


def put(path: Path, content: str, mode: int, *, check: bool) -> bool:
    """Write a file unless it already has the content; return whether it was changed."""
    if is_current(path, content):
        return False
    if not check:
        files.write(path, content.encode(), mode=mode)
    return True


def systemctl(*arguments: str, required: bool = True) -> None:
    """Run systemctl. Raises CalledProcessError on failure if `required`."""
    subprocess.run(["systemctl", *arguments], check=required, capture_output=True, text=True, timeout=60)


def arm(plan: Path, content: str, channels: str, *, check: bool) -> bool:
    """Write the alarms and start the timer; return whether anything changed."""
    changed = False
    for directory in {paths.INCIDENT_CHANNELS.parent, plan.parent}:
        changed |= directories.make(directory, own=directory, mode=directories.PRIVATE, check=check)
    changed |= put(paths.INCIDENT_CHANNELS, channels, 0o600, check=check)
    changed |= put(plan, content, 0o600, check=check)
    written = [put(path, text, 0o644, check=check) for path, text in reminder_timer.units().items()]
    # A run may have been killed after it had written the units.
    pending = any(written) or not unit_state.is_timer_current(paths.REMINDER_TIMER, paths.REMINDER_UNIT)
    if pending and not check:
        systemctl("daemon-reload")
        systemctl("enable", "--now", paths.REMINDER_TIMER)
    return changed or pending


def disarm(plan: Path, *, check: bool) -> bool:
    """Remove the alarms and, with the last ones, the timer and the secrets; return whether there were any."""
    existed = plan.exists()
    if check:
        return existed
    plan.unlink(missing_ok=True)
    if not list(paths.INCIDENT_STATE.glob("*.json")):
        systemctl("disable", "--now", paths.REMINDER_TIMER, required=False)
        for path in (*reminder_timer.units(), paths.INCIDENT_CHANNELS):
            existed |= path.exists()
            path.unlink(missing_ok=True)
        systemctl("daemon-reload")
    return existed


def is_set(plan: Path, content: str) -> bool:
    """Whether the alarms of an incident are up to date; without content, whether there are none."""
    return is_current(plan, content) if content else not plan.exists()


def main() -> None:
    """Set or remove the reminders, and return the host's events."""
    module = AnsibleModule(
        argument_spec={
            "incident": {"type": "str", "required": True},
            "plan": {"type": "str", "default": ""},
            # One JSON text: Ansible would remove each value of a nested no_log option from every answer.
            "channels": {"type": "str", "default": "[]", "no_log": True},
        },
        supports_check_mode=True,
    )
    plan = paths.INCIDENT_STATE / f"{module.params['incident']}.json"
    try:
        done = reminder_timer.read(plan.with_suffix(".jsonl"))
        mode = security_mode.standing(*paths.SECURITY_MODE)
        if mode and not is_set(plan, module.params["plan"]):
            module.exit_json(changed=False, done=done, security_mode=asdict(mode))
        if mode:
            module.exit_json(changed=False, done=done)
        if module.params["plan"]:
            changed = arm(plan, module.params["plan"], module.params["channels"], check=module.check_mode)
        else:
            changed = disarm(plan, check=module.check_mode)
    except subprocess.CalledProcessError as error:
        module.fail_json(msg=f"systemctl failed for the reminder timer: {endings.of_error(error)}")
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=f"The reminders could not be set: {error}")
    module.exit_json(changed=changed, done=done)


if __name__ == "__main__":
    main()
