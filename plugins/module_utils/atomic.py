"""Changes on disk that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write(path: Path, content: bytes, *, mode: int) -> None:
    """Replace or create a file: written beside it, synced, renamed."""
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).rename(path)
    except BaseException:
        Path(scratch).unlink()
        raise
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
