"""Which process listens on which TCP port, read from /proc, and whether a port can be bound."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import process as common_process

# TCP_LISTEN of the kernel's include/net/tcp_states.h.
_LISTENING = "0A"

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def ports_of(pids: Iterable[int], proc: Path) -> set[int]:
    """The TCP ports on which processes listen, on any address."""
    inodes = {inode for pid in pids for inode in _inodes(proc / str(pid))}
    return {port for inode, (_, port) in _listening(proc).items() if inode in inodes}


def listeners(ports: Iterable[int], proc: Path) -> dict[int, int]:
    """For each of the ports on which a process listens, the lowest PID that does."""
    wanted = set(ports)
    by_inode = {inode: port for inode, (_, port) in _listening(proc).items() if port in wanted}
    holders: dict[int, int] = {}
    for pid in sorted(int(each.name) for each in proc.iterdir() if each.name.isdigit()):
        for inode in _inodes(proc / str(pid)):
            if inode in by_inode:
                holders.setdefault(by_inode[inode], pid)
    return holders


def bind_problem(address: str, port: int, own: Iterable[int], proc: Path) -> str | None:
    """Why a process cannot listen there; None if it can, or if only the processes `own` prevent it.

    Names the process that uses the port, and its unit.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except (OSError, OverflowError) as error:
        number = error.errno if isinstance(error, OSError) else None
        # The errors of name resolution have numbers of their own.
        reason = str(error) if isinstance(error, socket.gaierror) or not number else os.strerror(number)
        if number != errno.EADDRINUSE or isinstance(error, socket.gaierror):
            return reason
        users = holders(str(place[0]), port, proc)
        others = sorted(users - set(own))
        if users and not others:
            return None
        return f"{reason} by {_name(others[0], proc)}" if others else reason
    return None


def holders(address: str, port: int, proc: Path) -> set[int]:
    """The processes with a listening socket that prevents another one on this IP address and port."""
    requested = ipaddress.ip_address(address)
    inodes = {
        inode
        for inode, place in _listening(proc).items()
        if place[1] == port and _conflict(requested, place[0])
    }
    return {
        int(each.name)
        for each in proc.iterdir()
        if each.name.isdigit() and not inodes.isdisjoint(_inodes(each))
    }


def _conflict(one: _Address, other: _Address) -> bool:
    """Whether two sockets with these addresses cannot have the same port."""
    # A socket for all IPv6 addresses accepts IPv4 too, unless it was made otherwise.
    return one == other or any(
        each.is_unspecified and (each.version == 6 or one.version == other.version) for each in (one, other)
    )


def _name(pid: int, proc: Path) -> str:
    """A process as part of a sentence: its name, its PID and its unit."""
    try:
        name = common_process.stat(proc / str(pid))[0]
        unit = common_process.unit(proc / str(pid))
    except (OSError, ValueError):
        return f"process {pid}"
    return f"{name} (PID {pid}) of {unit}"


def _inodes(process: Path) -> set[str]:
    inodes: set[str] = set()
    # Processes and files may disappear meanwhile.
    with contextlib.suppress(OSError):
        for file in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if match := re.fullmatch(r"socket:\[(\d+)\]", str(file.readlink())):
                    inodes.add(match[1])
    return inodes


def _listening(proc: Path) -> dict[str, tuple[_Address, int]]:
    """Address and port of every listening socket, by inode."""
    places: dict[str, tuple[_Address, int]] = {}
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        # Local address, remote address, state ... inode [proc(5)].
        for row in (line.split() for line in lines):
            if row[3] == _LISTENING:
                address, _, port = row[1].rpartition(":")
                places[row[9]] = (_address(address), int(port, 16))
    return places


def _address(digits: str) -> _Address:
    """An address as the kernel prints it: words of 32 bits in the host's byte order."""
    words = (bytes.fromhex(digits[start : start + 8]) for start in range(0, len(digits), 8))
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    address = ipaddress.ip_address(packed)
    return (address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None) or address
