#!/usr/bin/python
"""Reports the backups of a host; changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_info
short_description: Report the backups of a host
description:
  - Reads whether backups are set up on the host, and the last verified one by the host's own record.
  - With C(host), also asks the repository for that host's newest verified snapshot. The repository's
    address and credentials must be on the host. A repository that does not exist has none.
options:
  host:
    description: The host whose snapshots are listed; not listed if it is empty.
    type: str
    default: ""
  fleet:
    description: The name of the fleet that the host belongs to. Needed with C(host).
    type: str
    default: ""
  required:
    description: Whether to refuse if there is no verified snapshot of C(host).
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Find the newest backup
  katago.fleet.backup_info:
    host: "{{ inventory_hostname }}"
    fleet: "{{ lookup('katago.fleet.fleet_name') }}"
"""

RETURN = r"""
set_up:
  description: Whether backups are set up on the host.
  type: bool
  returned: success
verified_at:
  description: When the last verified backup was made, by the host's record; empty without one.
  type: str
  returned: success
snapshot:
  description: The newest verified snapshot in the repository; C(id), C(at), C(release). Null without one.
  type: dict
  returned: success
repository:
  description: The repository's address without secrets; empty if the host has none.
  type: str
  returned: success
"""

import shutil
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.backup import restic
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import state_or_empty


def newest(snapshots: Sequence[restic.Snapshot], host: str, fleet: str) -> dict[str, str] | None:
    """The newest verified snapshot of a host of a fleet in plain values; None without one."""
    try:
        chosen = restic.choose(snapshots, "latest", host, fleet)
    except restic.NoSuchSnapshot:
        return None
    return {"id": chosen.id, "at": timestamps.stamp(chosen.time), "release": chosen.release}


def look(host: str, fleet: str) -> dict[str, Any]:
    """The module's result. Raises ResticError if the repository cannot be opened."""
    state, _ = state_or_empty(paths.BACKUP_STATE)
    has_access = (paths.BACKUP_SECRETS / paths.RESTIC_REPOSITORY).exists()
    repository = restic.Repository(paths.BACKUP_SECRETS, cache=None) if has_access else None
    snapshot = None
    if host and repository is not None and shutil.which("restic"):
        try:
            snapshot = newest(repository.snapshots(), host, fleet)
        except restic.ResticError as error:
            if error.kind != "absent":
                raise
    return {
        "set_up": paths.BACKUP_SETTINGS.exists(),
        "verified_at": state.last_good.at if state.last_good else "",
        "snapshot": snapshot,
        "repository": repository.display_address if repository else "",
    }


def main() -> None:
    """Report the backups."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "default": ""},
            "fleet": {"type": "str", "default": ""},
            "required": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    host, fleet = module.params["host"], module.params["fleet"]
    try:
        found = look(host, fleet)
    except restic.ResticError as error:
        module.fail_json(
            msg=f"Refused. The backup repository cannot be read: {error}",
            refused=True,
        )
    if module.params["required"] and found["snapshot"] is None:
        module.fail_json(
            msg=(
                f"Refused. There is no verified backup of {host} of the fleet {fleet} in"
                f" {found['repository']}. Correct backup_repository; or continue without the state of the"
                " host: -e without_backup=true"
            ),
            refused=True,
        )
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
