#!/usr/bin/python
"""Orders a backup of a host and waits for its verdict."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup
short_description: Back up a host, verified
description:
  - Starts the unit that the timer starts and waits for its end; one that runs already is joined.
  - A backup is read back, restored into a scratch directory, compared with its manifest and
    validated by the restored release. One that fails any of this has failed.
  - In check mode says what would be backed up.
options:
  deadline:
    description: Seconds to wait for the end.
    type: int
    default: 7200
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The host is backed up
  katago.fleet.backup:
"""

RETURN = r"""
snapshot:
  description: The verified snapshot.
  type: str
  returned: success
outcome:
  description: "What was done: at, step, message, seconds, snapshot, release, size, checks."
  type: dict
  returned: when it was run
paths:
  description: What would be backed up.
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
    """Run the unit and pass its outcome on."""
    module = AnsibleModule(
        argument_spec={"deadline": {"type": "int", "default": 7200}}, supports_check_mode=True
    )
    if module.check_mode:
        try:
            settings = Settings.load(paths.BACKUP_SETTINGS)
            kept = contents.of_host(Path("/"), assets=settings.assets)
        except BackupError as error:
            module.fail_json(msg=f"Refused: {error}.")
        except OSError:
            module.exit_json(changed=True, paths=[], msg="The backup is not set up on this host yet.")
        module.exit_json(changed=True, paths=kept, msg=f"Would back up {len(kept)} paths.")
    if problems := list(disk.obstacles([paths.BACKUP_DIRECTORY, paths.BACKUP_CACHE])):
        module.fail_json(
            msg=f"Refused; nothing was backed up. {'; '.join(problems)}. Mend the disk first.", refused=True
        )
    asked = timestamps.now()
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
                f"The backup goes on after {module.params['deadline']} s. It was left running:"
                f" `journalctl -u {paths.BACKUP_UNIT}` shows it, running this again joins it."
            )
        )
    try:
        outcome = State.read(paths.BACKUP_STATE).last_run
    except (OSError, shape.ShapeError) as error:
        module.fail_json(msg=f"It is not known what became of the backup: {error}.")
    if outcome is None or (outcome.at < asked and started.returncode != 0):
        words = host_secrets.shown(unit.journal(unit=paths.BACKUP_UNIT))
        module.fail_json(msg=f"The backup did not run. The last words of {paths.BACKUP_UNIT}:\n{words}")
    elif not outcome.ok:
        module.fail_json(msg=outcome.message, outcome=asdict(outcome))
    elif started.returncode != 0:
        module.fail_json(
            msg=f"{outcome.message}, but the unit failed: `journalctl -u {paths.BACKUP_UNIT}` says why.",
            outcome=asdict(outcome),
        )
    else:
        module.exit_json(
            changed=True, snapshot=outcome.snapshot, outcome=asdict(outcome), msg=f"{outcome.message}."
        )


if __name__ == "__main__":
    main()
