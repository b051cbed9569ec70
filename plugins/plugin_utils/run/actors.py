"""Who works on this control node, for records and locks: several people may share an account."""

from __future__ import annotations

import getpass
import os
import pwd
import socket
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
_NO_LOGIN = 2**32 - 1
"""What the kernel has as the login of a process that nobody logged in for, as of cron."""
_PSEUDO_TERMINALS = range(136, 144)
_CONSOLES = 4


def actor() -> str:
    """Who logged in, the control node, and the address of the SSH connection: user@node from ADDRESS."""
    address = _address(_environments())
    return f"{_user()}@{socket.gethostname()}" + (f" from {address}" if address else "")


def session(pid: int) -> str:
    """The terminal and the process of a run: `terminal pts/3, process 4711`."""
    terminal = _terminal(pid)
    return f"{f'terminal {terminal}' if terminal else 'no terminal'}, process {pid}"


def _user() -> str:
    """The person behind sudo, else who logged in before `su`, else the account."""
    if name := os.environ.get("SUDO_USER"):
        return name
    try:
        login = int((_PROC / "self" / "loginuid").read_text())
        return pwd.getpwuid(login).pw_name if login != _NO_LOGIN else getpass.getuser()
    except (OSError, ValueError, KeyError):
        return getpass.getuser()


def _address(environments: Iterator[Mapping[str, str]]) -> str:
    """The client's address in the nearest environment that has an SSH connection; empty for none."""
    for environment in environments:
        if connection := environment.get("SSH_CONNECTION", "").split():
            return connection[0]
    return ""


def _environments() -> Iterator[Mapping[str, str]]:
    """The environment of this process and of those that started it, since sudo and su remove variables."""
    yield os.environ
    yield from _of_ancestors(os.getppid())


@cache
def _of_ancestors(pid: int) -> tuple[Mapping[str, str], ...]:
    environments = []
    while pid > 1:
        try:
            content = (_PROC / str(pid) / "environ").read_bytes()
            pid = int(_stat(pid)[1])
        except (OSError, ValueError, IndexError):
            # The processes of another account are not readable without root.
            break
        environments.append(_parsed(content))
    return tuple(environments)


def _parsed(content: bytes) -> Mapping[str, str]:
    pairs = (each.partition("=") for each in content.decode(errors="replace").split("\0"))
    return {name: value for name, _, value in pairs}


def _terminal(pid: int) -> str:
    try:
        device = int(_stat(pid)[4])
    except (OSError, ValueError, IndexError):
        return ""
    major, minor = os.major(device), os.minor(device)
    if major in _PSEUDO_TERMINALS:
        return f"pts/{(major - _PSEUDO_TERMINALS.start) * 256 + minor}"
    return f"tty{minor}" if major == _CONSOLES else ""


def _stat(pid: int) -> list[str]:
    """The fields of a process after its name, which may hold anything: state, parent, ... (proc(5))."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
