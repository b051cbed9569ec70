"""Other programs of a host that are asked something, whether they are there or not."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence


def ask(command: Sequence[str], seconds: float | None = None, given: str = "") -> tuple[int, str]:
    """A command's exit status and all that it wrote; 127 when it is not there, 124 when it took too long.

    `given` is its input.
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
        return 124, f"{command[0]} gave no answer within {seconds:g} s"
    return done.returncode, done.stdout
