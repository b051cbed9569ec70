#!/usr/bin/python
"""Reports the state of the service on a host; changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_info
short_description: Report the state of the service
description:
  - Reads the unit's state, the release of the running process, and C(/ready). Does not wait and does not
    fail; what cannot be determined is null.
options: {}
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Read the state of the service
  katago.fleet.service_info:
"""

RETURN = r"""
state:
  description:
    - C(unit), C(current), C(running), C(ready), C(reason). C(installed), whether the host has the service.
      C(load_balancer), the state of HAProxy on a load balancer.
  type: dict
  returned: always
"""

import json
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import unit_state
from ansible_collections.katago.fleet.plugins.module_utils.release import layout
from ansible_collections.katago.fleet.plugins.module_utils.service import endpoints, unit


def look() -> dict[str, Any]:
    """The current state of the service."""
    state: dict[str, Any] = dict.fromkeys(("unit", "current", "running", "ready", "reason"))
    state["installed"] = paths.SERVICE_UNIT_FILE.exists()
    try:
        state["load_balancer"] = load_balancer_state()
        state["current"] = layout.Layout(paths.RELEASE_ROOT).current_release()
        now = unit.state()
        state["unit"] = now.active
        state["running"] = unit.running_release(now.pid) if now.pid else None
        if now.pid:
            state["ready"], state["reason"] = readiness(Path(f"/proc/{now.pid}/cwd/config.json"))
    except (OSError, subprocess.SubprocessError) as error:
        state["reason"] = str(error)
    return state


def load_balancer_state() -> str | None:
    """The state of HAProxy's unit; None if the host is no load balancer."""
    if not paths.LOAD_BALANCER_SETTINGS.exists():
        return None
    return unit_state.properties(paths.LOAD_BALANCER_UNIT, "ActiveState").get("ActiveState")


def readiness(config: Path) -> tuple[bool | None, str | None]:
    """Whether a service with this configuration is ready, None if that is unknown; and the reason if not."""
    try:
        at = endpoints.Endpoints.of(json.loads(config.read_text()))
    except (OSError, ValueError) as error:
        return None, f"{paths.CONFIG} has no usable address of the service: {error}"
    answer = at.probe("/ready")
    if answer is None:
        return False, "no answer"
    return answer[0] == 200, answer[1].get("reason")


def main() -> None:
    """Report the state."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, state=look())


if __name__ == "__main__":
    main()
