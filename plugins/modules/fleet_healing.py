#!/usr/bin/python
"""Creates the state of fleet healing on a monitoring host, and pauses or resumes it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_healing
short_description: Create the state of fleet healing, pause it or resume it
description:
  - Fleet healing runs on a monitoring host, which the role C(fleet_healing) sets up.
  - C(paused) and C(resumed) do nothing on a host without it. They work in security mode, and while another
    procedure holds the lock of the host.
  - C(resumed) also ends a stop, which healing makes itself after a failed repair or when its budget is used
    up. The budget is not restored, unless the state was lost. Then nobody knows it, and it starts again.
options:
  state:
    description:
      - C(present) writes a state if the host never had one. A state that was lost is not replaced, because
        the budget would be restored.
    type: str
    choices: [present, paused, resumed]
    default: present
extends_documentation_fragment: [katago.fleet.healing_pause]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Pause fleet healing
  katago.fleet.fleet_healing:
    state: paused
    why: the load balancers are replaced
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
message:
  description: What was changed, or the current state, in sentences.
  type: str
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import fleet_pause, fleet_state, guard
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import state as healing_state

NOT_INSTALLED = "Fleet healing is not set up on this host."
BY_VARIABLE = (
    " It stays paused by the variable fleet_healing_paused: remove it and run playbooks/monitoring.yml."
)


def paused(places: fleet_pause.Places, parameters: dict[str, Any], *, check: bool) -> tuple[bool, str]:
    """Pause; return whether healing was not paused before, and a message."""
    why = healing_state.reason(parameters["why"])
    new = healing_state.Pause(timestamps.now(), parameters["who"], why, parameters["incident"])
    changed = healing_state.write_pause(new, places.pause, check=check)
    now = healing_state.pause(places.pause) or new
    return changed, f"Fleet healing {'would be' if check and changed else 'is'} {now}."


def resumed(places: fleet_pause.Places, *, check: bool) -> tuple[bool, str]:
    """Resume; return whether anything had kept healing from repairs, and a message."""
    # Settings that are damaged refuse this before anything is changed.
    by_variable = BY_VARIABLE if fleet_state.settings(places.settings).paused else ""
    reasons = fleet_pause.resume(places, check=check)
    if not reasons:
        return False, f"Fleet healing was neither paused nor stopped.{by_variable}"
    verb = "would be" if check else "was"
    return True, f"Fleet healing {verb} resumed. Before, it was {'; and '.join(reasons)}.{by_variable}"


def main() -> None:
    """Do what `state` says."""
    module = AnsibleModule(
        argument_spec={
            "state": {"choices": ["present", "paused", "resumed"], "default": "present"},
            "why": {"type": "str", "default": ""},
            "who": {"type": "str", "required": True},
            "incident": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    parameters, check, places = module.params, module.check_mode, fleet_pause.Places()
    try:
        if parameters["state"] == "present":
            changed = fleet_pause.create_state(places, check=check)
            message = "The state was created." if changed else "The state exists."
        elif not places.settings.exists():
            changed, message = False, NOT_INSTALLED
        elif parameters["state"] == "paused":
            changed, message = paused(places, parameters, check=check)
        else:
            changed, message = resumed(places, check=check)
    except (guard.BusyError, healing_state.StateError, ValueError) as error:
        module.fail_json(msg=f"Refused; nothing was changed on this host. {error}", refused=True)
    except OSError as error:
        module.fail_json(msg=f"Fleet healing could not be changed: {error}. Run again.")
    module.exit_json(changed=changed, message=message)


if __name__ == "__main__":
    main()
