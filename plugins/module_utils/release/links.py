"""The symlinks through which a host runs its current release."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout


def of_host(layout: release_layout.Layout, release: str) -> dict[Path, str]:
    """Every symlink of a host that runs `release`: path to target.

    `current` comes last, so a switch that is killed has no effect.
    """
    current = layout.current
    return {
        paths.CONFIG: str(current / "config.json"),
        paths.COMMAND: str(current / "venv" / "bin" / "katago-mcp"),
        paths.SERVICE_UNIT_FILE: str(current / paths.SERVICE_UNIT),
        current: f"releases/{release}",
    }


def is_link(path: Path, target: str) -> bool:
    """Whether `path` is a symlink to exactly `target`."""
    return path.is_symlink() and str(path.readlink()) == target


def damage(links: dict[Path, str]) -> list[str]:
    """The links of `of_host` that are missing or were replaced, one phrase for each; [] if all are intact."""
    return [
        f"{path} {f'is not the link to {target}' if os.path.lexists(path) else 'is missing'}"
        for path, target in links.items()
        if not is_link(path, target)
    ]
