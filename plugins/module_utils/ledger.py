"""A file of JSON lines that is only appended to: durably, whole lines, also after a writer died."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import atomic

_MOST_LOST = 300


def append(path: Path, *events: Mapping[str, Any], at: str, who: str) -> None:
    """Add events with time and actor, all or none, readable by their owner alone.

    What a dead writer left of a line is taken off the end first, and told by an event of its own. The
    caller sees to it that nobody else appends meanwhile. Raises OSError, with the file as it was.
    """
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        torn = _take_off_torn(descriptor)
        told = [{"event": "torn", "lost": torn.decode(errors="replace")[:_MOST_LOST]}] if torn else []
        lines = "".join(json.dumps({"at": at, "who": who, **event}) + "\n" for event in [*told, *events])
        size = os.fstat(descriptor).st_size
        if os.write(descriptor, lines.encode()) < len(lines.encode()):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        atomic.sync_directory(path.parent)


def _take_off_torn(descriptor: int) -> bytes:
    """Cut the file after its last whole line; return what was behind it."""
    size = end = os.fstat(descriptor).st_size
    tail = b""
    while end > 0 and b"\n" not in tail:
        begin = max(0, end - 4096)
        tail = os.pread(descriptor, end - begin, begin) + tail
        end = begin
    torn = tail.rpartition(b"\n")[2]
    if torn:
        os.ftruncate(descriptor, size - len(torn))
    return torn
