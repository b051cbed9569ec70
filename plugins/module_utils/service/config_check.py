"""The configuration that the service reads, judged by the schema of the release that reads it."""

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

# The server's check of the engine's home, which lies below the state.
_HOME = "home_data_dir"


class Verdict(TypedDict):
    """Whether the release takes the configuration, and what failed, in the release's own words."""

    ok: bool
    problems: list[str]


class CheckError(Exception):
    """The release's command gave no verdict; the message says why."""


def checked(
    layout: release_layout.Layout, config: Path, state: Path, *, seconds: float | None = None
) -> Verdict:
    """What `katago-mcp validate` of the current release says of a configuration, without an engine.

    `state`: the directory that holds the service's state.

    Raises:
        OSError, CheckError: if the release's command does not run.
        TimeoutExpired: if it takes longer than `seconds`.
    """
    environment = {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        # Nothing may be written into a release.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = layout.current / "venv" / "bin" / "katago-mcp"
    unit = (layout.current / paths.SERVICE_UNIT).read_text()
    with tempfile.TemporaryDirectory() as credentials:
        for name, path in service_credentials.wanted(unit).items():
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
        said = endings.said(done.stderr, str(error) if done.stdout else "", status=done.returncode)
        raise CheckError(f"katago-mcp validate does not run: {said}") from error
    # Where nothing can be written, the rule for file systems says so; the configuration is as it was.
    failed = validate_report.failed(report)
    spared = [check for check in failed if check["name"] == _HOME and _is_read_only(state)]
    problems = [check["message"] for check in failed if check not in spared]
    return {
        "ok": not problems if spared else report["ok"] and done.returncode == 0,
        "problems": problems,
    }


def _is_read_only(path: Path) -> bool:
    return path.exists() and bool(os.statvfs(path).f_flag & os.ST_RDONLY)
