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


def unreferenced(assets: Path, dependencies: set[Path]) -> list[Path]:
    """The directories of assets, named by digests, that contain none of `dependencies`."""
    return sorted(
        directory
        for kind in KINDS
        for directory in (assets / kind).glob("*")
        if DIGEST.fullmatch(directory.name) and directory.is_dir()
        if not any(path.is_relative_to(directory) for path in dependencies)
    )


def needed(layout: release_layout.Layout, names: Iterable[str]) -> set[Path] | None:
    """What these releases depend on; None if that is unknown because a manifest is damaged."""
    manifests = [release_layout.own_manifest(layout.release(name)) for name in names]
    if None in manifests:
        return None
    return {Path(path) for manifest in manifests if manifest for path in manifest["stands_on"]}


def unfinished(layout: release_layout.Layout) -> list[Path]:
    """The directories of unfinished builds. Releases that were moved aside begin with a dot and stay."""
    complete = {layout.release(name) for name in [*layout.complete(), layout.current_release() or ""]}
    return sorted(
        directory
        for directory in layout.releases.glob("*")
        if directory.is_dir() and not directory.name.startswith(".") and directory not in complete
    )


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
    layout = release_layout.Layout(paths.RELEASE_ROOT)
    built = {
        name: (layout.release(name) / release_layout.MANIFEST).stat().st_mtime for name in layout.complete()
    }
    current = layout.current_release()
    targets = history.rollback_targets(history.read(paths.HISTORY), available=list(built), besides=current)
    protected = [name for name in (current, *targets[:1]) if name]
    old = release_layout.to_prune(built, keep=module.params["keep"], protected=protected)
    dependencies = needed(layout, built.keys() - set(old))
    removed = [*(layout.release(name) for name in old), *unfinished(layout)]
    if old and dependencies is not None:
        removed += unreferenced(paths.ASSETS, dependencies)
    if not module.check_mode:
        for directory in removed:
            shutil.rmtree(directory)
    module.exit_json(changed=bool(removed), removed=[str(directory) for directory in removed])


if __name__ == "__main__":
    main()
