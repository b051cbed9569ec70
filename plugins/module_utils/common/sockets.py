"""Which process listens on which TCP port, read from /proc."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

# TCP_LISTEN of the kernel's include/net/tcp_states.h.
_LISTENING = "0A"


def ports_of(pids: Iterable[int], proc: Path) -> set[int]:
    """The TCP ports on which processes listen, on any address."""
    inodes = {inode for pid in pids for inode in _inodes(proc / str(pid))}
    return {port for inode, port in _listening(proc).items() if inode in inodes}


def listeners(ports: Iterable[int], proc: Path) -> dict[int, int]:
    """For each of the ports on which a process listens, the lowest PID that does."""
    wanted = set(ports)
    by_inode = {inode: port for inode, port in _listening(proc).items() if port in wanted}
    holders: dict[int, int] = {}
    for pid in sorted(int(each.name) for each in proc.iterdir() if each.name.isdigit()):
        for inode in _inodes(proc / str(pid)):
            if inode in by_inode:
                holders.setdefault(by_inode[inode], pid)
    return holders


def _inodes(process: Path) -> set[str]:
    inodes: set[str] = set()
    # Processes and files may disappear meanwhile.
    with contextlib.suppress(OSError):
        for file in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if match := re.fullmatch(r"socket:\[(\d+)\]", str(file.readlink())):
                    inodes.add(match[1])
    return inodes


def _listening(proc: Path) -> dict[str, int]:
    """The port of every listening socket, by inode."""
    ports: dict[str, int] = {}
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        # Local address, remote address, state ... inode [proc(5)].
        for row in (line.split() for line in lines):
            if row[3] == _LISTENING:
                ports[row[9]] = int(row[1].rpartition(":")[2], 16)
    return ports
