#!/usr/bin/python
"""Removes old releases and what only they depended on."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_prune
short_description: Remove old releases
description:
  - Removes the oldest releases so that C(keep) remain. Then removes the engines, networks and tuning
    results that no remaining release depends on.
  - Never removes the current release or the rollback target, however old they are. Damaged releases that
    were moved aside stay too.
  - Removes unfinished builds.
  - Removes nothing on a host in security mode.
options:
  keep:
    description: The number of releases that remain.
    type: int
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Remove old releases
  katago.fleet.release_prune:
    keep: 5
"""

RETURN = r"""
removed:
  description: The directories that were removed.
  type: list
  elements: str
  returned: always
"""

import shutil

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.procedure import security_mode
from ansible_collections.katago.fleet.plugins.module_utils.release import history, pruning
from ansible_collections.katago.fleet.plugins.module_utils.release.layout import Layout


def main() -> None:
    """Choose what to remove from the disk and the history, and remove it."""
    module = AnsibleModule(
        argument_spec={
            "keep": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    if security_mode.standing(*paths.SECURITY_MODE):
        # Any release may be evidence: it may be how an intruder got in.
        module.exit_json(changed=False, removed=[])
    removed = pruning.removable(
        Layout(paths.RELEASE_ROOT), history.read(paths.HISTORY), paths.ASSETS, keep=module.params["keep"]
    )
    if not module.check_mode:
        for directory in removed:
            shutil.rmtree(directory)
    module.exit_json(changed=bool(removed), removed=[str(directory) for directory in removed])


if __name__ == "__main__":
    main()
