"""Changes of units and processes: stopped, restarted, slowed down, killed, stopped by a signal, frozen."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Literal

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    directories,
    files,
    systemd_run,
)
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import Host, frozen_file
from ansible_collections.katago.fleet.plugins.module_utils.drill.step import Step

_UP = ("active", "reloading")
_STOP_SECONDS = 5.0
_KILL_SECONDS = 15.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Unit(Step):
    """A unit that runs before the drill, and so must run after it.

    `change`: what the fault does to it itself: `stop`, `restart`, or nothing.
    """

    unit: str
    change: Literal["", "stop", "restart"] = ""

    def apply(self, host: Host) -> None:
        """Stop or restart the unit; kill what does not stop in a few seconds."""
        if not self.change:
            return
        host.systemctl("stop", "--no-block", self.unit)
        began = time.monotonic()
        while (active := host.active(self.unit)) not in ("inactive", "failed"):
            waited = time.monotonic() - began
            if waited > _KILL_SECONDS:
                raise OSError(f"{self.unit} is still {active} after {waited:.0f} s")
            if waited > _STOP_SECONDS:
                host.systemctl("kill", "--kill-who=all", "--signal=KILL", self.unit, check=False)
            host.pause(_POLL_SECONDS)
        if self.change == "restart":
            host.systemctl("reset-failed", self.unit, check=False)
            host.systemctl("start", "--no-block", self.unit)

    def undo(self, host: Host) -> None:
        """Start the unit if it does not run, or if it runs what the fault left."""
        if not self.remains(host):
            return
        host.systemctl("reset-failed", self.unit, check=False)
        is_running = host.active(self.unit) in _UP
        host.systemctl("restart" if is_running else "start", "--no-block", self.unit)

    def remains(self, host: Host) -> str:
        """The unit does not run, or the service runs something else than what is current."""
        active = host.active(self.unit)
        if active not in _UP:
            return "" if self._is_gone(host) else f"{self.unit} is {active}"
        if self.unit == paths.SERVICE_UNIT and (reasons := host.restart_reasons()):
            return f"{self.unit} must be restarted: {'; '.join(reasons)}"
        return ""

    def _is_gone(self, host: Host) -> bool:
        """Whether the unit was removed since, by a removal of the host's parts."""
        return host.show(self.unit, "LoadState").get("LoadState") == "not-found"


@dataclass(frozen=True)
class Quota(Step):
    """A limit on the processor time of a unit, in percent of one processor, until the next reboot."""

    unit: str
    percent: int

    def apply(self, host: Host) -> None:
        """Set the limit."""
        host.systemctl("set-property", "--runtime", self.unit, f"CPUQuota={self.percent}%")

    def undo(self, host: Host) -> None:
        """Remove the limit and its drop-in, which no one else has: the fault refuses to replace one."""
        if not self.remains(host):
            return
        host.systemctl("set-property", "--runtime", self.unit, "CPUQuota=")
        file = quota_file(host, self.unit)
        file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            file.parent.rmdir()
        host.systemctl("daemon-reload")

    def remains(self, host: Host) -> str:
        """The limit is in force, or its drop-in exists."""
        if quota_file(host, self.unit).exists():
            return f"the processor time of {self.unit} is limited by {quota_file(host, self.unit)}"
        return ""


def limits_processors(host: Host) -> bool:
    """Whether systemd can limit the processor time of a unit here.

    In a container, the controller may be missing or read-only; systemd then accepts a limit without effect.
    """
    for hierarchy in host.places.control_groups:
        controllers = hierarchy / "system.slice/cgroup.controllers"
        if controllers.is_file() and "cpu" in controllers.read_text().split():
            return os.access(controllers.parent, os.W_OK)
    return os.access(host.places.control_groups[0] / "cpu", os.W_OK)


def quota_file(host: Host, unit: str) -> Path:
    """The drop-in that systemd writes for a limit until the next reboot."""
    return host.places.runtime_properties / f"{unit}.d" / "50-CPUQuota.conf"


@dataclass(frozen=True)
class Helper(Step):
    """A unit that repeats something for a while: `work` of the drill's program, for at most `seconds`.

    `percent`: of the work, where that has a degree.
    """

    work: str
    seconds: int
    percent: int = 0

    def apply(self, host: Host) -> None:
        """Start the unit."""
        command = systemd_run.command(
            {"RuntimeMaxSec": str(self.seconds), "KillSignal": "SIGKILL"},
            [str(host.places.program), self.work, str(self.percent)],
            unit=paths.DRILL_HELPER_UNIT,
            wait=False,
        )
        host.require(*command)

    def undo(self, host: Host) -> None:
        """Stop the unit."""
        host.systemctl("stop", paths.DRILL_HELPER_UNIT, check=False)
        host.systemctl("reset-failed", paths.DRILL_HELPER_UNIT, check=False)

    def remains(self, host: Host) -> str:
        """The unit runs."""
        active = host.active(paths.DRILL_HELPER_UNIT)
        ended = active in ("inactive", "failed")
        return "" if ended else f"{paths.DRILL_HELPER_UNIT} is {active}"


@dataclass(frozen=True)
class Hung(Step):
    """Processes of a unit that are stopped by a signal.

    `pids`: with the time of their start, since a PID may be used again. `all`: every process of the unit.
    """

    unit: str
    processes: tuple[tuple[int, ...], ...] = ()
    all: bool = False

    def apply(self, host: Host) -> None:
        """Stop the processes."""
        for pid in self._pids(host):
            host.signal(pid, SIGSTOP)

    def undo(self, host: Host) -> None:
        """Continue the processes that are stopped."""
        for pid in self._stopped(host):
            host.signal(pid, SIGCONT)

    def remains(self, host: Host) -> str:
        """Processes are stopped."""
        stopped = list(self._stopped(host))
        return f"stopped processes of {self.unit}: {', '.join(map(str, stopped))}" if stopped else ""

    def _stopped(self, host: Host) -> Iterator[int]:
        return (pid for pid in self._pids(host) if host.process_state(pid) == "T")

    def _pids(self, host: Host) -> list[int]:
        if self.all:
            return host.processes(self.unit)
        return [pid for pid, started in self.processes if host.process_start(pid) == started]


@dataclass(frozen=True)
class Continued(Hung):
    """Processes of a unit that a helper stops and continues; a helper that was killed leaves them stopped."""

    def apply(self, host: Host) -> None:
        """Leave the processes to the helper."""


@dataclass(frozen=True)
class Frozen(Step):
    """A unit whose control group is frozen."""

    unit: str

    def apply(self, host: Host) -> None:
        """Freeze the control group."""
        if (file := frozen_file(host, self.unit)) is None:
            raise OSError(f"the kernel has no freezer for {self.unit}")
        file.write_text("1")

    def undo(self, host: Host) -> None:
        """Thaw the control group."""
        if self.remains(host) and (file := frozen_file(host, self.unit)):
            file.write_text("0")

    def remains(self, host: Host) -> str:
        """The control group is frozen."""
        file = frozen_file(host, self.unit)
        return f"{self.unit} is frozen" if file and file.read_text().strip() == "1" else ""


@dataclass(frozen=True)
class Blocked(Step):
    """A unit that systemd does not start until the next reboot, because of a condition that is never met."""

    unit: str

    def apply(self, host: Host) -> None:
        """Write the drop-in."""
        file = self._file(host)
        directories.make(file.parent)
        files.write(file, b"[Unit]\nConditionPathExists=!/\n", mode=0o644)
        host.systemctl("daemon-reload")

    def undo(self, host: Host) -> None:
        """Remove the drop-in."""
        is_written = self._file(host).exists()
        self._file(host).unlink(missing_ok=True)
        # Others may have files there.
        with contextlib.suppress(OSError):
            self._file(host).parent.rmdir()
        if is_written:
            host.systemctl("daemon-reload")

    def remains(self, host: Host) -> str:
        """The drop-in exists."""
        return f"{self.unit} cannot be started: {self._file(host)}" if self._file(host).exists() else ""

    def _file(self, host: Host) -> Path:
        return host.places.runtime_units / f"{self.unit}.d" / paths.DRILL_DROP_IN
