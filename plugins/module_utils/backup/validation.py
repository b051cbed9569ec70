"""Validates a restored release by its own command, in the sandbox of its own systemd unit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup import contents
from ansible_collections.katago.fleet.plugins.module_utils.common import systemd_run, transient_unit
from ansible_collections.katago.fleet.plugins.module_utils.service import credentials, sandbox

# Seconds that the validation may take without progress, and in total.
PATIENCE = 180
SECONDS = 3600
# Seconds to wait until a restored engine is ready. Generous, so that a busy host does not fail a backup.
ENGINE_SECONDS = 240


def command(scratch: Path, release: str, *, assets: bool, engine: bool) -> list[str]:
    """The command that validates a restored release in the service's sandbox.

    With `assets` it runs the restored Python environment with the restored engine and network, bind-mounted
    at their usual paths. Without, it runs the host's installed environment on the restored files.
    """
    restored = scratch / "opt" / "katago-mcp" / "releases" / release
    directory = paths.RELEASE_ROOT / "releases" / release
    directives: dict[str, Any] = dict(sandbox.sandbox_directives((restored / paths.SERVICE_UNIT).read_text()))
    if assets:
        binds = [f"{scratch}/opt/katago-mcp:/opt/katago-mcp", f"{scratch}/opt/katago:/opt/katago"]
        config = directory / "config.json"
    else:
        binds = [f"{restored}:{paths.BACKUP_TRIAL_CONFIG}"]
        config = paths.BACKUP_TRIAL_CONFIG / "config.json"
    directives["BindReadOnlyPaths"] = binds
    # Longer than `run_validation` waits: a limit in case the calling program is killed.
    directives["RuntimeMaxSec"] = str(SECONDS + 60)
    environment = [f"KATAGO_KATAGO_START_TIMEOUT_SECONDS={ENGINE_SECONDS}"]
    environment.append(credentials.HANDED_TOKENS)
    directives["Environment"] = [*directives.get("Environment", []), *environment]
    restored_files = {name: scratch / str(path).lstrip("/") for name, path in contents.CREDENTIALS.items()}
    directives["LoadCredential"] = [
        f"{name}:{path}" for name, path in restored_files.items() if path.exists()
    ]
    argv = [str(directory / "venv" / "bin" / "katago-mcp"), "validate", "--json", "--config", str(config)]
    return systemd_run.command(
        directives, [*argv, *([] if engine else ["--no-engine"])], unit=paths.BACKUP_TRIAL_UNIT, collect=False
    )


def run_validation(argv: Sequence[str]) -> transient_unit.Run:
    """Run the command from `command`, until it exits or makes no more progress."""
    return transient_unit.watched(argv, paths.BACKUP_TRIAL_UNIT, patience=PATIENCE, deadline=SECONDS)
