"""Runs programs of a host that may not be installed, and returns their output."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence


def ask(command: Sequence[str], seconds: float | None = None, given: str = "") -> tuple[int, str]:
    """Run a command; return its exit status and its output (stdout and stderr).

    The status is 127 if the program is not installed, 124 if it took longer than `seconds`. `given`: stdin.
    """
    try:
        done = subprocess.run(
            command,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        return 127, f"{command[0]} is not installed"
    except subprocess.TimeoutExpired:
        return 124, f"{command[0]} did not answer within {seconds:g} s"
    return done.returncode, done.stdout
