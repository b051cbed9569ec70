"""Restarts: why the service needs one, and how long systemd allows for stop and start."""

from __future__ import annotations

import re
import subprocess

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.service import credentials, unit

# A duration as systemctl prints it [systemd.time(7)]: "1min 30s".
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
    """Why the service must be started or restarted to run a release; [] if it need not be.

    It must be if it does not run, runs another release, or has credentials that differ from those on disk.
    `unit_file`: the content of the release's unit file.
    """
    now = unit.state()
    if now.active != "active":
        return [f"the unit is {now.active}"]
    problems = []
    if (running := unit.running_release(now.pid)) != release:
        problems.append(f"it runs {running or 'an unknown release'}")
    for name, path in credentials.in_unit(unit_file).items():
        if credentials.loaded(now.pid, name) != credentials.content(path):
            problems.append(f"its {name} differs from the one on disk")
    return problems


def stop_timeout() -> float | None:
    """Seconds that systemd allows the unit to stop; None if there is no limit."""
    return _timeout("TimeoutStopUSec")


def prepare() -> None:
    """Make systemd reload the unit and reset its start counter, which counts towards the start limit."""
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "reset-failed", paths.SERVICE_UNIT], check=False, capture_output=True)


def load_problem() -> str | None:
    """Why systemd cannot start the unit as it is on disk now; None if it can."""
    done = subprocess.run(
        ["systemctl", "show", paths.SERVICE_UNIT, "--property=LoadState,LoadError"],
        capture_output=True,
        text=True,
        check=True,
    )
    fields = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if fields.get("LoadState") in ("loaded", None):
        return None
    reason = f"{fields['LoadState']} {fields.get('LoadError', '')}".strip()
    return f"systemd cannot start {paths.SERVICE_UNIT}: {reason}"


def start_timeout() -> float | None:
    """Seconds that systemd allows the unit to start; None if there is no limit."""
    return _timeout("TimeoutStartUSec")


def _timeout(name: str) -> float | None:
    done = subprocess.run(
        ["systemctl", "show", paths.SERVICE_UNIT, f"--property={name}", "--value"],
        capture_output=True,
        text=True,
        check=True,
    )
    spans = _SPAN.findall(done.stdout)
    return sum(float(number) * _SECONDS[unit] for number, unit in spans) if spans else None
