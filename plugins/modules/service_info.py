#!/usr/bin/python
"""Says in what state a procedure left the service of a host; changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_info
short_description: Say in what state the service is
description:
  - Looks at the unit, at the release that its process was started from, and at C(/ready). Does not
    wait and does not fail; what cannot be seen is null.
options: {}
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The host's state is known
  katago.fleet.service_info:
"""

RETURN = r"""
state:
  description: C(unit), C(current), C(running), C(ready), C(reason).
  type: dict
  returned: always
"""

import json
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.release import layout
from ansible_collections.katago.fleet.plugins.module_utils.service import endpoints, unit


def look() -> dict[str, Any]:
    """What can be seen of the service now."""
    seen: dict[str, Any] = dict.fromkeys(("unit", "current", "running", "ready", "reason"))
    try:
        seen["current"] = layout.Layout(paths.RELEASE_ROOT).current_release()
        now = unit.state()
        seen["unit"] = now.active
        seen["running"] = unit.running_release(now.pid) if now.pid else None
        if now.pid:
            seen["ready"], seen["reason"] = readiness(Path(f"/proc/{now.pid}/cwd/config.json"))
    except (OSError, subprocess.CalledProcessError) as error:
        seen["reason"] = str(error)
    return seen


def readiness(config: Path) -> tuple[bool | None, str | None]:
    """Whether a service with this configuration is ready, None when it cannot be asked; and why not."""
    try:
        at = endpoints.Endpoints.of(json.loads(config.read_text()))
    except (OSError, ValueError) as error:
        return None, f"{paths.CONFIG} does not say where it listens: {error}"
    answer = at.probe("/ready")
    if answer is None:
        return False, "no answer"
    return answer[0] == 200, answer[1].get("reason")


def main() -> None:
    """Look and say."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, state=look())


if __name__ == "__main__":
    main()
