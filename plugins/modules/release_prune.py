#!/usr/bin/python
"""Removes old releases and what only they stood on."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_prune
short_description: Remove old releases
description:
  - Removes the oldest releases so that C(keep) remain, and then engines, networks and tuning results
    that no remaining release stands on.
  - Never the current release nor the one to return to, however old, nor what was set aside as damaged.
  - Builds that were killed are removed too.
  - On a host in security mode nothing is removed.
options:
  keep:
    description: How many releases remain.
    type: int
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Old releases are gone
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

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.procedure import security_mode
from ansible_collections.katago.fleet.plugins.module_utils.release import history
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout

KINDS = ("engines", "networks", "tuning")
DIGEST = re.compile(r"[0-9a-f]{64}")


def unreferenced(assets: Path, stood_on: set[Path]) -> list[Path]:
    """The directories of assets, named by digests, that hold nothing of `stood_on`."""
    return sorted(
        directory
        for kind in KINDS
        for directory in (assets / kind).glob("*")
        if DIGEST.fullmatch(directory.name) and directory.is_dir()
        if not any(path.is_relative_to(directory) for path in stood_on)
    )


def needed(layout: release_layout.Layout, names: Iterable[str]) -> set[Path] | None:
    """What these releases stand on; None when one cannot say, since its manifest is damaged."""
    manifests = [release_layout.own_manifest(layout.release(name)) for name in names]
    if None in manifests:
        return None
    return {Path(path) for found in manifests if found for path in found["stands_on"]}


def unfinished(layout: release_layout.Layout) -> list[Path]:
    """The directories of builds that were killed; what was set aside begins with a dot and stays."""
    complete = {layout.release(name) for name in [*layout.complete(), layout.current_release() or ""]}
    return sorted(
        directory
        for directory in layout.releases.glob("*")
        if directory.is_dir() and not directory.name.startswith(".") and directory not in complete
    )


def main() -> None:
    """Decide by the disk and the history, and remove."""
    module = AnsibleModule(
        argument_spec={
            "keep": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    if security_mode.standing(*paths.SECURITY_MODE):
        # Any of them may be what the host was broken into by.
        module.exit_json(changed=False, removed=[])
    layout = release_layout.Layout(paths.RELEASE_ROOT)
    built = {
        name: (layout.release(name) / release_layout.MANIFEST).stat().st_mtime for name in layout.complete()
    }
    current = layout.current_release()
    ways_back = history.ways_back(history.read(paths.HISTORY), available=list(built), besides=current)
    protected = [name for name in (current, *ways_back[:1]) if name]
    old = release_layout.to_prune(built, keep=module.params["keep"], protected=protected)
    stood_on = needed(layout, built.keys() - set(old))
    removed = [*(layout.release(name) for name in old), *unfinished(layout)]
    if old and stood_on is not None:
        removed += unreferenced(paths.ASSETS, stood_on)
    if not module.check_mode:
        for directory in removed:
            shutil.rmtree(directory)
    module.exit_json(changed=bool(removed), removed=[str(directory) for directory in removed])


if __name__ == "__main__":
    main()
