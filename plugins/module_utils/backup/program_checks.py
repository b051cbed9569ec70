"""What programs find damaged on a host that no digest tells: its configuration, its cache, its journal."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

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
    """Everything that was found."""
    return [*of_configuration(), *of_cache(), *of_journal()]


def of_configuration(layout: release_layout.Layout | None = None) -> Iterator[Finding]:
    """What the current release's own schema says of the configuration; nothing where there is no release."""
    layout = layout or release_layout.Layout(paths.RELEASE_ROOT)
    if layout.current_release() is None:
        return
    path = str(paths.CONFIG)
    try:
        report = config_check.checked(layout, seconds=_SECONDS)
    except (OSError, ValueError, LookupError, TypeError, subprocess.SubprocessError):
        yield Finding("schema", path, "unknown", f"{path} cannot be checked by the present release")
        return
    if report["ok"]:
        yield Finding("schema", path, "whole", f"{path} is what the release takes")
    else:
        # They name the value that is wrong, which may be a secret in the wrong place.
        words = host_secrets.shown("; ".join(report["problems"])) or "no reason is given"
        yield Finding("schema", path, "damaged", f"{path} is not what the release takes: {words}")


def of_cache() -> Iterator[Finding]:
    """What the release's own command says of the cache, asked as the service's user."""
    path = str(paths.ANSWERS)
    if not paths.ANSWERS.exists():
        return
    try:
        report = cache.verified(paths.SERVICE_USER)
    except cache.UnverifiedError:
        yield Finding("cache", path, "unknown", f"{path} cannot be checked by the present release")
        return
    if report["ok"]:
        yield Finding("cache", path, "whole", f"{path}: {report['entries']} answers")
    else:
        yield Finding("cache", path, "damaged", f"{path}: {'; '.join(report['problems'])}")


def of_journal() -> Iterator[Finding]:
    """What journalctl says of the journal's files."""
    place = str(paths.JOURNALS[0])
    try:
        seen = journal.verified(_SECONDS)
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
