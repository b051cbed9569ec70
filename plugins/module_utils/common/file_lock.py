"""Exclusive locks on files, between the processes of one machine."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_SECONDS = 0.02


@contextmanager
def locked(path: Path, seconds: float | None = None) -> Iterator[None]:
    """Hold an exclusive lock on a file in an existing directory. The kernel releases it at process exit.

    `seconds`: how long to wait for another process; None for as long as it takes. Raises OSError;
    TimeoutError if the other process keeps the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if seconds is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        else:
            _wait(descriptor, path, seconds)
        yield
    finally:
        os.close(descriptor)


def _wait(descriptor: int, path: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                message = f"another process has locked it for {seconds:g} s; find it with `fuser {path}`"
                raise TimeoutError(errno.ETIMEDOUT, message, str(path)) from None
            time.sleep(_POLL_SECONDS)
        else:
            return
