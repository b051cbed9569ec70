"""A file of JSON lines that is only appended to: durably, whole lines, also after a writer died."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import atomic

_MOST_LOST = 300


def append(path: Path, *events: Mapping[str, Any], at: str, who: str) -> None:
    """Add events with time and actor, all or none, readable by their owner alone.

    What a dead writer left of a line is taken off the end first, and told by an event of its own. The
    caller sees to it that nobody else appends meanwhile. Raises OSError, with the file as it was.
    """
    torn = _take_off_torn(path)
    told = [{"event": "torn", "lost": torn.decode(errors="replace")[:_MOST_LOST]}] if torn else []
    lines = "".join(json.dumps({"at": at, "who": who, **event}) + "\n" for event in [*told, *events])
    atomic.append(path, lines.encode(), mode=0o600)


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
