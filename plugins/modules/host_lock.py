#!/usr/bin/python
"""Takes and gives back the lock of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_lock
short_description: Take or give back the lock of a host
description:
  - One procedure at a time works on a host. The lock, C(/run/katago-mcp.lock), says who holds it, for
    which procedure and since when.
  - Refuses, by name and with its age, when another run holds the lock. It is broken by name only.
  - The same person repeating the same procedure from the same control node takes the lock over from
    a run that is dead there, and is told so.
  - On a host in security mode, none but the procedures that leave evidence alone takes it; all others
    are refused with since when, by whom and why that is, and what ends it.
  - In check mode the lock is only looked at.
options:
  state:
    description: What to do.
    type: str
    choices: [held, released]
    required: true
  procedure:
    description: The procedure that it is taken for.
    type: str
    required: true
  who:
    description: Who runs the procedure.
    type: str
    required: true
  break_lock:
    description: Whose lock is to be broken.
    type: str
    default: ""
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The host is locked
  katago.fleet.host_lock:
    state: held
    procedure: restart
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
holder:
  description: Who holds the lock; owner, procedure, run, since. Null when nobody does.
  type: dict
  returned: always
next_step:
  description: The command that shows the security mode of the host.
  type: str
  returned: when it is refused for that mode
untested_system:
  description: What every report says of a host whose system was not tested; empty for one that was.
  type: str
  returned: when the lock is held
taken_over:
  description: From whom the lock was taken; owner, procedure, run, since.
  type: dict
  returned: when it was
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import os_release
from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock, security_mode


def main() -> None:
    """Take, release, or only look."""
    module = AnsibleModule(
        argument_spec={
            "state": {"choices": ["held", "released"], "required": True},
            "procedure": {"type": "str", "required": True},
            "owner": {"type": "str", "required": True},
            "run": {"type": "str", "required": True},
            "instead_of": {"type": "dict"},
            "going_on": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    if parameters["state"] == "released":
        try:
            released = not module.check_mode and host_lock.release(parameters["run"], paths.HOST_LOCK)
        except OSError as error:
            module.fail_json(
                msg=f"The lock {paths.HOST_LOCK} is not given back: {error}. Once that is mended, remove it."
            )
        module.exit_json(changed=False, released=released, holder=None)
    mode = security_mode.standing(*paths.SECURITY_MODE)
    if mode and parameters["procedure"] not in security_mode.ALLOWED:
        module.exit_json(changed=False, holder=None, security_mode=asdict(mode))
    broken = host_lock.Holder(**parameters["instead_of"]) if parameters["instead_of"] else None
    wanted = host_lock.Holder(
        owner=parameters["owner"],
        procedure=parameters["procedure"],
        run=parameters["run"],
        # A procedure that is brought to its end began when its first run did.
        since=broken.since if broken and parameters["going_on"] else timestamps.now(),
    )
    try:
        now = (
            (host_lock.holder(paths.HOST_LOCK) or wanted)
            if module.check_mode
            else host_lock.take(wanted, paths.HOST_LOCK, instead_of=broken)
        )
    except OSError as error:
        module.fail_json(
            msg=f"Refused; nothing was changed on this host. {paths.HOST_LOCK} cannot be written: {error}.",
            refused=True,
        )
    module.exit_json(
        changed=False,
        holder=asdict(now),
        age=now.age(),
        untested_system=os_release.warning_of(paths.OS_RELEASE),
    )


if __name__ == "__main__":
    main()
