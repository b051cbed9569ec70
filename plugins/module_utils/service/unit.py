"""The service as systemd sees it, and the release that its process really runs."""

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
    """The unit's state; `pid` is 0 if it has no main process."""

    active: str
    pid: int


def state() -> State:
    """The unit's state according to systemd."""
    done = subprocess.run(
        ["systemctl", "show", paths.SERVICE_UNIT, "--property=ActiveState,MainPID"],
        capture_output=True,
        text=True,
        check=True,
    )
    fields = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return State(active=fields["ActiveState"], pid=int(fields["MainPID"]))


def is_enabled() -> bool:
    """Whether systemd starts the service at boot."""
    command = ["systemctl", "is-enabled", "--quiet", paths.SERVICE_UNIT]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def details() -> dict[str, Any]:
    """The unit's properties in systemd, and the state of its main process, as plain values.

    `started_at`: seconds since the epoch, None if the unit never started. `process_state`: the letter of
    proc(5), such as T for a stopped process; None without a process. `drop_ins`: without that of
    self-healing.
    """
    done = subprocess.run(
        ["systemctl", "show", paths.SERVICE_UNIT, "--timestamp=unix", f"--property={','.join(_DETAILS)}"],
        capture_output=True,
        text=True,
        check=True,
    )
    fields = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
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
        "drop_ins": [
            path for path in fields["DropInPaths"].split() if path != str(paths.SELF_HEALING_DROP_IN)
        ],
    }


def control_group() -> str:
    """The path of the unit's control group below a hierarchy's root, even if the group does not exist now."""
    done = subprocess.run(
        ["systemctl", "show", paths.SERVICE_UNIT, "system.slice", "--property=ControlGroup"],
        capture_output=True,
        text=True,
        check=True,
    )
    unit, parent = (line.partition("=")[2].strip("/") for line in done.stdout.split())
    return unit or f"{parent}/{paths.SERVICE_UNIT}"


def processes(group: str) -> list[dict[str, Any]]:
    """Every process of a control group: `pid`, `name`; [] if the group does not exist."""
    pids: list[int] = []
    for hierarchy in paths.CONTROL_GROUPS:
        # The group may disappear meanwhile.
        with contextlib.suppress(FileNotFoundError):
            for file in (hierarchy / group).glob("**/cgroup.procs"):
                pids += [int(pid) for pid in _lines(file)]
    return [{"pid": pid, "name": "".join(_lines(Path(f"/proc/{pid}/comm")))} for pid in sorted(set(pids))]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def running_release(pid: int) -> str | None:
    """The release with which a process was started; systemd set it as the working directory."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink().name
    except OSError:
        return None


def journal(lines: int = 15, *, unit: str = paths.SERVICE_UNIT, since: float | None = None) -> str:
    """A unit's last log lines, for error messages. `since`: only later ones, in seconds since the epoch."""
    done = subprocess.run(
        [
            "journalctl",
            f"--unit={unit}",
            f"--lines={lines}",
            *([] if since is None else [f"--since=@{since:.6f}"]),
            "--output=cat",
            "--quiet",
            "--no-pager",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
