#!/usr/bin/python
"""Sets the cache of a stopped service aside, by renames."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cache_quarantine
short_description: Set the cache of a stopped service aside
description:
  - Renames all that lies in the cache's directory, except the kernels that PoCL compiled, into
    C(/var/cache/katago-mcp-quarantine), out of the service's reach, under names that begin with the time.
    Where the cache is a file system of its own, or the disk has no room for a directory, the names
    begin with C(.quarantine-) and stay in it.
  - Renames need no space. Nothing is copied or deleted, no symlink is followed, the directory itself
    keeps its owner and mode.
  - Fails while anything of the service runs.
options: {}
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The cache is set aside
  katago.fleet.cache_quarantine:
"""

RETURN = r"""
moved:
  description: Where it is now; in check mode, what would be moved.
  type: list
  elements: str
  returned: success
message:
  description: What was done and what lies there from earlier times, in sentences.
  type: str
  returned: success
"""

import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.service import cache, unit


def words(moved: list[Path], size: int, directory: Path, *, check_mode: bool) -> str:
    """What was, or would be, set aside, and how much there is of earlier times."""
    if not moved:
        return "There was no cache to set aside."
    would = "would be" if check_mode else "were"
    where = f" to {moved[0].parent}" if not check_mode else ""
    before = len(cache.earlier(directory)) - (0 if check_mode else len(moved))
    told = f" {before} files of earlier times lie there; remove what was looked into." if before else ""
    names = ", ".join(path.name for path in moved)
    return f"{names} ({size} bytes) {would} set aside{where}.{told}"


def main() -> None:
    """Refuse, or rename."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    try:
        directory = cache.directory(paths.SERVICE_UNIT_FILE, paths.CONFIG)
        running = [] if module.check_mode else unit.processes(unit.control_group())
        if running:
            names = ", ".join(f"{each['name']} ({each['pid']})" for each in running)
            module.fail_json(msg=f"The cache was not touched, since the service still runs: {names}.")
        found = cache.content(directory)
        moved = [directory / name for name in found]
        if not module.check_mode:
            moved = cache.set_aside(directory, timestamps.now())
    except cache.RefusedError as refused:
        module.fail_json(msg=f"The cache was not touched. {refused}")
    except (OSError, subprocess.CalledProcessError) as error:
        module.fail_json(
            msg=f"The cache was not, or not wholly, set aside: {error}. Correct that and run it again."
        )
    size = sum(found.values())
    message = words(moved, size, directory, check_mode=module.check_mode)
    module.exit_json(changed=bool(moved), moved=[str(path) for path in moved], message=message)


if __name__ == "__main__":
    main()
