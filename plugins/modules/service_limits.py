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

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import endings
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    admin,
    limits,
    overlay,
    overlay_apply,
)


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


def lower(module: AnsibleModule) -> Result:
    """Lower limits; the module's result."""
    parameters = module.params
    request = limits.parse(parameters["limits"], parameters["minutes"], parameters["why"])
    done = overlay_apply.lower(request, parameters["who"], check=module.check_mode)
    document = done.document
    shown: overlay.Shown = {
        "keys": dict(done.lowered),
        "expiresAt": document["expiresAt"],
        "why": document["why"],
        "who": document["who"],
    }
    verb = "Would lower" if module.check_mode else "Lowered"
    return {
        "changed": True,
        "expires_at": document["expiresAt"],
        "message": f"{verb} until {document['expiresAt']}: {done.changes}.",
        "diff": difference(done.config, done.before, shown),
    }


def restore(module: AnsibleModule) -> Result:
    """Restore the configured limits; the module's result."""
    if names := [name for name, value in module.params["limits"].items() if value is not None]:
        raise overlay_apply.RefusedError(
            f"All limits are restored together, so no limit can be given. Remove {', '.join(names)}."
        )
    present = any(path.exists() for path in (paths.OVERLAY, *limits.units(datetime.now(UTC))))
    config = admin.running_config()
    answer = admin.get(config, "/health") if config else None
    before = overlay_apply.shown(answer[1]) if answer else None
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
            overlay_apply.reload(config, None, {})
        overlay_apply.disarm()
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
            raise overlay_apply.RefusedError(
                "The service is not installed. Install it with playbooks/deploy.yml."
            )
        result = lower(module) if module.params["state"] == "present" else restore(module)
    except (overlay_apply.RefusedError, limits.OverlayError) as error:
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
