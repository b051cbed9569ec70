"""Writes the temporary override of limits with the timer that ends it, and has the service follow it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import disk, endings, files, shape
from ansible_collections.katago.fleet.plugins.module_utils.service import admin, limits, overlay, unit

POLL_SECONDS = 0.1
HEALTH_SECONDS = 30
SHOWN_SECONDS = 20
MODE = 0o644


class RefusedError(Exception):
    """Limits cannot be lowered on this host; the message has the reason and the remedy, in sentences."""


@dataclass(frozen=True)
class Lowered:
    """Limits that were lowered, or would be: by key of the configuration `config`.

    `before`: the override that was in force, None without one. `document`: the new one.
    """

    config: dict[str, Any]
    before: overlay.Shown | None
    lowered: Mapping[str, overlay.Number]
    document: limits.Document

    @property
    def changes(self) -> str:
        """The limits that are lower than configured, as text."""
        configured = limits.effective(self.config, {})
        return limits.changes(configured, {**configured, **self.lowered})


def lower(request: limits.Request, who: str, *, check: bool = False) -> Lowered:
    """Lower limits for a while, and wait until the service follows. `check`: change nothing.

    Raises:
        RefusedError, limits.OverlayError: nothing was changed.
        OSError, SubprocessError, RuntimeError: the service has not confirmed the limits.
    """
    config, before = look()
    lowered = limits.in_force(config, request.limits)
    expires = limits.expiry(request.minutes, datetime.now(UTC))
    document = limits.document(request.limits, expires, request.why, who)
    if problems := list(disk.obstacles((paths.OVERLAY.parent, paths.SERVICE_UNIT_FILE.parent))):
        raise RefusedError(f"{'; '.join(problems)}. Repair the disk first.")
    if not check:
        apply(expires, document)
        reload(config, document, lowered)
    return Lowered(config, before, lowered, document)


def look() -> tuple[dict[str, Any], overlay.Shown | None]:
    """The configuration of the running process, and the override that `/health` shows."""
    config = admin.running_config()
    if config is None:
        raise RefusedError(
            f"The service is not running: {paths.SERVICE_UNIT} is {unit.state().active}."
            " Start it with playbooks/restart.yml."
        )
    end = time.monotonic() + HEALTH_SECONDS
    while (answer := admin.get(config, "/health")) is None:
        if time.monotonic() > end:
            raise RefusedError(f"The service did not respond within {HEALTH_SECONDS} s.")
        time.sleep(POLL_SECONDS)
    if "overlay" not in answer[1]:
        raise RefusedError(
            f"The running release, {answer[1].get('release')}, cannot lower limits. Deploy a newer release."
        )
    return config, shown(answer[1])


def shown(health: Mapping[str, Any]) -> overlay.Shown | None:
    """The override in a response of `/health`. Raises RefusedError if it is malformed."""
    try:
        return overlay.shown(health.get("overlay"))
    except shape.ShapeError as error:
        raise RefusedError(f"The service does not report which limits are lowered: {error}.") from error


def systemctl(*arguments: str, check: bool = True) -> None:
    """Run systemctl. Raises SubprocessError."""
    subprocess.run(["systemctl", *arguments], check=check, capture_output=True, text=True, timeout=60)


def apply(expires: datetime, document: limits.Document) -> None:
    """Set the timer that ends the override, then write the override. Both replace earlier ones.

    If the module is killed at any point, the override on disk has a timer, and the server itself ends it in
    time. A failure is undone. Raises RefusedError if everything was undone, else OSError or
    SubprocessError.
    """
    before = {path: path.read_bytes() if path.exists() else None for path in limits.units(expires)}
    previous = paths.OVERLAY.read_bytes() if paths.OVERLAY.exists() else None
    try:
        arm({path: content.encode() for path, content in limits.units(expires).items()})
        files.write(paths.OVERLAY, json.dumps(document, indent=1).encode() + b"\n", mode=MODE)
    except (OSError, subprocess.SubprocessError) as error:
        if previous is None:
            paths.OVERLAY.unlink(missing_ok=True)
        elif paths.OVERLAY.read_bytes() != previous:
            files.write(paths.OVERLAY, previous, mode=MODE)
        units = {path: content for path, content in before.items() if content is not None}
        if units.keys() == before.keys():
            arm(units)
        else:
            disarm()
        reason = endings.of_error(error)
        raise RefusedError(f"The override and its timer cannot be written: {reason}.") from error


def arm(units: Mapping[Path, bytes]) -> None:
    """Set the timer that ends the override. An earlier timer stays active until systemd has the new one."""
    # A running expiry unit would remove the new files.
    systemctl("stop", paths.OVERLAY_EXPIRY_UNIT, check=False)
    for path, content in units.items():
        if not path.exists() or path.read_bytes() != content:
            files.write(path, content, mode=MODE)
    systemctl("daemon-reload")
    systemctl("enable", paths.OVERLAY_TIMER)
    systemctl("restart", paths.OVERLAY_TIMER)


def disarm() -> None:
    """Remove the timer and its service unit."""
    systemctl("stop", paths.OVERLAY_TIMER, paths.OVERLAY_EXPIRY_UNIT, check=False)
    systemctl("disable", paths.OVERLAY_TIMER, check=False)
    for name in (paths.OVERLAY_TIMER, paths.OVERLAY_EXPIRY_UNIT):
        paths.SERVICE_UNIT_FILE.with_name(name).unlink(missing_ok=True)
    systemctl("daemon-reload")


def reload(
    config: dict[str, Any], document: limits.Document | None, lowered: Mapping[str, overlay.Number]
) -> None:
    """Reload the service and wait until it shows exactly the override `document`, or none if it is None.

    Raises:
        RuntimeError: if the service does not show that in time.
    """
    systemctl("reload", paths.SERVICE_UNIT)
    end = time.monotonic() + SHOWN_SECONDS
    while True:
        answer = admin.get(config, "/health")
        present = answer[1].get("overlay") if answer else "no response"
        problems = list(answer[1].get("overlayProblems") or []) if answer else ["/health did not respond"]
        if document is not None:
            problems += limits.differences(present, document, lowered)
        elif present is not None:
            problems.append(f"the service still shows {present}")
        if not problems:
            return
        if time.monotonic() > end:
            raise RuntimeError("; ".join(problems))
        time.sleep(POLL_SECONDS)
