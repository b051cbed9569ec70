"""Stops and starts the service, and leaves no process of it running."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import endings, redaction
from ansible_collections.katago.fleet.plugins.module_utils.service import host_secrets, journal, unit
from ansible_collections.katago.fleet.plugins.module_utils.service import restart as service_restart

POLL_SECONDS = 0.05
KILL_SECONDS = 10
# Added to the unit's own timeout, after which systemd kills its processes; and the limit without a timeout.
SPARE_SECONDS = 15
PATIENCE_SECONDS = 120


class RestartError(Exception):
    """The unit did not stop or start; the message has its state."""


def stop(group: str, *, force: bool) -> None:
    """Stop the unit and wait until its control group is empty."""
    patience = service_restart.stop_timeout()
    seconds = PATIENCE_SECONDS if patience is None else patience + SPARE_SECONDS
    # Before the kill, so that systemd does not restart the unit.
    systemctl("stop", "--no-block", paths.SERVICE_UNIT)
    if force:
        systemctl("kill", "--kill-who=all", "--signal=KILL", paths.SERVICE_UNIT, check=False)
        seconds = KILL_SECONDS
    end = time.monotonic() + seconds
    while True:
        running = unit.processes(group)
        active = unit.state().active
        if not running and active in ("inactive", "failed"):
            return
        if time.monotonic() > end:
            names = ", ".join(f"{each['name']} ({each['pid']})" for each in running) or "none"
            raise RestartError(f"the unit is {active} after {seconds:g} s; processes still running: {names}")
        if force:
            kill(running)
        time.sleep(POLL_SECONDS)


def restart(group: str, *, force: bool, start_seconds: float | None = None) -> None:
    """Stop and start. If the stop takes too long, systemd starts the service as soon as it has stopped."""
    try:
        stop(group, force=force)
    except (RestartError, OSError, subprocess.SubprocessError):
        systemctl("start", "--no-block", paths.SERVICE_UNIT, check=False)
        raise
    start(start_seconds or start_deadline())


def kill(processes: list[dict[str, Any]]) -> None:
    """Kill processes that remain in the control group; systemd no longer does once the unit has stopped."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process["pid"], signal.SIGKILL)


def start(seconds: float) -> None:
    """Reset the start counter, start the unit, and wait until it is active."""
    systemctl("reset-failed", paths.SERVICE_UNIT, check=False)
    since = time.time()
    try:
        systemctl("start", paths.SERVICE_UNIT, seconds=seconds)
    except subprocess.TimeoutExpired as expired:
        raise RestartError(f"the unit is still {unit.state().active} after {seconds:g} s") from expired
    except subprocess.CalledProcessError as failed:
        raise RestartError(f"the unit does not start: {start_failure(failed, since)}") from failed


def start_failure(failed: subprocess.CalledProcessError, since: float) -> str:
    """Why the unit did not start, by what it wrote `since` then, and its last log lines."""
    try:
        complaints = journal.complaints(journal.since(since))
    except journal.JournalError:
        complaints = []
    reason = endings.SEPARATOR.join(complaints) or endings.describe(
        redaction.plain(failed.stderr), status=failed.returncode
    )
    lines = unit.journal(since=since)
    return str(host_secrets.redacted(f"{reason}\nIts last log lines:\n{lines or 'none'}"))


def start_deadline() -> float:
    """Seconds to wait for the start: a little longer than the unit's own timeout."""
    patience = service_restart.start_timeout()
    return PATIENCE_SECONDS if patience is None else patience + SPARE_SECONDS


def systemctl(*arguments: str, check: bool = True, seconds: float = 120) -> None:
    """Run systemctl. Raises SubprocessError."""
    subprocess.run(["systemctl", *arguments], check=check, capture_output=True, text=True, timeout=seconds)
