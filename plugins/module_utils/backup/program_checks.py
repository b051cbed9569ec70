"""What programs find damaged on a host that no digest tells: its configuration, its cache, its journal."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup.survey import Finding
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    cache,
    config_check,
    host_secrets,
    journal,
)

_SECONDS = 60


def findings() -> list[Finding]:
    """Everything that was found on this host."""
    layout = release_layout.Layout(paths.RELEASE_ROOT)
    return [
        *of_configuration(layout, paths.CONFIG, paths.STATE),
        *of_cache(paths.ANSWERS),
        *of_journal(paths.JOURNALS),
    ]


def of_configuration(layout: release_layout.Layout, config: Path, state: Path) -> Iterator[Finding]:
    """What the current release's own schema says of the configuration; nothing where there is no release."""
    if layout.current_release() is None:
        return
    path = str(config)
    try:
        verdict = config_check.checked(layout, config, state, seconds=_SECONDS)
    except (OSError, config_check.CheckError, subprocess.SubprocessError):
        yield Finding("schema", path, "unknown", f"{path} cannot be checked by the present release")
        return
    if verdict["ok"]:
        yield Finding("schema", path, "whole", f"{path} is what the release takes")
    else:
        # They name the value that is wrong, which may be a secret in the wrong place.
        words = host_secrets.shown("; ".join(verdict["problems"])) or "no reason is given"
        yield Finding("schema", path, "damaged", f"{path} is not what the release takes: {words}")


def of_cache(answers: Path) -> Iterator[Finding]:
    """What the release's own command says of the cache in this file, asked as the service's user."""
    path = str(answers)
    if not answers.exists():
        return
    try:
        report = cache.verified(paths.SERVICE_USER, paths.COMMAND, paths.CONFIG)
    except cache.UnverifiedError:
        yield Finding("cache", path, "unknown", f"{path} cannot be checked by the present release")
        return
    if report["ok"]:
        yield Finding("cache", path, "whole", f"{path}: {report['entries']} answers")
    else:
        yield Finding("cache", path, "damaged", f"{path}: {'; '.join(report['problems'])}")


def of_journal(places: Sequence[Path]) -> Iterator[Finding]:
    """What journalctl says of the files of the journal in these places."""
    place = str(places[0])
    try:
        seen = journal.verified(places, _SECONDS)
    except OSError as error:
        yield Finding("journal", place, "unknown", f"the journal cannot be verified: {error}")
        return
    for path, words in seen.damaged.items():
        yield Finding("journal", path, "damaged", f"{path} is damaged: {words}")
    if seen.left:
        words = f"{seen.left} of the journal's files were not verified within {_SECONDS} s"
        yield Finding("journal", place, "unknown", words)
    elif seen.whole and not seen.damaged:
        yield Finding("journal", place, "whole", f"{seen.whole} files of the journal")
