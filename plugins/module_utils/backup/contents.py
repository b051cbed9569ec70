"""What a backup keeps of a host: releases and what they depend on, links, credentials, state."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup import survey as backup_survey
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import BackupError
from ansible_collections.katago.fleet.plugins.module_utils.release import history as release_history
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import unit as service_unit

# The parts of a release that are small; the rest of it is its environment.
SMALL = ("analysis.cfg", "config.json", paths.SERVICE_UNIT, release_layout.MANIFEST)
# The service's, by its name where systemd passes it; the host's own token is made again by every host.
CREDENTIALS = {
    paths.TOKENS: paths.CREDENTIALS / paths.TOKENS,
    paths.CERTIFICATE: paths.PINNED_CERTIFICATE,
    paths.KEY: paths.CREDENTIALS / paths.KEY,
}


def of_host(survey: backup_survey.Survey, *, assets: bool) -> list[str]:
    """The paths that a backup of this host keeps, as they are named on a host. Raises BackupError.

    The current release and the one to return to, with all they depend on, or with their small parts
    and their tuning alone; the small parts of every other release; links, credentials and state; of the
    reminders of incidents those that were sent, and no plan, by which an old one would be sent again.
    """
    layout = survey.layout()
    current = layout.current_release()
    if current is None or release_layout.manifest(layout.release(current)) is None:
        raise BackupError("there is nothing to back up: no release is the current one. Deploy one")
    records = release_history.read(survey.at(paths.HISTORY))
    whole = backup_survey.current_and_way_back(layout, records) if assets else []
    files = {str(path) for path in service_unit.links(release_layout.Layout(paths.RELEASE_ROOT), current)}
    for name in layout.complete():
        directory = paths.RELEASE_ROOT / "releases" / name
        manifest = release_layout.own_manifest(layout.release(name))
        if name in whole:
            files.add(str(directory))
        else:
            files |= {str(directory / part) for part in SMALL if survey.at(directory / part).exists()}
        for needed in manifest["stands_on"] if manifest else ():
            tuning = Path(needed).is_relative_to(paths.ASSETS / "tuning")
            if tuning or name in whole:
                files.add(str(needed))
    state = [survey.at(paths.HISTORY), *backup_survey.state_files(survey.at(paths.STATE))]
    state += survey.at(paths.INCIDENT_STATE).glob("*.jsonl")
    files |= {str(Path("/") / path.relative_to(survey.root)) for path in state if path.exists()}
    files |= {str(path) for path in CREDENTIALS.values()}
    return sorted(path for path in files if os.path.lexists(survey.at(path)))
