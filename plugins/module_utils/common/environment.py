"""Installs a Python environment on a host from wheels alone, without network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import endings

# Long enough for a slow or busy host; it only has to stop a step that hangs.
INSTALL_SECONDS = 1800


class BuildError(Exception):
    """The environment cannot be built; the message has the output of the step that failed."""


def install(venv: Path, wheels: Path, temporary: Path) -> None:
    """Create the environment from wheels alone, without pip in it, and compile it.

    `wheels`: a directory with the wheels, those of pip among them, and `requirements.txt` with their hashes.
    `temporary`: a directory for temporary files. Raises BuildError, OSError and TimeoutExpired.
    """
    (pip,) = wheels.glob("pip-*.whl")
    run([sys.executable, "-m", "venv", "--without-pip", str(venv)], temporary)
    python = str(venv / "bin" / "python")
    run(
        [
            python,
            f"{pip}/pip",
            "install",
            "--quiet",
            "--no-index",
            f"--find-links={wheels}",
            "--require-hashes",
            "--no-compile",
            "--no-cache-dir",
            "--disable-pip-version-check",
            f"--requirement={wheels}/requirements.txt",
        ],
        temporary,
    )
    run(
        [
            python,
            "-m",
            "compileall",
            "-q",
            "-j",
            "0",
            "--invalidation-mode=unchecked-hash",
            str(venv / "lib"),
        ],
        temporary,
    )


def run(command: list[str], temporary: Path) -> None:
    """Run a step of the build, independent of the user's settings. Raises BuildError if it fails."""
    environment = {
        "PATH": os.environ["PATH"],
        "PIP_CONFIG_FILE": os.devnull,
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "TMPDIR": str(temporary),
    }
    result = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if result.returncode != 0:
        output = endings.describe(result.stderr, result.stdout, status=result.returncode, lines=3)
        raise BuildError(f"`{Path(command[0]).name} {' '.join(command[1:3])}` failed: {output}")
