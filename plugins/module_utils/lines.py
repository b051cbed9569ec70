"""Lines at the end of a file that is open for appending: whole, or none of them."""

from __future__ import annotations

import errno
import fcntl
import os


def append(descriptor: int, content: bytes) -> None:
    """Add whole lines, one writer at a time; they are not synced.

    Raises OSError, ENOSPC where only a part was taken, with the file as it was.
    """
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        size = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            # Half a line would spoil the next one.
            os.ftruncate(descriptor, size)
            raise
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
