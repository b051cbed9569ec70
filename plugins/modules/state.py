#!/usr/bin/python
"""Says in what state a procedure left the service of a host; changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: state
short_description: Say in what state the service is
description:
  - Looks at the unit, at the release that its process was started from, and at C(/ready). Does not
    wait and does not fail; what cannot be seen is null.
options: {}
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The host's state is known
  katago.fleet.state:
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

from ansible_collections.katago.fleet.plugins.module_utils import probes, releases, service


def look() -> dict[str, Any]:
    """What can be seen of the service now."""
    seen: dict[str, Any] = dict.fromkeys(("unit", "current", "running", "ready", "reason"))
    try:
        seen["current"] = releases.Layout().current_release()
        now = service.state()
        seen["unit"] = now.active
        seen["running"] = service.running_release(now.pid) if now.pid else None
        if now.pid:
            config = json.loads(Path(f"/proc/{now.pid}/cwd/config.json").read_text())
            server, tls = config["server"], probes.secured(config)
            answer = probes.ask_json(server["host"], server["port"], "/ready", tls=tls)
            seen["ready"] = answer is not None and answer[0] == 200
            seen["reason"] = answer[1].get("reason") if answer else "no answer"
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        seen["reason"] = str(error)
    return seen


def main() -> None:
    """Look and say."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, state=look())


if __name__ == "__main__":
    main()
