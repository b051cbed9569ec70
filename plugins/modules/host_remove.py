#!/usr/bin/python
"""Removes everything of this collection from a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_remove
short_description: Remove everything of this collection from a host
description:
  - Removes units, timers, drop-ins, programs, releases, engines, networks, configuration, credentials, state,
    caches, the settings of backups, and the service's user and group. The lists are in
    C(module_utils/removal/parts.py).
  - Stop the service first. Packages, the GPU driver, the journal and the backup repository stay. So does a
    user that is not as a deployment creates it.
  - Refuses, also in check mode, if the removal would leave our directories by a symlink or a mount point,
    would remove a backup repository, or if the user has processes of its own.
  - Continues where it stopped if it was interrupted. Changes nothing on a host that has nothing of it.
options:
  keep:
    description:
      - C(data) keeps the service's state with its history, the cache, and the user and group that own them.
    type: str
    choices: [nothing, data]
    default: nothing
  repository:
    description:
      - The address of the backup repository without secrets, which must not be removed; empty for none.
      - The repository of the host's own settings must not be removed either.
    type: str
    default: ""
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Remove everything
  katago.fleet.host_remove:
"""

RETURN = r"""
sizes:
  description: Bytes of what was removed, by the name of the part.
  type: dict
  returned: success
units:
  description: The units that were removed.
  type: list
  elements: str
  returned: success
message:
  description: What was removed and what was kept, as sentences.
  type: str
  returned: success
"""

import shutil

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup import restic
from ansible_collections.katago.fleet.plugins.module_utils.removal import parts, remove, wording


def own_repository() -> list[str]:
    """The address in the host's own settings, which the inventory may have changed since."""
    try:
        return [restic.Repository(paths.BACKUP_SECRETS, cache=None).address]
    except OSError:
        return []


def main() -> None:
    """Refuse, predict, or remove."""
    module = AnsibleModule(
        argument_spec={
            "keep": {"choices": ["nothing", "data"], "default": "nothing"},
            "repository": {"type": "str", "default": "", "no_log": False},
        },
        supports_check_mode=True,
    )
    keep: parts.Keep = module.params["keep"]
    address = module.params["repository"].strip()
    if reasons := remove.obstacles(keep, [address, *own_repository()]):
        module.fail_json(
            msg=f"Refused; nothing was removed from this host. {'. '.join(reasons)}. Then run again.",
            refused=True,
        )
    try:
        removed = remove.planned(keep) if module.check_mode else remove.remove(keep)
    except remove.RemovalError as error:
        module.fail_json(msg=f"The host was not completely removed: {error}.")
    packages = [name for name in parts.PACKAGES if shutil.which("dpkg-query") and remove.is_installed(name)]
    foreign = ["the service's user and group (not as a deployment creates them)"]
    kept = [
        *(foreign if keep == "nothing" and remove.has_foreign_user() else []),
        *(part.name for part in parts.PARTS if part.is_data and keep == "data"),
        *(f"{each.name} ({each.why})" for each, _ in parts.kept() if each is not parts.LOCK),
    ]
    module.exit_json(
        changed=bool(removed),
        sizes=removed.sizes,
        units=removed.units,
        message=wording.message(
            removed,
            kept=kept,
            packages=packages,
            repository=restic.redacted_address(address),
            predicted=module.check_mode,
        ),
    )


if __name__ == "__main__":
    main()
