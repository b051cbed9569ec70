#!/usr/bin/python
"""Installs, removes, pauses or resumes the automatic repairs of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: self_healing
short_description: Install, remove, pause or resume the automatic repairs of a host
description:
  - Installs the systemd units that start the program C(katago-self-healing) when the service has failed, and
    once a minute. Install the program first with C(katago.fleet.host_program).
  - The program needs neither the control node nor the network.
  - C(paused) and C(resumed) do nothing on a host without self-healing. They work in security mode, and
    while another procedure holds the lock of the host.
  - C(resumed) also ends a stop, which self-healing makes itself after a failed repair or when its budget is
    used up. The budget is not restored, unless the state was lost. Then nobody knows it, and it starts again.
options:
  state:
    description:
      - C(absent) keeps the state, the log and the evidence in C(/var/lib/katago-self-healing).
    type: str
    choices: [present, absent, paused, resumed]
    default: present
  dry_run:
    description: Whether the program only reports what it would do. For C(present).
    type: bool
    default: false
  paused:
    description: Whether the program does nothing until this is C(false) again. For C(present).
    type: bool
    default: false
extends_documentation_fragment: [katago.fleet.healing_pause]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Pause repairs
  katago.fleet.self_healing:
    state: paused
    why: a disk is being replaced
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
message:
  description: What was changed, or the current state, in sentences.
  type: str
  returned: success
events:
  description: The newest events of the host's own repairs, with the keys of the log of repairs.
  type: list
  elements: dict
  returned: success
"""

import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import endings
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import guard, install, log
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import state as healing_state

NOT_INSTALLED = "Self-healing is not installed on this host."
BY_VARIABLE = (
    " It stays paused by the variable self_healing_paused: remove it and run playbooks/self_healing.yml."
)


def present(parameters: dict[str, Any], *, check: bool) -> tuple[bool, str]:
    """Install; return whether anything changed, and a message."""
    settings = healing_state.Settings(parameters["dry_run"], parameters["paused"])
    changed = install.install(settings, check=check)
    mode = "in a dry run" if settings.dry_run else "paused" if settings.paused else "active"
    return changed, f"Self-healing {'would be' if check and changed else 'is'} installed and {mode}."


def absent(*, check: bool) -> tuple[bool, str]:
    """Remove; return whether there was anything, and a message."""
    changed = install.remove(check=check)
    if not changed:
        return False, NOT_INSTALLED
    verb = "would be" if check else "was"
    return True, f"Self-healing {verb} removed; its records stay in {paths.SELF_HEALING_DIRECTORY}."


def paused(parameters: dict[str, Any], *, check: bool) -> tuple[bool, str]:
    """Pause; return whether repairs were not paused before, and a message."""
    why = healing_state.reason(parameters["why"])
    new = healing_state.Pause(timestamps.now(), parameters["who"], why, parameters["incident"])
    changed = install.pause(new, check=check)
    now = healing_state.pause(paths.SELF_HEALING_PAUSE) or new
    running = _running_repair()
    return changed, f"Self-healing {'would be' if check and changed else 'is'} {now}.{running}"


def resumed(*, check: bool) -> tuple[bool, str]:
    """Resume; return whether anything had kept the host from repairs, and a message."""
    # Settings that are damaged refuse this before anything is changed.
    by_variable = BY_VARIABLE if healing_state.settings(paths.SELF_HEALING_SETTINGS).paused else ""
    reasons = install.resume(check=check)
    if not reasons:
        return False, f"Self-healing was neither paused nor stopped.{by_variable}"
    verb = "would be" if check else "was"
    return True, f"Self-healing {verb} resumed. Before, it was {'; and '.join(reasons)}.{by_variable}"


def _running_repair() -> str:
    try:
        state = healing_state.load(paths.SELF_HEALING_STATE)
    except healing_state.StateError:
        return ""
    return f" A repair is still running: {state.why}." if state.status == "repairing" else ""


def main() -> None:
    """Do what `state` says."""
    module = AnsibleModule(
        argument_spec={
            "state": {"choices": ["present", "absent", "paused", "resumed"], "default": "present"},
            "dry_run": {"type": "bool", "default": False},
            "paused": {"type": "bool", "default": False},
            "why": {"type": "str", "default": ""},
            "who": {"type": "str", "required": True},
            "incident": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    parameters, state, check = module.params, module.params["state"], module.check_mode
    try:
        if state == "present":
            changed, message = present(parameters, check=check)
        elif state == "absent":
            changed, message = absent(check=check)
        elif not install.is_installed():
            changed, message = False, NOT_INSTALLED
        elif state == "paused":
            changed, message = paused(parameters, check=check)
        else:
            changed, message = resumed(check=check)
    except (guard.BusyError, healing_state.StateError, ValueError) as error:
        module.fail_json(msg=f"Refused; nothing was changed on this host. {error}", refused=True)
    except (OSError, subprocess.SubprocessError) as error:
        module.fail_json(msg=f"Self-healing could not be changed: {endings.of_error(error)}. Run again.")
    module.exit_json(changed=changed, message=message, events=log.fetch(paths.SELF_HEALING_LOG))


if __name__ == "__main__":
    main()
