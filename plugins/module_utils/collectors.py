"""What is kept of a host before it is changed: the volatile evidence, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import history, locks, service


@dataclass(frozen=True)
class Collector:
    """One item: a command, a file, or an address of the service; `seconds` is its deadline.

    No collector shows arguments or environments of processes, which may hold secrets.
    """

    name: str
    command: tuple[str, ...] = ()
    file: str = ""
    address: str = ""
    seconds: float = 10


@dataclass(frozen=True)
class Item:
    """What a collector got; `problem` says why nothing, or not all of it."""

    name: str
    content: bytes
    seconds: float
    problem: str = ""


LIMIT = 4 << 20
"""Bytes that are kept of one item; the newest of a command, the first of a file."""

VOLATILE = (
    Collector("metrics.txt", address="metrics:/metrics", seconds=5),
    Collector("health.json", address="server:/health", seconds=5),
    Collector("ready.json", address="server:/ready", seconds=5),
    Collector(
        "processes.txt",
        ("ps", "-e", "-o", "pid,ppid,user,stat,etimes,pcpu,pmem,rss,nlwp,unit,comm", "--sort=-rss"),
        seconds=5,
    ),
    Collector(
        "unit.txt",
        (
            "systemctl",
            "show",
            service.UNIT,
            "--property=ActiveState,SubState,Result,MainPID,ExecMainStatus,NRestarts,ActiveEnterTimestamp,"
            "StateChangeTimestamp,MemoryCurrent,CPUUsageNSec,TasksCurrent,StatusText,DropInPaths",
        ),
        seconds=5,
    ),
    Collector("memory.txt", file="/proc/meminfo"),
    Collector("memory-pressure.txt", file="/proc/pressure/memory"),
    Collector("cpu-pressure.txt", file="/proc/pressure/cpu"),
    Collector("io-pressure.txt", file="/proc/pressure/io"),
    Collector("load.txt", file="/proc/loadavg"),
    Collector("disk.txt", ("df", "-P", "-T")),
    Collector("inodes.txt", ("df", "-P", "-i")),
    Collector("history.jsonl", file=str(history.FILE)),
    Collector("lock.json", file=str(locks.FILE)),
    Collector(
        "journal.jsonl",
        (
            "journalctl",
            f"--unit={service.UNIT}",
            "--lines=5000",
            "--output=json",
            "--output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_PID",
            "--no-pager",
            "--quiet",
        ),
        seconds=20,
    ),
)


def manifest_entry(item: Item, sha256: str, size: int) -> dict[str, Any]:
    """An item as the manifest lists it; times in seconds, sizes in bytes."""
    return {
        "name": item.name,
        "sha256": sha256,
        "bytes": size,
        "seconds": round(item.seconds, 3),
        "problem": item.problem or None,
    }
