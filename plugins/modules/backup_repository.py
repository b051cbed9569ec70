#!/usr/bin/python
"""Creates the backup repository, unless it exists or has existed before."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_repository
short_description: Open the backup repository, or create it
description:
  - Opens the repository. If that fails, reports why.
  - If there is no repository, creates one. If this host has backed up to this address before and the
    repository is gone, the module fails unless C(initialize) is set, because an unmounted file system
    looks the same.
options:
  initialize:
    description: Create a new repository even if this host has backed up to one at this address before.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Open or create the repository
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
    """Open the repository, or create it."""
    module = AnsibleModule(
        argument_spec={"initialize": {"type": "bool", "default": False}}, supports_check_mode=True
    )
    if module.check_mode and not (paths.BACKUP_SECRETS / paths.RESTIC_REPOSITORY).exists():
        module.exit_json(changed=True, repository="", msg="The repository's address is not on the host yet.")
    repository = restic.Repository(paths.BACKUP_SECRETS, cache=None)
    if module.check_mode and not shutil.which("restic"):
        address = repository.display_address
        module.exit_json(changed=True, repository=address, msg="restic is not installed yet.")
    try:
        repository.probe()
    except restic.ResticError as error:
        if error.kind != "absent":
            module.fail_json(msg=f"{sentence(error)} Nothing was backed up. The service was not touched.")
    else:
        module.exit_json(changed=False, repository=repository.display_address)
    if not module.params["initialize"] and (reason := reason_to_refuse(repository, paths.BACKUP_STATE)):
        module.fail_json(
            msg=(
                f"{reason} No repository was created. To create a new one anyway, run"
                " `ansible-playbook playbooks/backup.yml -e backup_initialize=true`."
            )
        )
    try:
        if not module.check_mode:
            repository.run("init", deadline=INITIALIZATION_SECONDS, lock=True)
    except restic.ResticError as error:
        module.fail_json(msg=f"The repository {repository.display_address} cannot be created: {error}")
    module.exit_json(changed=True, repository=repository.display_address)


def reason_to_refuse(repository: restic.Repository, state_file: Path) -> str:
    """Why no repository is created, as sentences; empty if this host never had one at this address.

    `state_file`: the file with the state of the host's backups.
    """
    try:
        state = State.read(state_file)
    except (OSError, shape.ShapeError) as error:
        return (
            f"There is no repository at {repository.display_address}. Whether there was one before is"
            f" unknown: {error}."
        )
    if state.repository != digest.of_text(repository.address):
        return ""
    verified = state.last_good
    last = f" with the snapshot {verified.snapshot} of {verified.at}" if verified else ""
    return (
        f"This host had a repository at {repository.display_address}{last}, and it is gone."
        " Check that its disk is mounted."
    )


def sentence(error: restic.ResticError) -> str:
    """The error's message, starting with a capital letter."""
    return str(error)[0].upper() + str(error)[1:]


if __name__ == "__main__":
    main()
