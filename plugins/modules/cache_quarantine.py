#!/usr/bin/python
"""Quarantines the cache of a stopped service, by renames."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cache_quarantine
short_description: Quarantine the cache of a stopped service
description:
  - Moves the content of the cache's directory to C(/var/cache/katago-mcp-quarantine), where the service
    cannot reach it, under names that begin with the time. Kernels that PoCL compiled stay.
  - If the cache is a file system of its own, or the disk has no room for a directory, the content stays in
    the cache's directory, under names that begin with C(.quarantine-).
  - Only renames, which need no space. Nothing is copied or deleted, no symlink is followed, and the
    directory itself keeps its owner and mode.
  - Fails while a process of the service runs.
options: {}
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Quarantine the cache
  katago.fleet.cache_quarantine:
"""

RETURN = r"""
moved:
  description: The new paths; in check mode, the paths that would be moved.
  type: list
  elements: str
  returned: success
message:
  description: What was moved, and how many older files are in quarantine, in sentences.
  type: str
  returned: success
"""

import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.service import cache, unit


def summary(moved: list[Path], size: int, directory: Path, *, check_mode: bool) -> str:
    """What was, or would be, quarantined, and how many older files the quarantine has."""
    if not moved:
        return "There was no cache to quarantine."
    action = "would be quarantined" if check_mode else f"was quarantined in {moved[0].parent}"
    older = len(cache.quarantined(directory)) - (0 if check_mode else len(moved))
    hint = (
        f" The quarantine also has {older} older files; remove those that you do not need." if older else ""
    )
    names = ", ".join(path.name for path in moved)
    return f"The cache ({names}, {size} bytes) {action}.{hint}"


def main() -> None:
    """Check that the service is stopped, and rename."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    try:
        directory = cache.directory(paths.SERVICE_UNIT_FILE, paths.CONFIG)
        running = [] if module.check_mode else unit.processes(unit.control_group())
        if running:
            names = ", ".join(f"{each['name']} ({each['pid']})" for each in running)
            module.fail_json(msg=f"The cache was not touched, because the service still runs: {names}.")
        content = cache.content(directory)
        moved = [directory / name for name in content]
        if not module.check_mode:
            moved = cache.move_to_quarantine(directory, timestamps.now())
    except cache.RefusedError as refused:
        module.fail_json(msg=f"The cache was not touched. {refused}")
    except (OSError, subprocess.CalledProcessError) as error:
        module.fail_json(msg=f"Not all of the cache was quarantined: {error}. Fix this, then run again.")
    size = sum(content.values())
    message = summary(moved, size, directory, check_mode=module.check_mode)
    module.exit_json(changed=bool(moved), moved=[str(path) for path in moved], message=message)


if __name__ == "__main__":
    main()
