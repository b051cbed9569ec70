"""Checks by programs for damage that no checksum covers: the configuration, the cache, the journal."""

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
    """The findings of all checks on this host."""
    layout = release_layout.Layout(paths.RELEASE_ROOT)
    return [
        *check_configuration(layout, paths.CONFIG, paths.STATE),
        *check_cache(paths.ANSWERS),
        *check_journal(paths.JOURNALS),
    ]


def check_configuration(layout: release_layout.Layout, config: Path, state: Path) -> Iterator[Finding]:
    """Check the configuration by the schema of the current release. Yields nothing without a release."""
    if layout.current_release() is None:
        return
    path = str(config)
    try:
        verdict = config_check.checked(layout, config, state, seconds=_SECONDS)
    except (OSError, config_check.CheckError, subprocess.SubprocessError):
        yield Finding("schema", path, "unknown", f"the current release cannot check {path}")
        return
    if verdict["ok"]:
        yield Finding("schema", path, "whole", f"{path} is valid for the current release")
    else:
        # The problems quote the wrong value, which may be a secret in the wrong place.
        problems = host_secrets.redacted("; ".join(verdict["problems"])) or "the release gives no reason"
        yield Finding("schema", path, "damaged", f"{path} is not valid for the current release: {problems}")


def check_cache(answers: Path) -> Iterator[Finding]:
    """Check a cache file by the current release's own command, run as the service's user."""
    path = str(answers)
    if not answers.exists():
        return
    try:
        report = cache.verified(paths.SERVICE_USER, paths.COMMAND, paths.CONFIG)
    except cache.UnverifiedError:
        yield Finding("cache", path, "unknown", f"the current release cannot check {path}")
        return
    if report["ok"]:
        yield Finding("cache", path, "whole", f"{path}: {report['entries']} entries")
    else:
        yield Finding("cache", path, "damaged", f"{path}: {'; '.join(report['problems'])}")


def check_journal(places: Sequence[Path]) -> Iterator[Finding]:
    """Check the journal files in these directories by `journalctl --verify`."""
    place = str(places[0])
    try:
        verification = journal.verified(places, _SECONDS)
    except OSError as error:
        yield Finding("journal", place, "unknown", f"the journal cannot be verified: {error}")
        return
    for path, detail in verification.damaged.items():
        yield Finding("journal", path, "damaged", f"{path} is damaged: {detail}")
    if verification.left:
        message = f"{verification.left} journal files were not verified within {_SECONDS} s"
        yield Finding("journal", place, "unknown", message)
    elif verification.whole and not verification.damaged:
        yield Finding("journal", place, "whole", f"{verification.whole} journal files are intact")
