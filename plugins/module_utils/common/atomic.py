"""Changes on disk that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import lines


def write(path: Path, content: bytes, *, mode: int, group: int | None = None) -> None:
    """Replace or create a file: written beside it, synced, renamed. `group`: a numeric id, or the own one."""
    scratch = _beside(path, content, mode, group)
    try:
        scratch.rename(path)
    except BaseException:
        scratch.unlink()
        raise
    sync_directory(path.parent)


def create(path: Path, content: bytes, *, mode: int) -> bool:
    """Write a file unless there is one, whoever else does the same; return whether this one is it."""
    scratch = _beside(path, content, mode)
    try:
        path.hardlink_to(scratch)
    except FileExistsError:
        return False
    finally:
        scratch.unlink()
    sync_directory(path.parent)
    return True


def append(path: Path, content: bytes, *, mode: int) -> None:
    """Add whole lines to the end of a file, all or none; durably, and one writer at a time.

    Raises OSError, ENOSPC where only a part was taken, with the file as it was.
    """
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, mode)
    try:
        lines.append(descriptor, content, durable=True)
    finally:
        os.close(descriptor)
    if new:
        sync_directory(path.parent)


def link(path: Path, target: str) -> bool:
    """Make `path` a symlink to `target`; return whether it was not one already."""
    if path.is_symlink() and str(path.readlink()) == target:
        return False
    scratch = path.parent / f".{path.name}.{os.getpid()}"
    scratch.symlink_to(target)
    try:
        Path(scratch).rename(path)
    except BaseException:
        Path(scratch).unlink()
        raise
    sync_directory(path.parent)
    return True


def sync_directory(path: Path) -> None:
    """Make renames in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Make every file below `root`, and the directories that name them, durable."""
    for directory, _, files in os.walk(root):
        for name in files:
            path = Path(directory, name)
            if not path.is_symlink():
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        sync_directory(Path(directory))


def _beside(path: Path, content: bytes, mode: int, group: int | None = None) -> Path:
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if group is not None:
                os.fchown(file.fileno(), -1, group)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        Path(scratch).unlink()
        raise
    return Path(scratch)
