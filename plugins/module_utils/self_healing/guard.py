"""Keeps a program of self-healing from running meanwhile."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_SECONDS = 0.1


class BusyError(Exception):
    """The program runs; the message says what to do, in sentences."""


@contextmanager
def held(path: Path, seconds: float) -> Iterator[None]:
    """Hold the guard. Wait at most so many seconds for the program. Raises BusyError and OSError."""
    guard = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + seconds
    try:
        while True:
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise BusyError(
                        "A repair is running. Wait until it has finished, then run again."
                    ) from None
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(guard)
