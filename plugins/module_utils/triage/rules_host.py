"""Rules for the host's resources: open files, file systems, memory, memory pressure."""

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
"""The runbook's escalation trigger."""


def limits(limits: facts.Limits | None) -> Iterator[Reason]:
    """Report a process that is close to its limit of open files, or whose limit is too low."""
    if limits is None or limits["open_files_limit"] is None:
        return
    limit, used, expected = limits["open_files_limit"], limits["open_files"], limits["open_files_expected"]
    if 100 * used >= OPEN_FILES_PERCENT * limit:
        yield Reason(
            "P2",
            "limits",
            f"the service has {used} files open; its limit is {limit}",
            f"below {OPEN_FILES_PERCENT} % of the limit",
            escalate=EXHAUSTED,
            next=reason.RESTART,
        )
    if limit < expected:
        yield Reason(
            "P2" if limit < FEWEST_OPEN_FILES else "P3",
            "limits",
            f"the service may open only {limit} files",
            f"{expected}, the limit in the release's unit",
            next=reason.DEPLOY,
        )


def filesystems(filesystems: Sequence[facts.Filesystem]) -> Iterator[Reason]:
    """Report a file system that is read-only, or that has little space or few inodes left."""
    for each in filesystems:
        where = ", ".join(each["paths"])
        written = any(path.startswith("/var") for path in each["paths"])
        if each["read_only"]:
            level: Level = "P2" if written else "P3"
            expected = "writable; look for disk errors with `dmesg`"
            yield Reason(level, "filesystems", f"{where} is mounted read-only", expected)
        # No playbook frees space, since the files may be evidence. The proposals name large directories.
        for resource, percent in (
            ("disk space", each["free_percent"]),
            ("inodes", each["free_inodes_percent"]),
        ):
            what = f"the {resource} of {where} is free"
            yield from scarce("filesystems", percent, what, EXHAUSTED_PERCENT)


def memory(memory: facts.Memory) -> Iterator[Reason]:
    """Report that the host has little memory left."""
    yield from scarce(
        "memory",
        memory["available_percent"],
        "the host's memory is available",
        MEMORY_EXHAUSTED_PERCENT,
        next=reason.MITIGATE,
    )


def pressure(pressure: facts.Pressure) -> Iterator[Reason]:
    """Report that all tasks of the host stall for memory."""
    full = pressure.get("memory", facts.Stalls()).get("full")
    stalled = full["avg60"] if full else 0
    if stalled >= STALLED_PERCENT:
        yield Reason(
            "P2",
            "pressure",
            f"all tasks of the host were stalled for memory during {stalled:g} % of the last minute",
            f"below {STALLED_PERCENT} %",
            escalate=EXHAUSTED,
            next=reason.MITIGATE,
        )


def scarce(
    rule: str, percent: float | None, what: str, exhausted_percent: int, *, next: str | None = None
) -> Iterator[Reason]:
    """Report a resource of which little is left. `percent` None: unknown, so nothing is reported.

    `what` completes the sentence "only N % of ...". `next` is proposed only below `exhausted_percent`.
    """
    if percent is None or percent >= SCARCE_PERCENT:
        return
    exhausted = percent < exhausted_percent
    yield Reason(
        "P2" if exhausted else "P3",
        rule,
        f"only {percent:g} % of {what}",
        f"{exhausted_percent if exhausted else SCARCE_PERCENT} % or more",
        escalate=EXHAUSTED if exhausted else None,
        next=next if exhausted else None,
    )
