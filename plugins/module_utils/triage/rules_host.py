"""Rules for the host's resources: open files, file systems, memory, stalls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible_collections.katago.fleet.plugins.module_utils.severity import Level
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts, reason
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason

EXHAUSTED_PERCENT = 1
SCARCE_PERCENT = 5
MEMORY_EXHAUSTED_PERCENT = 2
STALLED_PERCENT = 20
OPEN_FILES_PERCENT = 90
FEWEST_OPEN_FILES = 1024
EXHAUSTED = "resources are exhausted"
"""What is escalated."""


def limits(limits: facts.Limits | None) -> Iterator[Reason]:
    """The process has most of its files open, or may open fewer than the release wants."""
    if limits is None or limits["open_files_limit"] is None:
        return
    limit, used, expected = limits["open_files_limit"], limits["open_files"], limits["open_files_expected"]
    if 100 * used >= OPEN_FILES_PERCENT * limit:
        yield Reason(
            "P2",
            "limits",
            f"{used} of {limit} files are open",
            f"below {OPEN_FILES_PERCENT} %",
            escalate=EXHAUSTED,
            next=reason.RESTART,
        )
    if limit < expected:
        yield Reason(
            "P2" if limit < FEWEST_OPEN_FILES else "P3",
            "limits",
            f"the process may open {limit} files",
            f"{expected} of the release's unit",
            next=reason.DEPLOY,
        )


def filesystems(filesystems: Sequence[facts.Filesystem]) -> Iterator[Reason]:
    """A file system is read-only, or has little space or few inodes left."""
    for each in filesystems:
        where = ", ".join(each["paths"])
        written = any(path.startswith("/var") for path in each["paths"])
        if each["read_only"]:
            level: Level = "P2" if written else "P3"
            yield Reason(level, "filesystems", f"{where} is mounted read-only", "writable")
        # No playbook makes room: what lies there may be evidence. The proposals say what it is.
        for what, percent in (("space", each["free_percent"]), ("inodes", each["free_inodes_percent"])):
            yield from scarce("filesystems", percent, f"the {what} of {where} is free", EXHAUSTED_PERCENT)


def memory(memory: facts.Memory) -> Iterator[Reason]:
    """Little memory is left."""
    yield from scarce(
        "memory",
        memory["available_percent"],
        "the memory is available",
        MEMORY_EXHAUSTED_PERCENT,
        next=reason.MITIGATE,
    )


def pressure(pressure: facts.Pressure) -> Iterator[Reason]:
    """Everything waits for memory."""
    full = pressure.get("memory", facts.Stalls()).get("full")
    stalled = full["avg60"] if full else 0
    if stalled >= STALLED_PERCENT:
        yield Reason(
            "P2",
            "pressure",
            f"everything waited for memory for {stalled:g} % of the last minute",
            f"below {STALLED_PERCENT} %",
            escalate=EXHAUSTED,
            next=reason.MITIGATE,
        )


def scarce(
    rule: str, percent: float | None, what: str, exhausted_percent: int, *, next: str | None = None
) -> Iterator[Reason]:
    """Too few percent of something, where that is known; `next` is for when it is exhausted."""
    if percent is None or percent >= SCARCE_PERCENT:
        return
    exhausted = percent < exhausted_percent
    yield Reason(
        "P2" if exhausted else "P3",
        rule,
        f"{percent:g} % of {what}",
        f"{exhausted_percent if exhausted else SCARCE_PERCENT} % or more",
        escalate=EXHAUSTED if exhausted else None,
        next=next if exhausted else None,
    )
