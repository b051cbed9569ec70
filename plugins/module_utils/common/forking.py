"""Processes of this program that may hang or die without harm to it: own groups, and none of its streams."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import NoReturn


def fork(work: Callable[[], None]) -> int:
    """Run `work` in a process of its own that leads its group; its number.

    Its status is 0 when `work` returned. Pipes that this process has open are open there too.

    Raises:
        OSError: if there can be no process.
    """
    pid = os.fork()
    if pid == 0:
        _be(work)
    # Both do it, since nobody knows who comes first.
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    return pid


def write(pipe: int, content: bytes) -> None:
    """Write all of it."""
    left = memoryview(content)
    while left:
        left = left[os.write(pipe, left) :]


def _be(work: Callable[[], None]) -> NoReturn:
    status = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        work()
        status = 0
    finally:
        os._exit(status)
