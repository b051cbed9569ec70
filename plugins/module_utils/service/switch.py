"""Switches a host to a release: finds the rollback target, checks its start, replaces the links."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import directories, files
from ansible_collections.katago.fleet.plugins.module_utils.release import catalogue, history, links
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import start_check


class SwitchError(Exception):
    """The switch is not possible; the message has the reason, as part of a sentence."""


def last_validated(layout: release_layout.Layout, records: list[history.Record], current: str | None) -> str:
    """The best rollback target that is intact. Raises SwitchError if there is none."""
    candidates = history.rollback_targets(records, available=layout.complete(), besides=current)
    for release in candidates:
        if not release_layout.damage(layout.release(release)):
            return release
    known = catalogue.describe(layout, records, current)
    command = catalogue.selectable(layout, records, current)
    take = f"To take one of them: {command}. Or deploy" if command else "Deploy"
    raise SwitchError(
        "\n".join(
            [
                "there is no earlier release that is validated and intact. On this host:",
                *(f"- {name}: {facts}" for name, facts in known.items()),
                f"{take} the inputs of an earlier release",
            ]
        )
    )


def require_start(directory: Path, unit_file: str) -> None:
    """Raise SwitchError if the service would not start with a release that is intact."""
    problems = start_check.of_release(directory, directory / "config.json", unit_file)
    if problems:
        lines = [f"- {problem.message}" for problem in problems]
        repairs = dict.fromkeys(f"Repair: {problem.repair}" for problem in problems)
        raise SwitchError(
            "\n".join([f"the service would not start with {directory.name}:", *lines, *repairs])
        )


def switch(layout: release_layout.Layout, record: history.Record, history_file: Path) -> bool:
    """Record the switch, then make it; return whether anything changed.

    The record comes first: a run that is killed may leave a release without a verdict, but never a switch
    without a record. A switch that fails is undone. Raises SwitchError.
    """
    missing = {
        path: target
        for path, target in links.of_host(layout, record.release).items()
        if not links.is_link(path, target)
    }
    try:
        if history.current(history.read(history_file)) != record.release:
            history.append(record, history_file)
        for path, target in missing.items():
            directories.make(path.parent, own=paths.own(path.parent))
            if path.exists() and not path.is_symlink():
                # Somebody's own file, or a copy of the release: a rename would overwrite it, or fail.
                path.rename(path.with_name(f".replaced-{path.name}-{record.at.replace(':', '')}"))
            files.link(path, target)
    except OSError as error:
        if record.previous and layout.current_release() != record.previous:
            files.link(layout.current, f"releases/{record.previous}")
        raise SwitchError(str(error)) from error
    return bool(missing)
