"""Which releases are old, and what only they depend on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

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


def removable(
    layout: release_layout.Layout, records: Sequence[history.Record], assets: Path, *, keep: int
) -> list[Path]:
    """The directories to remove so that `keep` releases remain, and unfinished builds.

    The current release and the rollback target always remain.
    """
    built = {
        name: (layout.release(name) / release_layout.MANIFEST).stat().st_mtime for name in layout.complete()
    }
    current = layout.current_release()
    targets = history.rollback_targets(records, available=list(built), besides=current)
    protected = [name for name in (current, *targets[:1]) if name]
    old = release_layout.to_prune(built, keep=keep, protected=protected)
    directories = [*(layout.release(name) for name in old), *unfinished(layout)]
    dependencies = needed(layout, built.keys() - set(old)) if old else None
    if dependencies is not None:
        directories += unreferenced(assets, dependencies)
    return directories
