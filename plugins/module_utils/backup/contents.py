"""Lists the files of a host that go into a backup: releases and their assets, links, credentials, state."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import BackupError
from ansible_collections.katago.fleet.plugins.module_utils.release import history, links
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout

# Directories of the state that are not backed up: systemd creates `engine`; `quarantine` has replaced files.
EXCLUDED = ("engine", "quarantine")
# The small files of a release. Everything else in it is its Python environment.
SMALL_FILES = ("analysis.cfg", "config.json", paths.SERVICE_UNIT, release_layout.MANIFEST)
# The service's credentials, by the name under which systemd passes them. The operator token is not backed up:
# every host creates its own.
CREDENTIALS = {
    paths.TOKENS: paths.CREDENTIALS / paths.TOKENS,
    paths.CERTIFICATE: paths.PINNED_CERTIFICATE,
    paths.KEY: paths.CREDENTIALS / paths.KEY,
}


def below(root: Path, path: str | Path) -> Path:
    """The location of a host's path when the host's files are below `root`."""
    return root / str(path).lstrip("/")


def paths_to_back_up(root: Path, *, assets: bool) -> list[str]:
    """The host's paths that a backup includes. The host's files are below `root`.

    With `assets`: the current release and the rollback target completely, with their engines, networks and
    tuning. Without: only their small files and their tuning. Of every other release: the small files. Also
    links, credentials and state. Of incident reminders only the records of sent messages: restoring an old
    plan would send its reminders again.

    Raises:
        BackupError: if there is no current release.
    """
    layout = release_layout.Layout(below(root, paths.RELEASE_ROOT))
    current = layout.current_release()
    # A changed manifest is accepted here; the verification of the backup reports it.
    if current is None or not (layout.release(current) / release_layout.MANIFEST).exists():
        raise BackupError(
            "there is nothing to back up: this host has no current release. Deploy a release first:"
            " `ansible-playbook playbooks/deploy.yml`"
        )
    records = history.read(below(root, paths.HISTORY))
    complete = current_and_rollback_target(layout, records) if assets else []
    files = {str(path) for path in links.of_host(release_layout.Layout(paths.RELEASE_ROOT), current)}
    for name in layout.complete():
        directory = paths.RELEASE_ROOT / "releases" / name
        manifest = release_layout.own_manifest(layout.release(name))
        if name in complete:
            files.add(str(directory))
        else:
            files |= {str(directory / part) for part in SMALL_FILES if below(root, directory / part).exists()}
        for asset in manifest["stands_on"] if manifest else ():
            is_tuning = Path(asset).is_relative_to(paths.ASSETS / "tuning")
            if is_tuning or name in complete:
                files.add(str(asset))
    state = [below(root, paths.HISTORY), *state_files(below(root, paths.STATE))]
    state += below(root, paths.INCIDENT_STATE).glob("*.jsonl")
    files |= {str(Path("/") / path.relative_to(root)) for path in state if path.exists()}
    files |= {str(path) for path in CREDENTIALS.values()}
    return sorted(path for path in files if os.path.lexists(below(root, path)))


def current_and_rollback_target(
    layout: release_layout.Layout, records: Sequence[history.Record]
) -> list[str]:
    """The names of the current release and the rollback target, as far as they exist."""
    current = layout.current_release() or history.current(records)
    targets = history.rollback_targets(records, available=layout.complete(), besides=current)
    return [name for name in (current, *targets[:1]) if name]


def state_files(directory: Path) -> list[Path]:
    """The state files that a backup includes, without the history."""
    return sorted(
        path
        for path in directory.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and path.relative_to(directory).parts[0] not in EXCLUDED
        and not path.relative_to(directory).parts[0].startswith(".")
        and path != directory / paths.HISTORY.name
    )
