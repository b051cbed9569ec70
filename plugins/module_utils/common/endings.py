"""Says how a program ended and what it wrote last, so that no message ends with nothing after its colon."""

from __future__ import annotations

import signal
import subprocess

MOST_CHARACTERS = 1000
SEPARATOR = " | "

# What systemd itself ends a unit's process with, before the program runs [systemd.exec(5)].
_STEPS = {
    200: "systemd could not change to its working directory",
    203: "systemd could not execute the program",
    216: "systemd could not take on its group",
    217: "systemd could not take on its user",
    218: "systemd could not set its capabilities",
    226: "systemd could not set up its file systems",
    228: "systemd could not set up its system call filter",
    238: "systemd could not set up its state directory",
    239: "systemd could not set up its cache directory",
    243: "systemd could not load its credentials",
}


def last_lines(*outputs: str | None, most: int = MOST_CHARACTERS, lines: int = 5) -> str:
    """The last lines of the first output that has any, in one line; empty when none has.

    Whole lines only, but for a last one that is too long. The caller has redacted the outputs.
    """
    for output in outputs:
        kept: list[str] = []
        for line in reversed([each.strip() for each in (output or "").splitlines() if each.strip()]):
            length = sum(map(len, kept)) + len(SEPARATOR) * len(kept)
            if kept and (len(kept) == lines or length + len(line) > most):
                break
            kept.insert(0, line if len(line) <= most else f"...{line[-most:]}")
        if kept:
            return SEPARATOR.join(kept)
    return ""


def of_status(status: int) -> str:
    """How a process ended; `status` is negative for a signal, as in subprocess."""
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = str(-status)
        return f"it was killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    return f"it ended with status {status}" + (f" ({_STEPS[status]})" if status in _STEPS else "")


def said(*outputs: str | None, status: int, most: int = MOST_CHARACTERS, lines: int = 5) -> str:
    """The last lines of the first output that has any; else how the program ended without a word."""
    return last_lines(*outputs, most=most, lines=lines) or f"{of_status(status)} and wrote nothing"


def of_error(error: Exception) -> str:
    """What went wrong when a program was run: what it said, how it ended, or that it did not end in time."""
    if isinstance(error, subprocess.CalledProcessError):
        return said(error.stderr, error.stdout, status=error.returncode)
    if isinstance(error, subprocess.TimeoutExpired):
        command = error.cmd if isinstance(error.cmd, str) else " ".join(map(str, error.cmd[:3]))
        return f"`{command}` did not end within {error.timeout:g} s"
    return str(error) or type(error).__name__
