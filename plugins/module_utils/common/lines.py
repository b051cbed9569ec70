"""Lines at the end of a file that is open for reading and appending: whole, or none of them."""

from __future__ import annotations

import errno
import fcntl
import os


def append(descriptor: int, content: bytes, *, durable: bool) -> None:
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
