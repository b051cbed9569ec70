"""What a backup keeps of a host: releases and what they depend on, links, credentials, state."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import BackupError
from ansible_collections.katago.fleet.plugins.module_utils.release import history, links
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout

# Below the state: what the service's user writes and systemd makes anew, and what was set aside.
NOT_KEPT = ("engine", "quarantine")
# The parts of a release that are small; the rest of it is its environment.
SMALL = ("analysis.cfg", "config.json", paths.SERVICE_UNIT, release_layout.MANIFEST)
# The service's, by its name where systemd passes it; the host's own token is made again by every host.
CREDENTIALS = {
    paths.TOKENS: paths.CREDENTIALS / paths.TOKENS,
    paths.CERTIFICATE: paths.PINNED_CERTIFICATE,
    paths.KEY: paths.CREDENTIALS / paths.KEY,
}


def below(root: Path, path: str | Path) -> Path:
    """Where something of a host lies whose files are below `root`."""
    return root / str(path).lstrip("/")


def of_host(root: Path, *, assets: bool) -> list[str]:
    """The paths that a backup of the host below `root` keeps, as a host names them. Raises BackupError.

    The current release and the one to return to, with all they depend on, or with their small parts
    and their tuning alone; the small parts of every other release; links, credentials and state; of the
    reminders of incidents those that were sent, and no plan, by which an old one would be sent again.
    """
    layout = release_layout.Layout(below(root, paths.RELEASE_ROOT))
    current = layout.current_release()
    # One that was changed is found when the backup is verified.
    if current is None or not (layout.release(current) / release_layout.MANIFEST).exists():
        raise BackupError("there is nothing to back up: no release is the current one. Deploy one")
    records = history.read(below(root, paths.HISTORY))
    whole = current_and_way_back(layout, records) if assets else []
    files = {str(path) for path in links.of_host(release_layout.Layout(paths.RELEASE_ROOT), current)}
    for name in layout.complete():
        directory = paths.RELEASE_ROOT / "releases" / name
        manifest = release_layout.own_manifest(layout.release(name))
        if name in whole:
            files.add(str(directory))
        else:
            files |= {str(directory / part) for part in SMALL if below(root, directory / part).exists()}
        for needed in manifest["stands_on"] if manifest else ():
            tuning = Path(needed).is_relative_to(paths.ASSETS / "tuning")
            if tuning or name in whole:
                files.add(str(needed))
    state = [below(root, paths.HISTORY), *state_files(below(root, paths.STATE))]
    state += below(root, paths.INCIDENT_STATE).glob("*.jsonl")
    files |= {str(Path("/") / path.relative_to(root)) for path in state if path.exists()}
    files |= {str(path) for path in CREDENTIALS.values()}
    return sorted(path for path in files if os.path.lexists(below(root, path)))


def current_and_way_back(layout: release_layout.Layout, records: Sequence[history.Record]) -> list[str]:
    """The current release and the best one to return to, where there are any."""
    current = layout.current_release() or history.current(records)
    ways_back = history.ways_back(records, available=layout.complete(), besides=current)
    return [name for name in (current, *ways_back[:1]) if name]


def state_files(directory: Path) -> list[Path]:
    """The files of the state that a backup keeps, but for the history."""
    return sorted(
        path
        for path in directory.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and path.relative_to(directory).parts[0] not in NOT_KEPT
        and not path.relative_to(directory).parts[0].startswith(".")
        and path != directory / paths.HISTORY.name
    )
