#!/usr/bin/python
"""Has systemd start, stop or enable the service, and says nothing of what the unit was given."""

from __future__ import annotations

DOCUMENTATION = r"""
module: unit
short_description: Restart, stop or enable the service
description:
  - Does what C(ansible.builtin.systemd_service) does, for the service alone. That module answers with all
    properties of the unit, the secrets in its environment among them, which verbose runs print.
  - In check mode nothing is done.
options:
  state:
    description: Whether the service is started anew, or stopped.
    type: str
    choices: [restarted, stopped]
  enabled:
    description: Whether it is made to start with the host; it is never kept from that.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The service starts with the host
  katago.fleet.unit:
    enabled: true
"""

RETURN = r"""
"""

import subprocess

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import redaction, service

_LONGEST_WORDS = 1000


class UnitError(Exception):
    """systemd did not do it; the message is its own."""


def main() -> None:
    """Do what is asked for."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["restarted", "stopped"]},
            "enabled": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    verbs = wanted(module.params["state"], enabled=module.params["enabled"])
    try:
        for verb in () if module.check_mode else verbs:
            order(verb)
    except UnitError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(verbs))


def wanted(state: str | None, *, enabled: bool) -> list[str]:
    """What systemd is to be told: nothing where it is so already, but for a restart."""
    verbs = []
    if enabled and not holds("is-enabled"):
        verbs.append("enable")
    is_stopped = state == "stopped" and service.state().active in ("inactive", "failed")
    if state and not is_stopped:
        verbs.append({"restarted": "restart", "stopped": "stop"}[state])
    return verbs


def holds(question: str) -> bool:
    """Whether systemd says yes."""
    return subprocess.run(["systemctl", question, "--quiet", service.UNIT], check=False).returncode == 0


def order(verb: str) -> None:
    """Have systemd do it, for as long as it takes."""
    done = subprocess.run(
        ["systemctl", verb, service.UNIT], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        words = redaction.last_lines(redaction.plain(done.stderr), _LONGEST_WORDS)
        raise UnitError(f"Unable to {verb} {service.UNIT}: {words or f'status {done.returncode}'}")


if __name__ == "__main__":
    main()
