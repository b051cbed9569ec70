#!/usr/bin/python
"""Starts a backup of a host and waits for its result."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup
short_description: Back up a host and verify the backup
description:
  - Starts the same systemd unit as the timer and waits until it finishes. If a backup already runs,
    waits for that one.
  - Every backup is read back, restored into a scratch directory, compared with its manifest and
    validated by the restored release. If any of these steps fails, the backup has failed.
  - In check mode, lists the paths that would be backed up.
options:
  deadline:
    description: Seconds to wait until the backup finishes.
    type: int
    default: 7200
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Back up the host
  katago.fleet.backup:
"""

RETURN = r"""
snapshot:
  description: The verified snapshot.
  type: str
  returned: success
outcome:
  description: "The result of the backup: at, step, message, seconds, snapshot, release, size, checks."
  type: dict
  returned: when a backup ran
paths:
  description: The paths that would be backed up.
  type: list
  elements: str
  returned: in check mode
"""

import subprocess
from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.backup import contents
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import BackupError, Settings, State
from ansible_collections.katago.fleet.plugins.module_utils.common import disk, shape
from ansible_collections.katago.fleet.plugins.module_utils.service import host_secrets, unit


def main() -> None:
    """Run the unit and return its outcome."""
    module = AnsibleModule(
        argument_spec={"deadline": {"type": "int", "default": 7200}}, supports_check_mode=True
    )
    if module.check_mode:
        try:
            settings = Settings.load(paths.BACKUP_SETTINGS)
            to_back_up = contents.paths_to_back_up(Path("/"), assets=settings.assets)
        except BackupError as error:
            module.fail_json(msg=f"Refused: {error}.")
        except OSError:
            module.exit_json(changed=True, paths=[], msg="The backup is not set up on this host yet.")
        module.exit_json(changed=True, paths=to_back_up, msg=f"Would back up {len(to_back_up)} paths.")
    if problems := list(disk.obstacles([paths.BACKUP_DIRECTORY, paths.BACKUP_CACHE])):
        module.fail_json(
            msg=f"Refused; nothing was backed up. {'; '.join(problems)}. Repair the disk first.", refused=True
        )
    requested = timestamps.now()
    try:
        started = subprocess.run(
            ["systemctl", "start", paths.BACKUP_UNIT],
            capture_output=True,
            text=True,
            timeout=module.params["deadline"],
            check=False,
        )
    except subprocess.TimeoutExpired:
        module.fail_json(
            msg=(
                f"The backup did not finish within {module.params['deadline']} s. It is still running. Watch"
                f" it with `journalctl -fu {paths.BACKUP_UNIT}`, or run this playbook again to wait for it."
            )
        )
    try:
        outcome = State.read(paths.BACKUP_STATE).last_run
    except (OSError, shape.ShapeError) as error:
        module.fail_json(msg=f"The result of the backup is unknown: {error}.")
    if outcome is None or (outcome.at < requested and started.returncode != 0):
        log = host_secrets.redacted(unit.journal(unit=paths.BACKUP_UNIT))
        module.fail_json(msg=f"The backup did not run. Last log lines of {paths.BACKUP_UNIT}:\n{log}")
    elif not outcome.ok:
        module.fail_json(msg=outcome.message, outcome=asdict(outcome))
    elif started.returncode != 0:
        module.fail_json(
            msg=f"{outcome.message}, but the unit failed. See `journalctl -u {paths.BACKUP_UNIT}`.",
            outcome=asdict(outcome),
        )
    else:
        module.exit_json(
            changed=True, snapshot=outcome.snapshot, outcome=asdict(outcome), msg=f"{outcome.message}."
        )


if __name__ == "__main__":
    main()
