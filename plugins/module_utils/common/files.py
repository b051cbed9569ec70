"""Files on disk: replaced, created, linked and appended to whole or not at all, also after a power cut."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MOST_LOST = 300


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
        append_lines(descriptor, content, durable=True)
    finally:
        os.close(descriptor)
    if new:
        sync_directory(path.parent)


def append_lines(descriptor: int, content: bytes, *, durable: bool) -> None:
    """Add whole lines, one writer at a time; synced when they are to be durable.

    What a dead writer left of a line becomes a line of its own. Raises OSError, ENOSPC where only a
    part was taken, with the file as it was.
    """
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        lines = b"\n" + content if torn else content
        try:
            if os.write(descriptor, lines) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durable:
                os.fsync(descriptor)
        except BaseException:
            # Half a line would spoil the next one.
            os.ftruncate(descriptor, size)
            raise
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def append_events(path: Path, *events: Mapping[str, Any], at: str, who: str) -> None:
    """Add events with time and actor, all or none, readable by their owner alone.

    What a dead writer left of a line is taken off the end first, and told by an event of its own. The
    caller sees to it that nobody else appends meanwhile. Raises OSError, with the file as it was.
    """
    torn = _take_off_torn(path)
    told = [{"event": "torn", "lost": torn.decode(errors="replace")[:_MOST_LOST]}] if torn else []
    lines = "".join(json.dumps({"at": at, "who": who, **event}) + "\n" for event in [*told, *events])
    append(path, lines.encode(), mode=0o600)


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


def _take_off_torn(path: Path) -> bytes:
    """Cut the file after its last whole line; return what was behind it."""
    if not path.exists():
        return b""
    with path.open("rb+") as file:
        size = end = file.seek(0, os.SEEK_END)
        tail = b""
        while end > 0 and b"\n" not in tail:
            begin = max(0, end - 4096)
            tail = os.pread(file.fileno(), end - begin, begin) + tail
            end = begin
        torn = tail.rpartition(b"\n")[2]
        if torn:
            file.truncate(size - len(torn))
    return torn
