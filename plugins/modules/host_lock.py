#!/usr/bin/python
"""Acquires and releases a host's lock."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_lock
short_description: Acquire or release a host's lock
description:
  - Only one procedure at a time works on a host. The lock, C(/run/katago-mcp.lock), records who holds it, for
    which procedure and since when.
  - Fails if another run holds the lock. The message names the holder, their terminal and process, the age of
    the lock, and the command that breaks it. A lock can only be broken by naming its id, or its holder if
    version 0.2 took it.
  - If a run died, the same person can repeat the same procedure from the same control node. The new run takes
    over the lock and reports that.
  - On a host in security mode, only procedures that do not touch evidence can acquire the lock. All others
    fail; the message shows who set the mode, when and why, and how to end it.
  - On a host on which the service is not deployed, procedures that need it cannot acquire the lock.
  - In check mode, only reads the lock.
options:
  state:
    description: Whether to acquire (C(held)) or release (C(released)) the lock.
    type: str
    choices: [held, released]
    required: true
  procedure:
    description: The procedure that acquires the lock.
    type: str
    required: true
  who:
    description: Who runs the procedure.
    type: str
    required: true
  break_lock:
    description: The ids of the locks to break, separated by commas.
    type: str
    default: ""
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Lock the host
  katago.fleet.host_lock:
    state: held
    procedure: restart
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
holder:
  description: The holder of the lock (owner, procedure, run, since, id, session); null if nobody holds it.
  type: dict
  returned: always
next_step:
  description: The command that shows the host's security mode.
  type: str
  returned: when the lock is refused because of that mode
untested_system:
  description: The warning for reports about a host with an untested system; empty for a tested one.
  type: str
  returned: when the lock is held
self_healing:
  description: The newest events of the host's own repairs, with the keys of the log of repairs.
  type: list
  elements: dict
  returned: when the lock is held
taken_over:
  description: The previous holder of the lock (owner, procedure, run, since, id, session).
  type: dict
  returned: when the lock was taken over
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import os_release
from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock, security_mode
from ansible_collections.katago.fleet.plugins.module_utils.release import deployed
from ansible_collections.katago.fleet.plugins.module_utils.release.layout import Layout
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import log


def main() -> None:
    """Acquire, release, or only read the lock."""
    module = AnsibleModule(
        argument_spec={
            "state": {"choices": ["held", "released"], "required": True},
            "procedure": {"type": "str", "required": True},
            "owner": {"type": "str", "required": True},
            "run": {"type": "str", "required": True},
            "session": {"type": "str", "default": ""},
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
                msg=f"The lock {paths.HOST_LOCK} was not released: {error}. Fix this, then remove the file."
            )
        module.exit_json(changed=False, released=released, holder=None)
    mode = security_mode.standing(*paths.SECURITY_MODE)
    if mode and parameters["procedure"] not in security_mode.ALLOWED:
        module.exit_json(changed=False, holder=None, security_mode=asdict(mode))
    # On a bare host, the check mode of site.yml gets to the backup without the deployment before it.
    predicted = parameters["procedure"] == "backup" and module.check_mode
    if parameters["procedure"] in deployed.NEEDS_RELEASE and not predicted:
        why = deployed.undeployed(Layout(paths.RELEASE_ROOT), paths.SERVICE_UNIT_FILE)
        if why:
            module.exit_json(changed=False, holder=None, undeployed=why)
    broken = host_lock.Holder(**parameters["instead_of"]) if parameters["instead_of"] else None
    claim = host_lock.Holder(
        owner=parameters["owner"],
        procedure=parameters["procedure"],
        run=parameters["run"],
        # A procedure that is resumed keeps the start time of its first run.
        since=broken.since if broken and parameters["going_on"] else timestamps.now(),
        id=host_lock.new_id(),
        session=parameters["session"],
    )
    try:
        holder = (
            (host_lock.holder(paths.HOST_LOCK) or claim)
            if module.check_mode
            else host_lock.take(claim, paths.HOST_LOCK, instead_of=broken)
        )
    except OSError as error:
        module.fail_json(
            msg=f"Refused; nothing was changed on this host. {paths.HOST_LOCK} cannot be written: {error}.",
            refused=True,
        )
    module.exit_json(
        changed=False,
        holder=asdict(holder),
        age=holder.age(),
        self_healing=log.fetch(paths.SELF_HEALING_LOG),
        untested_system=os_release.warning_of(paths.OS_RELEASE),
    )


if __name__ == "__main__":
    main()
