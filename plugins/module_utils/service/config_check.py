"""The configuration that the service reads, judged by the schema of the release that reads it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import endings
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import unit as service_unit

_STATE = Path("/var/lib/katago-mcp")
# The server's check of the engine's home, which lies below the state.
_HOME = "home_data_dir"


def checked(layout: release_layout.Layout, *, seconds: float | None = None) -> dict[str, Any]:
    """What `katago-mcp validate` of the current release says of it, without an engine.

    `ok`, and `problems`: what failed, in the release's own words.

    Raises:
        OSError, ValueError: if the release's command does not run.
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
        for name, path in service_unit.wanted_credentials(unit).items():
            (Path(credentials) / name).symlink_to(path)
            environment["CREDENTIALS_DIRECTORY"] = credentials
        done = subprocess.run(
            [command, "validate", "--no-engine", "--json", "--config", paths.CONFIG],
            capture_output=True,
            text=True,
            env=environment,
            cwd="/",
            timeout=seconds,
            check=False,
        )
    try:
        report = json.loads(done.stdout)
    except ValueError:
        raise ValueError(
            f"katago-mcp validate does not run: {endings.said(done.stderr, status=done.returncode)}"
        ) from None
    failed = [check for check in report["checks"] if not check["ok"]]
    # Where nothing can be written, the rule for file systems says so; the configuration is as it was.
    spared = [check for check in failed if check["name"] == _HOME and _is_read_only(_STATE)]
    problems = [check["message"] for check in failed if check not in spared]
    return {
        "ok": not problems if spared else bool(report["ok"]) and done.returncode == 0,
        "problems": problems,
    }


def _is_read_only(path: Path) -> bool:
    return path.exists() and bool(os.statvfs(path).f_flag & os.ST_RDONLY)
