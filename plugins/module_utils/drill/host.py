"""The host that a drill works on: its paths, its units, its processes and its clocks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import commands, process, transient_unit
from ansible_collections.katago.fleet.plugins.module_utils.procedure import isolation
from ansible_collections.katago.fleet.plugins.module_utils.release.layout import Layout
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    admin,
    checks,
    control,
    endpoints,
    http,
)
from ansible_collections.katago.fleet.plugins.module_utils.service import restart as service_restart

_SECONDS = 10.0
_ANSWER_SECONDS = 2.0
_dice = SystemRandom()


class RefusedError(Exception):
    """The request cannot be carried out on this host; nothing was changed. The message is in sentences."""


@dataclass(frozen=True)
class Places:
    """The paths on the host that drills read and change."""

    directory: Path = paths.DRILL_DIRECTORY
    volatile: Path = paths.DRILL_VOLATILE
    program: Path = paths.DRILL_PROGRAM
    system_units: Path = paths.SYSTEM_UNITS
    runtime_units: Path = Path("/run/systemd/system")
    runtime_properties: Path = Path("/run/systemd/system.control")
    timer_stamps: Path = Path("/var/lib/systemd/timers")
    proc: Path = paths.PROC
    control_groups: tuple[Path, ...] = paths.CONTROL_GROUPS
    releases: Path = paths.RELEASE_ROOT
    engines: Path = paths.ASSETS / "engines"
    unit_file: Path = paths.SERVICE_UNIT_FILE
    config: Path = paths.CONFIG
    tokens: Path = paths.CREDENTIALS / paths.TOKENS
    key: Path = paths.CREDENTIALS / paths.KEY
    certificate: Path = paths.PINNED_CERTIFICATE
    history: Path = paths.HISTORY
    cache: Path = paths.CACHE
    answers: Path = paths.ANSWERS
    overlay: Path = paths.OVERLAY
    backup_secrets: Path = paths.BACKUP_SECRETS
    load_balancer: Path = paths.LOAD_BALANCER_SETTINGS
    security_mode: tuple[Path, Path] = paths.SECURITY_MODE
    lock: Path = paths.HOST_LOCK
    nft: Path = paths.NFT


class Host:
    """The host itself. Tests replace it, since nothing else here starts programs or signals processes."""

    def __init__(self, places: Places | None = None) -> None:
        self.places = places or Places()

    @property
    def layout(self) -> Layout:
        """The releases of the host."""
        return Layout(self.places.releases)

    def run(self, *command: str | Path, stdin: str = "", seconds: float = _SECONDS) -> tuple[int, str]:
        """Run a program; its exit status and its output. See `commands.ask`."""
        return commands.ask([str(each) for each in command], seconds, stdin)

    def require(self, *command: str | Path, stdin: str = "", seconds: float = _SECONDS) -> str:
        """Run a program that must succeed; its output. Raises OSError with the reason."""
        status, output = self.run(*command, stdin=stdin, seconds=seconds)
        if status:
            shown = " ".join(str(each) for each in command[:4])
            raise OSError(f"`{shown}` failed with status {status}: {output.strip() or 'no output'}")
        return output

    def systemctl(self, *arguments: str, check: bool = True) -> None:
        """Run systemctl. Raises SubprocessError."""
        control.systemctl(*arguments, check=check, seconds=_SECONDS)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit in systemd."""
        done = subprocess.run(
            ["systemctl", "show", unit, f"--property={','.join(properties)}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_SECONDS,
        )
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    def active(self, unit: str) -> str:
        """The state of a unit: `active`, `activating`, `inactive`, `failed`, ..."""
        return self.show(unit, "ActiveState").get("ActiveState", "unknown")

    def control_group(self, unit: str) -> str:
        """The path of a unit's control group below the root of a hierarchy; empty without one."""
        return self.show(unit, "ControlGroup").get("ControlGroup", "").strip("/")

    def processes(self, unit: str) -> list[int]:
        """The PIDs of a unit's processes."""
        return transient_unit.processes(unit)

    def engines(self) -> list[int]:
        """The PIDs of the service's processes that run an installed engine."""
        running = []
        for pid in self.processes(paths.SERVICE_UNIT):
            with contextlib.suppress(OSError):
                if (self.places.proc / str(pid) / "exe").readlink().is_relative_to(self.places.engines):
                    running.append(pid)
        return running

    def process_state(self, pid: int) -> str | None:
        """The state letter of a process, such as T if it is stopped; None if there is no such process."""
        return process.state(pid, self.places.proc)

    def process_start(self, pid: int) -> int:
        """When a process started, in clock ticks since the boot; 0 if there is no such process."""
        try:
            return int(process.stat(self.places.proc / str(pid))[1][19])
        except OSError:
            return 0

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a process, if it still exists."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def ready(self) -> bool:
        """Whether the service responds and its engine works."""
        try:
            config = admin.read_config(self.layout.current)
            answer = http.ask_json(
                config["server"]["host"],
                config["server"]["port"],
                "/ready",
                seconds=_ANSWER_SECONDS,
                tls=http.secured(config),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return answer is not None and answer[0] == 200

    def analyse(self, number: int, deadline: float) -> None:
        """Call the service for analyses with as many visits as it allows; failures do not matter.

        `deadline`: seconds for all of them.
        """
        at = endpoints.Endpoints.of_release(self.layout)
        with contextlib.suppress(OSError, ValueError):
            visits = checks.most_visits(admin.read_config(self.layout.current), at.probe("/health"))
            variants = [_dice.randrange(checks.VARIANTS) for _ in range(number)]
            at.call(paths.COMMAND, checks.probes(visits, variants), deadline)

    def service_ports(self) -> set[int]:
        """Every port of the service."""
        return isolation.service_ports()

    def restart_reasons(self) -> list[str]:
        """Why the service must be started or restarted to run its current release."""
        release = self.layout.current_release()
        if release is None:
            return []
        unit_file = self.layout.release(release) / paths.SERVICE_UNIT
        return service_restart.reasons(release, unit_file.read_text() if unit_file.is_file() else "")

    def boot(self) -> tuple[str, float]:
        """The ID of this boot, and the seconds since it, which no change of the clock moves."""
        identity = (self.places.proc / "sys/kernel/random/boot_id").read_text().strip()
        return identity, time.clock_gettime(time.CLOCK_BOOTTIME)

    def time(self) -> float:
        """Seconds since the epoch, by the host's clock."""
        return time.time()

    def set_time(self, seconds: float) -> None:
        """Set the host's clock, in seconds since the epoch. Raises OSError."""
        time.clock_settime(time.CLOCK_REALTIME, seconds)

    def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def frozen_file(host: Host, unit: str) -> Path | None:
    """The file that freezes a unit's control group; None where the kernel has none."""
    group = host.control_group(unit)
    if not group:
        return None
    files: Sequence[Path] = [each / group / "cgroup.freeze" for each in host.places.control_groups]
    return next((file for file in files if file.is_file()), None)
