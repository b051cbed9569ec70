"""Programs of a host that are asked; none of them may hold up the run."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.katago.fleet.plugins.module_utils.common import commands

SECONDS = 60


def ask(command: Sequence[str], seconds: float = SECONDS) -> tuple[int, str]:
    """As `commands.ask`, by default for a minute."""
    return commands.ask(command, seconds)
