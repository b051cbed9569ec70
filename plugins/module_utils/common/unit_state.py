"""Whether systemd, and a unit's process, use the files that the unit has now.

A run may be killed between writing a file and the reload or the restart. The next run must not conclude from
the file, which is right by then, that nothing is left to do. So it reads what is loaded:

- systemd itself: whether a unit's files changed since it read them;
- a process that reads its files when it starts: whether one of them is newer than the process;
- a process that reads them again at a reload: what it reports, or `load_balancer.loaded`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 60
_PROPERTIES = (
    "ActiveState",
    "ActiveEnterTimestamp",
    "ExecMainStartTimestamp",
    "InvocationID",
    "NeedDaemonReload",
    "UnitFileState",
)


@dataclass(frozen=True)
class State:
    """A unit according to systemd.

    `started`: when its process started, or the unit itself if it has none; Unix time in whole seconds, 0 if
    it never did. `invocation`: identifies this run of the unit; a reload does not change it. `needs_reload`:
    whether systemd has not read the unit's files since they changed.
    """

    active: bool
    enabled: bool
    needs_reload: bool
    started: float
    invocation: str

    @property
    def is_current(self) -> bool:
        """Whether the unit runs, also after a reboot, and systemd has read its files."""
        return self.active and self.enabled and not self.needs_reload

    def is_older_than(self, paths: Iterable[Path]) -> bool:
        """Whether one of the files changed after the second in which the unit started."""
        return any(changed_at(path) >= self.started + 1 for path in paths)


def read(unit: str) -> State:
    """The state of a unit. Raises OSError, subprocess.SubprocessError."""
    shown = properties(unit, *_PROPERTIES)
    times = (shown.get(name) or "" for name in ("ExecMainStartTimestamp", "ActiveEnterTimestamp"))
    return State(
        active=shown.get("ActiveState") == "active",
        enabled=shown.get("UnitFileState") == "enabled",
        needs_reload=shown.get("NeedDaemonReload") == "yes",
        started=next((float(time.removeprefix("@")) for time in times if time), 0.0),
        invocation=shown.get("InvocationID", ""),
    )


def is_timer_current(timer: str, *services: str) -> bool:
    """Whether a timer runs, and systemd has read its file and those of the services that it starts.

    Raises OSError, subprocess.SubprocessError.
    """
    return read(timer).is_current and not any(read(service).needs_reload for service in services)


def properties(unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit according to systemd. Raises OSError, subprocess.SubprocessError."""
    done = subprocess.run(
        ["systemctl", "show", unit, "--timestamp=unix", f"--property={','.join(names)}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=_SECONDS,
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def changed_at(path: Path) -> float:
    """When a file, or a link that leads to it, changed, as Unix time; 0 if there is no file."""
    try:
        links = [each for each in (path, *path.parents) if each.is_symlink()]
        return max(path.stat().st_mtime, *(link.lstat().st_mtime for link in links), 0.0)
    except FileNotFoundError:
        return 0.0
