"""The program katago-drill on the host: undoes an expired fault, and is the helper of faults that repeat."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import files
from ansible_collections.katago.fleet.plugins.module_utils.drill import undo, units
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import Host
from ansible_collections.katago.fleet.plugins.module_utils.procedure import drill_state

KILLS = "kills"
"""The file with the number of kills of the helper."""
_KILL_SECONDS = 1.0
_ANALYSES = 20
_ANALYSES_SECONDS = 60.0
_PAUSE_SECONDS = 0.2
_PERIOD_SECONDS = 0.1
_PERIODS = 10


def main(arguments: Sequence[str] | None = None, host: Host | None = None) -> int:
    """Run `expire`, or the work of a helper, which may have a degree in percent. Returns the exit status."""
    work, *percent = sys.argv[1:] if arguments is None else arguments
    if work == "slow-engines":
        return slow_engines(host or Host(), int(percent[0]))
    return WORK[work](host or Host())


def expire(host: Host) -> int:
    """Undo the fault if its time to live is over."""
    try:
        drill = drill_state.load(host.places.directory)
        if drill is not None and not drill.is_undone and not undo.is_due(host, drill):
            # The clock was moved; the timer elapses again by the running time.
            return 0
    except drill_state.StateError:
        # What can be undone without the record is undone.
        pass
    try:
        undo.undo(host, "expiry")
    except undo.LostError as error:
        print(f"<2>The fault of a drill cannot be undone: {error}.", file=sys.stderr)
        return units.LOST_STATUS
    except (undo.UndoError, OSError) as error:
        print(f"<3>The fault of a drill is not undone yet: {error}. Trying again.", file=sys.stderr)
        return 1
    return 0


def kill_service(host: Host) -> int:
    """Kill all processes of the service until systemd gives up."""
    kills = 0
    while host.active(paths.SERVICE_UNIT) != "failed":
        if host.processes(paths.SERVICE_UNIT):
            host.systemctl("kill", "--kill-who=all", "--signal=KILL", paths.SERVICE_UNIT, check=False)
            kills = _counted(host, kills + 1)
        host.pause(_KILL_SECONDS / 5)
    return 0


def kill_engines(host: Host) -> int:
    """Kill the service's engine again and again, until the unit of the helper ends."""
    kills = 0
    while True:
        for pid in host.engines():
            host.signal(pid, signal.SIGKILL)
            kills = _counted(host, kills + 1)
        host.pause(_KILL_SECONDS)


def slow_engines(host: Host, percent: int) -> int:
    """Let the service's engine work only `percent` of the time, until the unit of the helper ends."""
    while True:
        engines = host.engines()
        # A new engine is fast for a moment.
        for _ in range(_PERIODS):
            for number, share in ((signal.SIGCONT, percent), (signal.SIGSTOP, 100 - percent)):
                for pid in engines:
                    host.signal(pid, number)
                host.pause(_PERIOD_SECONDS * share / 100)


def keep_busy(host: Host) -> int:
    """Have the service analyse with as many visits as it allows, until the unit of the helper ends."""
    while True:
        host.analyse(_ANALYSES, _ANALYSES_SECONDS)
        host.pause(_PAUSE_SECONDS)


def _counted(host: Host, kills: int) -> int:
    files.write(host.places.volatile / KILLS, f"{kills}\n".encode(), mode=0o600)
    return kills


WORK: Mapping[str, Callable[[Host], int]] = {
    "expire": expire,
    "kill-service": kill_service,
    "kill-engines": kill_engines,
    "keep-busy": keep_busy,
}
