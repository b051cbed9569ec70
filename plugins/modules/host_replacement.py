#!/usr/bin/python
"""Checks that a host may be rebuilt in the place of a dead one, and marks how far that has got."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_replacement
short_description: Check that a host is bare, and mark its replacement
description:
  - C(checked) refuses a host that is not bare, unless a replacement of the last 24 hours did not finish
    there. Changes nothing.
  - C(started) also marks the host, C(restored) adds that the state of the backup is on it, C(finished)
    removes the mark.
options:
  state:
    description: How far the replacement has got.
    type: str
    choices: [checked, started, restored, finished]
    required: true
  host:
    description: The host's name in the inventory, for messages.
    type: str
    required: true
  who:
    description: Who runs the replacement.
    type: str
    default: ""
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Check that the host is bare
  katago.fleet.host_replacement:
    state: checked
    host: "{{ inventory_hostname }}"
"""

RETURN = r"""
resumed:
  description: Whether an unfinished replacement is resumed.
  type: bool
  returned: success
restored:
  description: Whether the state of the backup is on the host already.
  type: bool
  returned: success
"""

import subprocess
from dataclasses import replace
from datetime import datetime

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.release import history
from ansible_collections.katago.fleet.plugins.module_utils.release.layout import Layout
from ansible_collections.katago.fleet.plugins.module_utils.replacement import bare


def look() -> bare.Host:
    """What is on this host."""
    done = subprocess.run(
        ["systemctl", "show", paths.SERVICE_UNIT, "--property=ActiveState", "--value"],
        capture_output=True,
        text=True,
        check=True,
    )
    return bare.Host(
        Layout(paths.RELEASE_ROOT).current_release(),
        done.stdout.strip(),
        len(history.read(paths.HISTORY)),
    )


def main() -> None:
    """Check, and mark."""
    module = AnsibleModule(
        argument_spec={
            "state": {"choices": ["checked", "started", "restored", "finished"], "required": True},
            "host": {"type": "str", "required": True},
            "who": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    state, now = module.params["state"], datetime.now(timestamps.UTC)
    mark = bare.read(paths.REPLACEMENT)
    resumed = bare.is_resumed(mark, now)
    restored = resumed and mark is not None and mark.restored
    try:
        why = bare.refusal(look(), mark, module.params["host"], now)
        if state in ("checked", "started") and why:
            module.fail_json(msg=why, refused=True)
        if module.check_mode or state == "checked":
            module.exit_json(changed=False, resumed=resumed, restored=restored)
        if state == "finished":
            bare.remove(paths.REPLACEMENT)
        elif state == "restored":
            fresh = bare.Mark(timestamps.stamp(now), module.params["who"])
            bare.write(replace(mark or fresh, restored=True), paths.REPLACEMENT)
        elif not resumed:
            bare.write(bare.Mark(timestamps.stamp(now), module.params["who"]), paths.REPLACEMENT)
    except (OSError, subprocess.SubprocessError) as error:
        module.fail_json(
            msg=f"The replacement cannot be marked in {paths.REPLACEMENT}: {error}. Fix this, then run again."
        )
    module.exit_json(changed=True, resumed=resumed, restored=restored)


if __name__ == "__main__":
    main()
