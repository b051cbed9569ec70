"""How a restored release validates itself: its own command, in the sandbox of its own unit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup import contents
from ansible_collections.katago.fleet.plugins.module_utils.common import systemd_run, transient_unit
from ansible_collections.katago.fleet.plugins.module_utils.service import credentials

# Of the validation: without any progress, and in all.
PATIENCE = 180
SECONDS = 3600
# Seconds for a restored engine to be ready: a busy host is no reason to reject a backup.
ENGINE_SECONDS = 240
# What of the service's unit does not belong to its sandbox.
_NOT_SANDBOX = (
    "Exec",
    "Type",
    "Restart",
    "Timeout",
    "Watchdog",
    "KillMode",
    "LoadCredential",
    "WorkingDirectory",
)


def sandbox_of(unit: str) -> dict[str, list[str]]:
    """The directives of a unit's service that are its sandbox, every line of each."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in unit.splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith(("#", ";", *_NOT_SANDBOX)):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def command(scratch: Path, release: str, *, assets: bool, engine: bool) -> list[str]:
    """The command that has a restored release validate itself in the service's sandbox.

    With assets it runs the restored environment on the restored engine and network, which lie in
    their own places as far as it can see; without, the present environment on the restored files.
    """
    restored = scratch / "opt" / "katago-mcp" / "releases" / release
    directory = paths.RELEASE_ROOT / "releases" / release
    directives: dict[str, Any] = dict(sandbox_of((restored / paths.SERVICE_UNIT).read_text()))
    if assets:
        binds = [f"{scratch}/opt/katago-mcp:/opt/katago-mcp", f"{scratch}/opt/katago:/opt/katago"]
        config = directory / "config.json"
    else:
        binds = [f"{restored}:{paths.BACKUP_TRIAL_CONFIG}"]
        config = paths.BACKUP_TRIAL_CONFIG / "config.json"
    directives["BindReadOnlyPaths"] = binds
    # Over what `try_out` waits, for a program that was killed.
    directives["RuntimeMaxSec"] = str(SECONDS + 60)
    environment = [f"KATAGO_KATAGO_START_TIMEOUT_SECONDS={ENGINE_SECONDS}"]
    environment.append(credentials.HANDED_TOKENS)
    directives["Environment"] = [*directives.get("Environment", []), *environment]
    handed = {name: scratch / str(path).lstrip("/") for name, path in contents.CREDENTIALS.items()}
    directives["LoadCredential"] = [f"{name}:{path}" for name, path in handed.items() if path.exists()]
    argv = [str(directory / "venv" / "bin" / "katago-mcp"), "validate", "--json", "--config", str(config)]
    return systemd_run.command(
        directives, [*argv, *([] if engine else ["--no-engine"])], unit=paths.BACKUP_TRIAL_UNIT, collect=False
    )


def try_out(argv: Sequence[str]) -> transient_unit.Run:
    """Run what `command` made, until it ends or nothing of it moves any more."""
    return transient_unit.watched(argv, paths.BACKUP_TRIAL_UNIT, patience=PATIENCE, deadline=SECONDS)
