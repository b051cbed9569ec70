#!/usr/bin/python
"""Lowers limits of the running service for a while, or restores them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_limits
short_description: Lower limits of the running service for a while
description:
  - Writes an override to C(/var/lib/katago-mcp/overlay.json) and reloads the service. The reload restarts
    nothing and does not change the release. Waits until C(/health) shows exactly this override.
  - First sets a timer on the host. When the time is over, the timer removes the override, reloads the
    service, and removes itself. It survives a reboot and needs no control node.
  - Replaces an earlier override and its timer as a whole. Run it again to extend or change the override.
  - Refuses if the disk is not writable, before anything is touched. A failure before the override is
    written is undone.
  - Refuses limits above those of the running release's configuration, and limits that lower nothing.
  - Shows the limits in force before and after in check mode and with C(--diff).
options:
  state:
    description: C(present) lowers limits, C(absent) restores them.
    type: str
    choices: [present, absent]
    default: present
  limits:
    description: The limits to lower. All others stay as configured.
    type: dict
    default: {}
    suboptions:
      visits:
        description: The most visits of an analysis. The default visits are lowered with it if necessary.
        type: raw
      default_visits:
        description: The visits of an analysis that does not request a number.
        type: raw
      seconds:
        description: The most seconds of an analysis.
        type: raw
      review_visits:
        description: The most visits of all turns of a review together.
        type: raw
      review_seconds:
        description: The most seconds of a review.
        type: raw
      concurrent:
        description: Analyses in the engine at once.
        type: raw
      queued:
        description: Analyses that may wait for the engine.
        type: raw
      cache_mb:
        description: The cache of analyses on disk, in MB.
        type: raw
  minutes:
    description: The duration in minutes, from 0.1 to 1440.
    type: raw
    default: 60
  why:
    description: The reason, which C(/health) shows. Required with C(present).
    type: str
    default: ""
  who:
    description: Who lowers the limits.
    type: str
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Lower the limits for an hour
  katago.fleet.service_limits:
    limits: {visits: 200, seconds: 10, concurrent: 1}
    minutes: 60
    why: the queue is long
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
expires_at:
  description: When the configured limits are restored, in UTC; null if no limits are lowered.
  type: str
  returned: success
message:
  description: What changed, in a sentence.
  type: str
  returned: success
"""

import json
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import disk, endings, files, shape
from ansible_collections.katago.fleet.plugins.module_utils.service import admin, limits, overlay, unit

POLL_SECONDS = 0.1
HEALTH_SECONDS = 30
SHOWN_SECONDS = 20
MODE = 0o644


class RefusedError(Exception):
    """Limits cannot be lowered on this host; the message has the reason and the remedy, in sentences."""


class Difference(TypedDict):
    """The limits in force before and after, in Ansible's format for differences."""

    before: str
    after: str
    before_header: str
    after_header: str


class Result(TypedDict):
    """What the module returns; `expires_at`: when the limits are restored, None if none are lowered."""

    changed: bool
    expires_at: str | None
    message: str
    diff: Difference | None


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


def lower(module: AnsibleModule) -> Result:
    """Lower limits; the module's result."""
    parameters = module.params
    request = limits.parse(parameters["limits"], parameters["minutes"], parameters["why"])
    config, before = look()
    lowered = limits.in_force(config, request.limits)
    expires = limits.expiry(request.minutes, datetime.now(UTC))
    document = limits.document(request.limits, expires, request.why, parameters["who"])
    configured = limits.effective(config, {})
    if problems := list(disk.obstacles((paths.OVERLAY.parent, paths.SERVICE_UNIT_FILE.parent))):
        raise RefusedError(f"{'; '.join(problems)}. Repair the disk first.")
    if not module.check_mode:
        apply(expires, document)
        reload(config, document, lowered)
    changes = limits.changes(configured, {**configured, **lowered})
    return {
        "changed": True,
        "expires_at": document["expiresAt"],
        "message": (
            f"{'Would lower' if module.check_mode else 'Lowered'} until {document['expiresAt']}: {changes}."
        ),
        "diff": difference(
            config,
            before,
            {
                "keys": lowered,
                "expiresAt": document["expiresAt"],
                "why": document["why"],
                "who": document["who"],
            },
        ),
    }


def restore(module: AnsibleModule) -> Result:
    """Restore the configured limits; the module's result."""
    if names := [name for name, value in module.params["limits"].items() if value is not None]:
        raise RefusedError(
            f"All limits are restored together, so no limit can be given. Remove {', '.join(names)}."
        )
    present = any(path.exists() for path in (paths.OVERLAY, *limits.units(datetime.now(UTC))))
    config = admin.running_config()
    answer = admin.get(config, "/health") if config else None
    before = shown(answer[1]) if answer else None
    restored = f"The configured limits {'would be' if module.check_mode else 'are'} restored."
    result: Result = {
        "changed": present or before is not None,
        "expires_at": None,
        "message": restored if present or before else "No limits were lowered.",
        "diff": difference(config, before, None) if config else None,
    }
    if result["changed"] and not module.check_mode:
        paths.OVERLAY.unlink(missing_ok=True)
        if config is not None:
            reload(config, None, {})
        disarm()
    return result


def difference(
    config: dict[str, Any], before: overlay.Shown | None, after: overlay.Shown | None
) -> Difference:
    """The limits in force with the override `before` and with the override `after`."""
    now, then = (
        limits.lines(limits.effective(config, override["keys"]), override["expiresAt"])
        if override
        else limits.lines(limits.effective(config, {}), None)
        for override in (before, after)
    )
    header = "limits in force"
    return {"before": now, "after": then, "before_header": header, "after_header": header}


def main() -> None:
    """Lower or restore limits, or refuse."""
    module = AnsibleModule(
        argument_spec={
            "state": {"choices": ["present", "absent"], "default": "present"},
            "limits": {
                "type": "dict",
                "default": {},
                "options": {limit.name: {"type": "raw"} for limit in limits.LIMITS},
            },
            "minutes": {"type": "raw", "default": 60},
            "why": {"type": "str", "default": ""},
            "who": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        if not paths.SERVICE_UNIT_FILE.exists():
            raise RefusedError("The service is not installed. Install it with playbooks/deploy.yml.")
        result = lower(module) if module.params["state"] == "present" else restore(module)
    except (RefusedError, limits.OverlayError) as error:
        module.fail_json(msg=f"Refused; nothing was changed on this host. {error}", refused=True)
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        state = "exists" if Path(paths.OVERLAY).exists() else "does not exist"
        reason = endings.of_error(error)
        module.fail_json(
            msg=f"The override {paths.OVERLAY} {state}, but the service has not confirmed its limits:"
            f" {reason}. Run again."
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
