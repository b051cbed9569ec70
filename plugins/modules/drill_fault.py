#!/usr/bin/python
"""Arms, injects and undoes the fault of a drill on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_fault
short_description: Arm, inject or undo the fault of a drill on a host
description:
  - C(armed) installs the program C(katago-drill), writes the undo of the fault to C(/var/lib/katago-drill)
    and starts a timer. When the time to live is over, the host undoes the fault without the control node,
    also after a reboot. Nothing else is changed.
  - C(armed) is refused while another drill is on the host, if the last undo failed, in security mode, and
    while another run holds the lock of the host. A fault that the host cannot have is refused with the
    reason.
  - C(injected) needs an armed undo of the same drill, fault and parameters. Everything that undoes the fault
    is on disk before it is injected. If the injection fails, it is undone.
  - C(undone) undoes the fault at once, from whatever point an interrupted run left. What a response has
    changed since stays. It is recorded as done only after a check that nothing of the fault is left.
  - C(info) changes nothing.
  - Running it again with the same arguments changes nothing.
options:
  state:
    description: What to do.
    type: str
    choices: [armed, injected, undone, info]
    default: info
  fault:
    description: The fault. Required for C(armed) and C(injected).
    type: str
    default: ""
  drill:
    description:
      - The ID of the drill, 1 to 64 letters, digits or hyphens. Required for C(armed) and C(injected).
      - If C(undone) has one, it undoes only this drill.
    type: str
    default: ""
  ttl:
    description: The time to live in seconds, 30 to 7200. The same for C(armed) and C(injected).
    type: int
    default: 600
  parameters:
    description: The parameters of the fault. Each has a default.
    type: dict
    default: {}
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Arm the undo
  katago.fleet.drill_fault:
    state: armed
    drill: 2026-11-30-1
    fault: engine_slow
    ttl: 300
    parameters: {percent: 5}
"""

RETURN = r"""
active:
  description:
    - "The host's last drill, also after its undo: drill, fault, phase, armed, injected, expires, undone,
      undone_by, problem. Null if there was none."
    - C(undone_by) is C(request), C(expiry), or empty until it is undone.
    - C(problem) is why the last undo failed.
  type: dict
  returned: success
landed:
  description: Whether the fault shows on the host now. Some faults show only a few seconds after C(injected).
  type: bool
  returned: success
seen:
  description: What shows of the fault.
  type: str
  returned: success
"""

import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils.common import endings
from ansible_collections.katago.fleet.plugins.module_utils.drill import inject, undo
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import Host, RefusedError
from ansible_collections.katago.fleet.plugins.module_utils.procedure import drill_state

ARGUMENTS: dict[str, dict[str, Any]] = {
    "state": {"choices": ["armed", "injected", "undone", "info"], "default": "info"},
    "fault": {"type": "str", "default": ""},
    "drill": {"type": "str", "default": ""},
    "ttl": {"type": "int", "default": 600},
    "parameters": {"type": "dict", "default": {}},
    # The action plugin passes the run of the control node, which may hold the lock of the host.
    "run": {"type": "str", "default": ""},
}


def changed(host: Host, parameters: dict[str, Any], *, check: bool) -> bool:
    """Do what `state` says; whether anything was changed."""
    asked = inject.Asked(
        parameters["drill"],
        parameters["fault"],
        parameters["ttl"],
        parameters["parameters"],
        parameters["run"],
    )
    if parameters["state"] == "armed":
        return inject.arm(host, asked, check=check)
    if parameters["state"] == "injected":
        return inject.inject(host, asked, check=check)
    if parameters["state"] == "undone":
        return undone(host, parameters["drill"], check=check)
    return False


def undone(host: Host, drill: str, *, check: bool) -> bool:
    """Undo the drill `drill`, or any if it is empty; whether there was anything to undo."""
    try:
        last = drill_state.load(host.places.directory)
    except drill_state.StateError:
        last = None
    if drill and last is not None and last.drill != drill and not last.is_undone:
        raise RefusedError(f"The drill on this host is {last.drill}, not {drill}.")
    if check:
        return last is not None and not last.is_undone
    return undo.undo(host, "request")


def main() -> None:
    """Do what `state` says, and report the drill and what shows of its fault."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    host, parameters = Host(), module.params
    try:
        is_changed = changed(host, parameters, check=module.check_mode)
        active, seen = inject.info(host)
    except RefusedError as error:
        module.fail_json(msg=f"Refused; nothing was changed on this host. {error}", refused=True)
    except inject.InjectError as error:
        module.fail_json(msg=f"The fault was not injected, and everything was undone: {error}.")
    except (undo.UndoError, drill_state.StateError) as error:
        module.fail_json(msg=f"The fault of the drill is not undone: {error}. Run again.", undone=False)
    except (OSError, subprocess.SubprocessError) as error:
        module.fail_json(msg=f"The drill could not be changed: {endings.of_error(error)}. Run again.")
    module.exit_json(changed=is_changed, active=active, landed=seen.landed, seen=seen.text)


if __name__ == "__main__":
    main()
