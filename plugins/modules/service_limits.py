#!/usr/bin/python
"""Lowers limits of the running service for a while, or gives them back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_limits
short_description: Lower limits of the running service for a while
description:
  - Writes an overlay, C(/var/lib/katago-mcp/overlay.json), and has the service reload, which restarts
    nothing and leaves the release as it is. Waits until C(/health) shows exactly that overlay.
  - First sets a timer on the host, which survives a reboot, needs no control node, and at the end
    removes the overlay, has the service reload, and removes itself.
  - Another overlay and its timer are replaced as a whole, so that running it again extends or changes it.
  - Refuses where the disk takes no files, before anything is touched. What fails until the overlay lies
    is undone.
  - Refuses limits above those that the running release is configured with, and what lowers nothing.
  - In check mode, and with C(--diff), shows the limits in force before and after.
options:
  state:
    description: Whether limits are lowered.
    type: str
    choices: [present, absent]
    default: present
  limits:
    description: The limits that are lowered; the others are those of the configuration.
    type: dict
    default: {}
    suboptions:
      visits:
        description: The most visits of an analysis; those of one that asks for none are lowered along.
        type: raw
      default_visits:
        description: The visits of an analysis that asks for none.
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
    description: How long, from 0.1 to 1440.
    type: raw
    default: 60
  why:
    description: The reason, which C(/health) shows. Needed to lower limits.
    type: str
    default: ""
  who:
    description: Who lowers them.
    type: str
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Limits are lowered
  katago.fleet.service_limits:
    limits: {visits: 200, seconds: 10, concurrent: 1}
    minutes: 60
    why: the queue is long
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
expires_at:
  description: When the limits are the configured ones again, in UTC; null when they are.
  type: str
  returned: success
message:
  description: What was done, in a sentence.
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
    """Nothing can be lowered on this host; the message says why and the remedy, in sentences."""


class Difference(TypedDict):
    """The limits in force before and after, as Ansible shows differences."""

    before: str
    after: str
    before_header: str
    after_header: str


class Result(TypedDict):
    """What the module returns; `expires_at`: when limits are as configured again, None when they are."""

    changed: bool
    expires_at: str | None
    message: str
    diff: Difference | None


def look() -> tuple[dict[str, Any], overlay.Shown | None]:
    """The configuration of the running process, and the overlay that `/health` shows."""
    config = admin.running_config()
    if config is None:
        raise RefusedError(f"The service does not run: {paths.SERVICE_UNIT} is {unit.state().active}.")
    end = time.monotonic() + HEALTH_SECONDS
    while (answer := admin.get(config, "/health")) is None:
        if time.monotonic() > end:
            raise RefusedError(f"The service gives no answer within {HEALTH_SECONDS} s.")
        time.sleep(POLL_SECONDS)
    if "overlay" not in answer[1]:
        raise RefusedError(
            f"The release {answer[1].get('release')} cannot lower limits. Deploy one that can."
        )
    return config, shown(answer[1])


def shown(health: Mapping[str, Any]) -> overlay.Shown | None:
    """The overlay that an answer of `/health` shows."""
    try:
        return overlay.shown(health.get("overlay"))
    except shape.ShapeError as error:
        raise RefusedError(f"The service does not say which limits are lowered: {error}.") from error


def systemctl(*arguments: str, check: bool = True) -> None:
    """Have systemd do something."""
    subprocess.run(["systemctl", *arguments], check=check, capture_output=True, text=True, timeout=60)


def lay(expires: datetime, document: limits.Document) -> None:
    """Set the timer that ends the overlay, then write the overlay, each instead of an earlier one.

    Killed anywhere, what lies there has a timer, and ends by the server itself at its own time. What
    fails is undone. Raises RefusedError when nothing is changed, else OSError or SubprocessError.
    """
    before = {path: path.read_bytes() if path.exists() else None for path in limits.units(expires)}
    overlaid = paths.OVERLAY.read_bytes() if paths.OVERLAY.exists() else None
    try:
        arm({path: content.encode() for path, content in limits.units(expires).items()})
        files.write(paths.OVERLAY, json.dumps(document, indent=1).encode() + b"\n", mode=MODE)
    except (OSError, subprocess.SubprocessError) as error:
        if overlaid is None:
            paths.OVERLAY.unlink(missing_ok=True)
        elif paths.OVERLAY.read_bytes() != overlaid:
            files.write(paths.OVERLAY, overlaid, mode=MODE)
        kept = {path: content for path, content in before.items() if content is not None}
        if kept.keys() == before.keys():
            arm(kept)
        else:
            disarm()
        said = endings.of_error(error)
        raise RefusedError(f"The overlay and its timer cannot be written: {said}.") from error


def arm(units: Mapping[Path, bytes]) -> None:
    """Set the timer that ends the overlay; an earlier one counts until systemd has read the new one."""
    # One that is at work would remove what is written here.
    systemctl("stop", paths.OVERLAY_EXPIRY_UNIT, check=False)
    for path, content in units.items():
        if not path.exists() or path.read_bytes() != content:
            files.write(path, content, mode=MODE)
    systemctl("daemon-reload")
    systemctl("enable", paths.OVERLAY_TIMER)
    systemctl("restart", paths.OVERLAY_TIMER)


def disarm() -> None:
    """Remove the timer and what it starts."""
    systemctl("stop", paths.OVERLAY_TIMER, paths.OVERLAY_EXPIRY_UNIT, check=False)
    systemctl("disable", paths.OVERLAY_TIMER, check=False)
    for name in (paths.OVERLAY_TIMER, paths.OVERLAY_EXPIRY_UNIT):
        paths.SERVICE_UNIT_FILE.with_name(name).unlink(missing_ok=True)
    systemctl("daemon-reload")


def reload(
    config: dict[str, Any], document: limits.Document | None, lowered: Mapping[str, overlay.Number]
) -> None:
    """Have the service read the overlay, and wait until it shows exactly that one, or none.

    Raises:
        RuntimeError: if it does not.
    """
    systemctl("reload", paths.SERVICE_UNIT)
    end = time.monotonic() + SHOWN_SECONDS
    while True:
        answer = admin.get(config, "/health")
        present = answer[1].get("overlay") if answer else "no answer"
        problems = list(answer[1].get("overlayProblems") or []) if answer else ["no answer"]
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
    wanted = limits.wanted(parameters["limits"], parameters["minutes"], parameters["why"])
    config, before = look()
    lowered = limits.in_force(config, wanted.limits)
    expires = limits.expiry(wanted.minutes, datetime.now(UTC))
    document = limits.document(wanted.limits, expires, wanted.why, parameters["who"])
    configured = limits.effective(config, {})
    if problems := list(disk.obstacles((paths.OVERLAY.parent, paths.SERVICE_UNIT_FILE.parent))):
        raise RefusedError(f"{'; '.join(problems)}. Mend the disk first.")
    if not module.check_mode:
        lay(expires, document)
        reload(config, document, lowered)
    told = limits.changes(configured, {**configured, **lowered})
    return {
        "changed": True,
        "expires_at": document["expiresAt"],
        "message": f"Lowered until {document['expiresAt']}: {told}.",
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
    """Give the configured limits back; the module's result."""
    if given := [name for name, value in module.params["limits"].items() if value is not None]:
        raise RefusedError(f"undo gives all limits back and takes none: {', '.join(given)} is given.")
    there = any(path.exists() for path in (paths.OVERLAY, *limits.units(datetime.now(UTC))))
    config = admin.running_config()
    answer = admin.get(config, "/health") if config else None
    before = shown(answer[1]) if answer else None
    result: Result = {
        "changed": there or before is not None,
        "expires_at": None,
        "message": "Limits are as configured again." if there or before else "No limits were lowered.",
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
    """The limits in force under two overlays."""
    now, then = (
        limits.lines(limits.effective(config, laid["keys"]), laid["expiresAt"])
        if laid
        else limits.lines(limits.effective(config, {}), None)
        for laid in (before, after)
    )
    header = "limits in force"
    return {"before": now, "after": then, "before_header": header, "after_header": header}


def main() -> None:
    """Refuse, or lower, or give back."""
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
            raise RefusedError("There is no service. playbooks/deploy.yml installs it.")
        result = lower(module) if module.params["state"] == "present" else restore(module)
    except (RefusedError, limits.OverlayError) as error:
        module.fail_json(msg=f"Refused; nothing was changed on this host. {error}", refused=True)
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        there = "is laid" if Path(paths.OVERLAY).exists() else "is not laid"
        said = endings.of_error(error)
        module.fail_json(msg=f"The overlay {there}, and it is not proven that the service follows it: {said}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
