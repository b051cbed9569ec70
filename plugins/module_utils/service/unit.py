"""The service on a host as systemd sees it, and which release its process really runs."""

from __future__ import annotations

import contextlib
import grp
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import process
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout

TOKENS_MODE = 0o640
CREDENTIALS_MODE = 0o710
# For a trial: the server takes the tokens that systemd hands to it, not those that its configuration names.
HANDED_TOKENS = "KATAGO_AUTH_TOKENS_FILE="
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
# As systemd.time(7) writes a span: "1min 30s".
_SPAN = re.compile(r"([\d.]+)(us|ms|s|min|h|d|w|month|y)\b")
_SECONDS = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1,
    "min": 60,
    "h": 3600,
    "d": 86400,
    "w": 7 * 86400,
    "month": 30.44 * 86400,
    "y": 365.25 * 86400,
}


def links(layout: release_layout.Layout, release: str) -> dict[Path, str]:
    """Every symlink of a switched host; `current` comes last, so a killed switch is no switch."""
    current = layout.current
    return {
        paths.CONFIG: str(current / "config.json"),
        paths.COMMAND: str(current / "venv" / "bin" / "katago-mcp"),
        paths.SERVICE_UNIT_FILE: str(current / paths.SERVICE_UNIT),
        current: f"releases/{release}",
    }


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


def wanted_credentials(unit: str) -> dict[str, Path]:
    """The credentials that a unit file has systemd hand over: where each of them comes from."""
    lines = re.findall(r"^LoadCredential=([^:\n]+):(.+)$", unit, re.M)
    return {name: Path(path) for name, path in lines}


def tokens_file(config: Mapping[str, Any]) -> Path | None:
    """The file of tokens that a configuration has the server read by itself; None when it names none."""
    section = config.get("auth")
    name = section.get("tokensFile") if isinstance(section, Mapping) else None
    return Path(name) if isinstance(name, str) and name else None


def group_id(name: str = paths.SERVICE_GROUP) -> int | None:
    """The numeric id of a group; None when there is no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def open_credentials(directory: Path, group: int) -> None:
    """Have the own user keep a directory, and a group reach the files whose names and modes let it."""
    os.chown(directory, os.geteuid(), group)
    directory.chmod(CREDENTIALS_MODE)


def loaded_credential(pid: int, name: str) -> bytes | None:
    """What systemd handed to a process when it started; None when it was nothing."""
    return _content(Path(f"/proc/{pid}/root/run/credentials/{paths.SERVICE_UNIT}/{name}"))


def restart_reasons(release: str, unit: str) -> list[str]:
    """Why the service must be started or restarted to run a release, whose unit file says `unit`.

    It must be when it runs another one, or was handed other credentials than those that are there now.
    [] when it need not.
    """
    now = state()
    if now.active != "active":
        return [f"the unit is {now.active}"]
    reasons = []
    if (running := running_release(now.pid)) != release:
        reasons.append(f"it runs {running or 'an unknown release'}")
    for name, path in wanted_credentials(unit).items():
        if loaded_credential(now.pid, name) != _content(path):
            reasons.append(f"its {name} is not the present one")
    return reasons


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def stop_timeout() -> float | None:
    """Seconds that systemd gives the unit to stop; None when it waits for ever."""
    return _timeout("TimeoutStopUSec")


def start_timeout() -> float | None:
    """Seconds that systemd gives the unit to start; None when it waits for ever."""
    return _timeout("TimeoutStartUSec")


def _timeout(name: str) -> float | None:
    shown = subprocess.run(
        ["systemctl", "show", paths.SERVICE_UNIT, f"--property={name}", "--value"],
        capture_output=True,
        text=True,
        check=True,
    )
    spans = _SPAN.findall(shown.stdout)
    return sum(float(number) * _SECONDS[unit] for number, unit in spans) if spans else None


def prepare_restart() -> None:
    """Have systemd read the unit anew and forget earlier starts, which count towards its limit."""
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "reset-failed", paths.SERVICE_UNIT], check=False, capture_output=True)


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
