"""Identifies runs of ansible-playbook: which one this is, and whether another one is alive."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock

# Of a run's name, see `_name`. The owner of an unreadable lock has another one.
_COLONS = 2


def this_run() -> str:
    """This run of ansible-playbook: control node, process, and when that was started."""
    # Tasks are worked on by children of ansible-playbook.
    return _name(os.getppid())


def life(run: str) -> host_lock.Life:
    """Whether another run is still at work; what runs on another control node cannot be seen."""
    machine, _, process = run.partition(":")
    if machine != _machine():
        return "unknown"
    pid, _, _ = process.partition(":")
    return "alive" if _name(int(pid)) == run else "dead"


def lock_seen_from_here(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The fact about a host's lock, with whether its run is alive. A lock of this run itself is none."""
    lock = entry.get("value")
    if not isinstance(lock, dict):
        return dict(entry)
    run = str(lock.get("run"))
    if run == this_run():
        return {**entry, "value": None}
    return {**entry, "value": {**lock, "life": life(run) if run.count(":") == _COLONS else "unknown"}}


def _name(pid: int) -> str:
    try:
        # The 22nd field, after the name in parentheses, which may hold anything (proc(5)).
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        started = "gone"
    return f"{_machine()}:{pid}:{started}"


def _machine() -> str:
    # Process ids start again after a boot, and in every container.
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
