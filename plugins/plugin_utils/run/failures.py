"""Why a module died, without the words it died with: they may have secrets that only its host knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_LONGEST = 300
_KIND = re.compile(r"^(?:[A-Za-z_]\w*\.)*([A-Z]\w*(?:Error|Exception|Interrupt|Exit))(?::|$)", re.M)

_ROOM = re.compile(
    "No space left on device|Read-only file system|Disk quota exceeded|No usable temporary directory found"
)


def reason(answer: Mapping[str, Any]) -> str:
    """What a module's answer says of its failure.

    Of standard error only a full or read-only disk, or else the type of the exception.
    """
    if room := _ROOM.search(str(answer.get("module_stderr") or "")):
        return (
            f"its module could not write a file ({room[0]}). Free space on the host: see `df -h` and `df -i`,"
            " also for /tmp, /var/tmp and /dev/shm, where temporary files are written"
        )
    if kinds := _KIND.findall(str(answer.get("module_stderr") or "")):
        return f"its module died of {kinds[-1]}"
    said = str(answer.get("msg") or "").strip() or "no reason given"
    return said if len(said) <= _LONGEST else f"...{said[-_LONGEST:].partition(' ')[2]}"
