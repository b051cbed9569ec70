#!/usr/bin/python
"""Sets the timer on a host that reminds of an incident, or takes it back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: incident_reminders
short_description: Have a host remind of an incident
description:
  - Leaves the alarms of an incident on a host, with a timer that sends what is due every minute, by the
    program C(katago-incident-timekeeper), without the control node and also after a reboot.
  - Without alarms takes those of the incident back; the timer and the sinks' secrets go with the last.
  - A host that cannot be reached is told as a problem and fails nothing.
  - On a host in security mode nothing is set or taken back; that too is told, and what it has done is read.
options:
  clock:
    description: The incident's alarms, as C(katago.fleet.incident) returns them.
    type: dict
    required: true
  sinks:
    description: Groups of sinks; only those that a host can reach are handed over.
    type: raw
    required: true
  records_dir:
    description: Where records are kept on the control node; what the host did is added to the timeline.
    type: path
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The timekeeper knows what is due
  katago.fleet.incident_reminders:
    clock: "{{ incident_outcome.clock }}"
    sinks: "{{ incident_sinks }}"
    records_dir: records
"""

RETURN = r"""
problems:
  description: Why nobody will be reminded.
  type: list
  elements: str
  returned: always
done:
  description: What the host has done for the incident so far.
  type: list
  elements: dict
  returned: when it was reached
"""

import subprocess
from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import endings, files
from ansible_collections.katago.fleet.plugins.module_utils.incident import reminder_timer
from ansible_collections.katago.fleet.plugins.module_utils.procedure import security_mode


def is_current(path: Path, content: str) -> bool:
    """Whether a file has that content."""
    return path.is_file() and path.read_text() == content


def put(path: Path, content: str, mode: int, *, check: bool) -> bool:
    """Write a file that differs; return whether it did."""
    if is_current(path, content):
        return False
    if not check:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        files.write(path, content.encode(), mode=mode)
    return True


def systemctl(*arguments: str, required: bool = True) -> None:
    """Have systemd do something."""
    subprocess.run(["systemctl", *arguments], check=required, capture_output=True, text=True, timeout=60)


def arm(plan: Path, content: str, sinks: str, *, check: bool) -> bool:
    """Leave the alarms and see that the timer runs; return whether anything was changed."""
    changed = put(paths.INCIDENT_CHANNELS, sinks, 0o600, check=check)
    changed |= put(plan, content, 0o600, check=check)
    written = [put(path, text, 0o644, check=check) for path, text in reminder_timer.units().items()]
    if check:
        return changed or any(written)
    if any(written):
        systemctl("daemon-reload")
    systemctl("enable", "--now", paths.REMINDER_TIMER)
    return changed or any(written)


def disarm(plan: Path, *, check: bool) -> bool:
    """Take the alarms back, with the last ones timer and secrets too; return whether there were any."""
    there = plan.exists()
    if check:
        return there
    plan.unlink(missing_ok=True)
    if not list(paths.INCIDENT_STATE.glob("*.json")):
        systemctl("disable", "--now", paths.REMINDER_TIMER, required=False)
        for path in (*reminder_timer.units(), paths.INCIDENT_CHANNELS):
            there |= path.exists()
            path.unlink(missing_ok=True)
        systemctl("daemon-reload")
    return there


def is_set(plan: Path, content: str) -> bool:
    """Whether the alarms of an incident are as they should be; without content, whether there are none."""
    return is_current(plan, content) if content else not plan.exists()


def main() -> None:
    """Set or take back, and tell what was done until now."""
    module = AnsibleModule(
        argument_spec={
            "incident": {"type": "str", "required": True},
            "plan": {"type": "str", "default": ""},
            # As one text: parts of it would be taken out of every answer.
            "sinks": {"type": "str", "default": "[]", "no_log": True},
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
            changed = arm(plan, module.params["plan"], module.params["sinks"], check=module.check_mode)
        else:
            changed = disarm(plan, check=module.check_mode)
    except subprocess.CalledProcessError as error:
        module.fail_json(msg=f"systemd refuses the timer: {endings.of_error(error)}")
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=f"The reminders cannot be set: {error}")
    module.exit_json(changed=changed, done=done)


if __name__ == "__main__":
    main()
