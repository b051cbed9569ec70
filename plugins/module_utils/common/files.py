"""Atomic and durable changes of files: replace, create, link, append. They survive a power failure."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_LONGEST_TORN = 300


def write(path: Path, content: bytes, *, mode: int, group: int | None = None) -> None:
    """Replace or create a file atomically: write a temporary file beside it, sync, rename.

    `group`: a numeric group id; None for the process's own group.
    """
    scratch = stage(path, content, mode, group)
    try:
        scratch.rename(path)
    except BaseException:
        scratch.unlink()
        raise
    sync_directory(path.parent)


def create(path: Path, content: bytes, *, mode: int) -> bool:
    """Create a file with this content unless it exists; return whether this call created it.

    Safe against other processes that create the same file.
    """
    scratch = stage(path, content, mode)
    try:
        path.hardlink_to(scratch)
    except FileExistsError:
        return False
    finally:
        scratch.unlink()
    sync_directory(path.parent)
    return True


def append(path: Path, content: bytes, *, mode: int) -> None:
    """Append whole lines to a file, all or none, durably. Locks out other writers.

    Raises OSError and leaves the file unchanged; ENOSPC if only a part could be written.
    """
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, mode)
    try:
        with _naming(path):
            if new:
                # The umask may have removed bits.
                os.fchmod(descriptor, mode)
            append_lines(descriptor, content, durable=True)
    finally:
        os.close(descriptor)
    if new:
        sync_directory(path.parent)


def append_lines(descriptor: int, content: bytes, *, durable: bool) -> None:
    """Append whole lines, all or none. Locks out other writers. `durable`: sync the file.

    If a killed writer left an incomplete line, that line is terminated first. Raises OSError and leaves the
    file unchanged; ENOSPC if only a part could be written.
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
            # An incomplete line would corrupt the next one.
            os.ftruncate(descriptor, size)
            raise
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def append_events(path: Path, *events: Mapping[str, Any], at: str, who: str) -> None:
    """Append events with time and actor, all or none. The file is readable by its owner only.

    If a killed writer left an incomplete line, it is removed first and recorded in an event `torn`. The
    caller makes sure that no other process appends at the same time. Raises OSError and leaves the file
    unchanged.
    """
    torn = _remove_torn_line(path)
    repairs = [{"event": "torn", "lost": torn.decode(errors="replace")[:_LONGEST_TORN]}] if torn else []
    lines = "".join(json.dumps({"at": at, "who": who, **event}) + "\n" for event in [*repairs, *events])
    append(path, lines.encode(), mode=0o600)


def link(path: Path, target: str) -> bool:
    """Make `path` a symlink to `target`; return whether it was changed."""
    if path.is_symlink() and str(path.readlink()) == target:
        return False
    scratch = path.parent / f".{path.name}.{os.getpid()}"
    # A process with the same number may have been killed here.
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(target)
    try:
        Path(scratch).rename(path)
    except BaseException:
        Path(scratch).unlink()
        raise
    sync_directory(path.parent)
    return True


def stage(path: Path, content: bytes, mode: int, group: int | None = None) -> Path:
    """Write a temporary file beside a path, durably, which then can replace it by rename. Raises OSError."""
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with _naming(path), os.fdopen(descriptor, "wb") as file:
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


def sync_directory(path: Path) -> None:
    """Make renames in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Make every file and directory below `root` durable."""
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


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the path to an OSError without one: an error of write(2) does not say which disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _remove_torn_line(path: Path) -> bytes:
    """Truncate the file after its last whole line; return the removed bytes."""
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
