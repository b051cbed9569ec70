"""Runs programs on a host with a time limit, so that none can block the run."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.katago.fleet.plugins.module_utils.common import commands

SECONDS = 60


def ask(command: Sequence[str], seconds: float = SECONDS) -> tuple[int, str]:
    """Run a command as `commands.ask` does, by default for at most a minute."""
    return commands.ask(command, seconds)
