"""Tests whether a host's disks are writable by writing to them, since figures do not show every fault."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

# The service needs these to start: the engine stores compiled kernels there.
WRITTEN_BY_SERVICE = (Path("/var/lib/katago-mcp"), Path("/var/cache/katago-mcp"))
_TRIED_BYTES = 256 << 10
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def obstacles(directories: Iterable[Path] = WRITTEN_BY_SERVICE, *, full: bool = True) -> Iterator[str]:
    """One sentence for each directory in which no file can be written. Missing directories are skipped.

    `full`: whether a lack of room counts, not only a disk that is read-only or fails.
    """
    for directory in directories:
        if not directory.is_dir():
            continue
        try:
            with tempfile.TemporaryFile(dir=directory) as file:
                file.write(bytes(_TRIED_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if error.errno in _NO_ROOM and not full:
                continue
            yield f"{directory} cannot be written: {os.strerror(error.errno or 0)}"
            continue
        status = os.statvfs(directory)
        if full and status.f_blocks and status.f_bavail * status.f_frsize < _TRIED_BYTES:
            # Root may still write into the blocks that the file system reserves for it.
            yield f"{directory} cannot be written by the service: {os.strerror(errno.ENOSPC)}"
