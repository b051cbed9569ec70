"""Describes how a program exited and its last log lines. A description is never empty."""

from __future__ import annotations

import signal
import subprocess

from ansible_collections.katago.fleet.plugins.module_utils.common import redaction

MOST_CHARACTERS = 1000
SEPARATOR = " | "

# The exit statuses with which systemd itself fails, before the program runs [systemd.exec(5)].
_STEPS = {
    200: "systemd could not change to its working directory",
    203: "systemd could not execute the program",
    216: "systemd could not switch to its group",
    217: "systemd could not switch to its user",
    218: "systemd could not set its capabilities",
    226: "systemd could not set up its file systems",
    228: "systemd could not set up its system call filter",
    238: "systemd could not set up its state directory",
    239: "systemd could not set up its cache directory",
    243: "systemd could not load its credentials",
}


def last_lines(*outputs: str | None, most: int = MOST_CHARACTERS, lines: int = 5) -> str:
    """The last lines of the first nonempty output, joined into one line; empty if all outputs are empty.

    What looks like a secret is redacted. Only whole lines, unless the last line alone is too long.
    """
    for output in outputs:
        selected: list[str] = []
        redacted = redaction.plain(output or "")
        for line in reversed([each.strip() for each in redacted.splitlines() if each.strip()]):
            length = sum(map(len, selected)) + len(SEPARATOR) * len(selected)
            if selected and (len(selected) == lines or length + len(line) > most):
                break
            selected.insert(0, line if len(line) <= most else f"...{line[-most:]}")
        if selected:
            return SEPARATOR.join(selected)
    return ""


def of_status(status: int) -> str:
    """Describe the exit of a process. `status`: negative for a signal, as in subprocess."""
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = str(-status)
        return f"it was killed by {name}" + (" (possibly out of memory)" if name == "SIGKILL" else "")
    return f"it exited with status {status}" + (f" ({_STEPS[status]})" if status in _STEPS else "")


def describe(*outputs: str | None, status: int, most: int = MOST_CHARACTERS, lines: int = 5) -> str:
    """The last lines of the first nonempty output; if there are none, how the program exited."""
    return last_lines(*outputs, most=most, lines=lines) or f"{of_status(status)} without any output"


def of_error(error: Exception) -> str:
    """Describe an error of subprocess: the last log lines, the exit status, or the missed deadline."""
    if isinstance(error, subprocess.CalledProcessError):
        return describe(error.stderr, error.stdout, status=error.returncode)
    if isinstance(error, subprocess.TimeoutExpired):
        command = error.cmd if isinstance(error.cmd, str) else " ".join(map(str, error.cmd[:3]))
        return f"`{command}` did not finish within {error.timeout:g} s"
    return str(error) or type(error).__name__
