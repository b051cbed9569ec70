"""Runs a command that has a result when Ctrl-C ends it: `bin/fleet` waits for it and shows it.

Ansible ends at once and shows nothing of a task that was interrupted. The program that the task runs then
writes its result to the file that `VARIABLE` names.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

VARIABLE = "KATAGO_FLEET_INTERRUPTED_RESULT"
"""The environment variable with the path of the file for the result."""
STATUS = 130
"""The exit status of a command that was interrupted, as in a shell."""

_PATIENCE_SECONDS = 20.0
_POLL_SECONDS = 0.1


def run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command and return its exit status. After Ctrl-C, print the result that its program wrote."""
    with tempfile.TemporaryDirectory(prefix="katago-fleet-") as directory:
        result = Path(directory) / "result"
        with subprocess.Popen(list(command), env={**environment, VARIABLE: str(result)}) as process:
            try:
                return process.wait()
            except KeyboardInterrupt:
                # The terminal sent the signal to the command too.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_PATIENCE_SECONDS)
                _show(result)
        return STATUS


def _show(result: Path) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while not result.exists() and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    print(result.read_text() if result.exists() else "bin/fleet: the interrupted run left no result", end="")
