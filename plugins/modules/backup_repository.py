#!/usr/bin/python
"""Makes the backup repository when there is none and there never was one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_repository
short_description: Open the backup repository, or make it
description:
  - Fails with what was seen when the repository cannot be opened.
  - Makes a repository where there is none. One that this host has backed up to before and that is
    gone is not made anew without being told so, since a file system that is not mounted looks the same.
options:
  initialize:
    description: Make a new repository although there was one.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The repository can be opened
  katago.fleet.backup_repository:
"""

RETURN = r"""
repository:
  description: The repository's address, without secrets.
  type: str
  returned: always
"""

import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup import restic
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import State
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, shape

INITIALIZATION_SECONDS = 120


def main() -> None:
    """Open, or make."""
    module = AnsibleModule(
        argument_spec={"initialize": {"type": "bool", "default": False}}, supports_check_mode=True
    )
    if module.check_mode and not (paths.BACKUP_SECRETS / paths.RESTIC_REPOSITORY).exists():
        module.exit_json(changed=True, repository="", msg="The repository's address is not on the host yet.")
    repository = restic.Repository(paths.BACKUP_SECRETS, cache=None)
    if module.check_mode and not shutil.which("restic"):
        module.exit_json(changed=True, repository=repository.shown, msg="restic is not installed yet.")
    try:
        repository.probe()
    except restic.ResticError as error:
        if error.kind != "absent":
            module.fail_json(msg=f"{sentence(error)} Nothing was backed up; what runs was not touched.")
    else:
        module.exit_json(changed=False, repository=repository.shown)
    if not module.params["initialize"] and (reason := reason_to_refuse(repository, paths.BACKUP_STATE)):
        module.fail_json(
            msg=f"{reason} Nothing was made there. If a new one is meant: -e backup_initialize=true."
        )
    try:
        if not module.check_mode:
            repository.run("init", deadline=INITIALIZATION_SECONDS, lock=True)
    except restic.ResticError as error:
        module.fail_json(msg=f"{repository.shown} cannot be made a repository: {error}")
    module.exit_json(changed=True, repository=repository.shown)


def reason_to_refuse(repository: restic.Repository, state_file: Path) -> str:
    """Why no repository is made, in sentences; empty when there never was one at this address.

    `state_file`: where the host keeps what it knows of its backups.
    """
    try:
        state = State.read(state_file)
    except (OSError, shape.ShapeError) as error:
        return f"{repository.shown} is no repository, and whether it was one is not known: {error}."
    if state.repository != digest.of_text(repository.address):
        return ""
    good = state.last_good
    last = f" with the snapshot {good.snapshot} of {good.at}" if good else ""
    return f"{repository.shown} was a repository{last} and is none now. Is its disk mounted?"


def sentence(error: restic.ResticError) -> str:
    """The error with a capital letter."""
    return str(error)[0].upper() + str(error)[1:]


if __name__ == "__main__":
    main()
