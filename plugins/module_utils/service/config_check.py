"""Checks the service's configuration against the schema of the release that reads it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TypedDict

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import endings, shape
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import credentials as service_credentials
from ansible_collections.katago.fleet.plugins.module_utils.service import validate_report

# The server's check of the engine's home directory, which is in the state directory.
_HOME = "home_data_dir"


class Verdict(TypedDict):
    """Whether the release accepts the configuration; `problems` are the release's own messages."""

    ok: bool
    problems: list[str]


class CheckError(Exception):
    """The release's command failed before it gave a verdict; the message has the reason."""


def checked(
    layout: release_layout.Layout, config: Path, state: Path, *, seconds: float | None = None
) -> Verdict:
    """Run `katago-mcp validate` of the current release on a configuration, without an engine.

    `state`: the service's state directory.

    Raises:
        OSError, CheckError: if the release's command does not run.
        TimeoutExpired: if it takes longer than `seconds`.
    """
    environment = {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        # Releases must stay unchanged.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = layout.current / "venv" / "bin" / "katago-mcp"
    unit = (layout.current / paths.SERVICE_UNIT).read_text()
    with tempfile.TemporaryDirectory() as credentials:
        for name, path in service_credentials.in_unit(unit).items():
            (Path(credentials) / name).symlink_to(path)
            environment["CREDENTIALS_DIRECTORY"] = credentials
        done = subprocess.run(
            [command, "validate", "--no-engine", "--json", "--config", config],
            capture_output=True,
            text=True,
            env=environment,
            cwd="/",
            timeout=seconds,
            check=False,
        )
    try:
        report = validate_report.parse(done.stdout)
    except shape.ShapeError as error:
        reason = endings.describe(done.stderr, str(error) if done.stdout else "", status=done.returncode)
        raise CheckError(f"katago-mcp validate failed: {reason}") from error
    # A read-only disk fails the check of the home directory. The configuration is not at fault, and triage
    # has a rule for file systems.
    failed = validate_report.failed(report)
    ignored = [check for check in failed if check["name"] == _HOME and _is_read_only(state)]
    problems = [check["message"] for check in failed if check not in ignored]
    return {
        "ok": not problems if ignored else report["ok"] and done.returncode == 0,
        "problems": problems,
    }


def _is_read_only(path: Path) -> bool:
    return path.exists() and bool(os.statvfs(path).f_flag & os.ST_RDONLY)
