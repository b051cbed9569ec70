"""A change of a fault, with what undoes it.

A step is data: it is written to disk before it is applied, so that another process can undo it, whatever
point it had reached. It changes only what its own data name.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import digest, directories, files
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import Host
from ansible_collections.katago.fleet.plugins.module_utils.procedure import drill_state


class Step(ABC):
    """One change of a fault."""

    @abstractmethod
    def apply(self, host: Host) -> None:
        """Make the change. Raises OSError or SubprocessError; what was done by then can be undone."""

    @abstractmethod
    def undo(self, host: Host) -> None:
        """Undo the change if it is still there. Safe to repeat. What a response has changed stays.

        Raises OSError or SubprocessError.
        """

    @abstractmethod
    def remains(self, host: Host) -> str:
        """What shows that the change is still there, as part of a sentence; empty if it is undone."""


def keep(host: Host, content: bytes) -> str:
    """Keep the content of a file for a step, durably; its name. Raises OSError."""
    directory = host.places.directory / drill_state.KEPT
    directories.make(directory, own=host.places.directory, mode=directories.PRIVATE)
    name = hashlib.sha256(content).hexdigest()
    files.write(directory / name, content, mode=0o600)
    return name


def kept(host: Host, name: str) -> bytes:
    """The content of a file that a step kept. Raises OSError, also if it is damaged."""
    path = host.places.directory / drill_state.KEPT / name
    content = path.read_bytes()
    if digest.of_bytes(content) != name:
        raise OSError(f"{path} is damaged, so the original cannot be restored from it")
    return content


def content_of(path: Path) -> bytes | None:
    """The content of a file; None if it does not exist. Raises OSError."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_mount(path: Path, source: str, proc: Path) -> bool:
    """Whether a file system with this source is mounted at a path [proc(5), mountinfo]."""
    return source in mounts(proc).get(os.path.realpath(path), [])


def mounts(proc: Path) -> dict[str, list[str]]:
    """The sources of all mounts by mount point."""
    mounted: dict[str, list[str]] = {}
    for line in (proc / "self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        point = fields.split()[4].encode().decode("unicode_escape")
        mounted.setdefault(point, []).append(rest.split()[1])
    return mounted
