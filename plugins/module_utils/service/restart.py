"""What a restart of the service needs to know: whether it is due, and how long systemd lets it stop."""

from __future__ import annotations

import re
import subprocess

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.service import credentials, unit

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


def reasons(release: str, unit_file: str) -> list[str]:
    """Why the service must be started or restarted to run a release, whose unit file says `unit_file`.

    It must be when it runs another one, or was handed other credentials than those that are there now.
    [] when it need not.
    """
    now = unit.state()
    if now.active != "active":
        return [f"the unit is {now.active}"]
    why = []
    if (running := unit.running_release(now.pid)) != release:
        why.append(f"it runs {running or 'an unknown release'}")
    for name, path in credentials.wanted(unit_file).items():
        if credentials.loaded(now.pid, name) != credentials.content(path):
            why.append(f"its {name} is not the present one")
    return why


def stop_timeout() -> float | None:
    """Seconds that systemd gives the unit to stop; None when it waits for ever."""
    return _timeout("TimeoutStopUSec")


def prepare() -> None:
    """Have systemd read the unit anew and forget earlier starts, which count towards its limit."""
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "reset-failed", paths.SERVICE_UNIT], check=False, capture_output=True)


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
