"""The service on a host as systemd sees it, and which release its process really runs."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import process

_DETAILS = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "ExecMainStatus",
    "ExecMainStartTimestamp",
    "MainPID",
    "NRestarts",
    "DropInPaths",
)


@dataclass(frozen=True)
class State:
    """The unit's state; `pid` is 0 when it has no main process."""

    active: str
    pid: int


def state() -> State:
    """Ask systemd."""
    shown = subprocess.run(
        ["systemctl", "show", paths.SERVICE_UNIT, "--property=ActiveState,MainPID"],
        capture_output=True,
        text=True,
        check=True,
    )
    fields = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
    return State(active=fields["ActiveState"], pid=int(fields["MainPID"]))


def details() -> dict[str, Any]:
    """All that systemd says of the unit's life, and the state of its main process, as plain values.

    `started_at` in seconds since the epoch, None when it never started; `process_state` is the
    letter of proc(5), T for a stopped one, None without a process.
    """
    shown = subprocess.run(
        ["systemctl", "show", paths.SERVICE_UNIT, "--timestamp=unix", f"--property={','.join(_DETAILS)}"],
        capture_output=True,
        text=True,
        check=True,
    )
    fields = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
    pid = int(fields["MainPID"])
    started = fields["ExecMainStartTimestamp"].removeprefix("@")
    return {
        "load": fields["LoadState"],
        "active": fields["ActiveState"],
        "sub": fields["SubState"],
        "result": fields["Result"],
        "exit_status": int(fields["ExecMainStatus"]),
        "pid": pid,
        "process_state": process.state(pid, paths.PROC) if pid else None,
        "restarts": int(fields["NRestarts"]),
        "started_at": float(started) if started else None,
        "drop_ins": fields["DropInPaths"].split(),
    }


def control_group() -> str:
    """The path of the unit's control group below a hierarchy's root, also while there is none."""
    shown = subprocess.run(
        ["systemctl", "show", paths.SERVICE_UNIT, "system.slice", "--property=ControlGroup"],
        capture_output=True,
        text=True,
        check=True,
    )
    unit, parent = (line.partition("=")[2].strip("/") for line in shown.stdout.split())
    return unit or f"{parent}/{paths.SERVICE_UNIT}"


def processes(group: str) -> list[dict[str, Any]]:
    """Every process of a control group: `pid`, `name`; [] when there is no such group."""
    found: list[int] = []
    for hierarchy in paths.CONTROL_GROUPS:
        # It may end while it is looked at.
        with contextlib.suppress(FileNotFoundError):
            for file in (hierarchy / group).glob("**/cgroup.procs"):
                found += [int(pid) for pid in _lines(file)]
    return [{"pid": pid, "name": "".join(_lines(Path(f"/proc/{pid}/comm")))} for pid in sorted(set(found))]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def running_release(pid: int) -> str | None:
    """The release that a process was started from: its working directory, which systemd resolved then."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink().name
    except OSError:
        return None


def journal(lines: int = 15, *, unit: str = paths.SERVICE_UNIT) -> str:
    """A unit's last words, for the message of a failure."""
    shown = subprocess.run(
        [
            "journalctl",
            f"--unit={unit}",
            f"--lines={lines}",
            "--output=cat",
            "--quiet",
            "--no-pager",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return shown.stdout.strip()
