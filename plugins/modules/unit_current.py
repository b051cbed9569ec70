#!/usr/bin/python
"""Makes systemd units run with the files that they have now."""

from __future__ import annotations

DOCUMENTATION = r"""
module: unit_current
short_description: Enable units, and restart those that started before their files changed
description:
  - Enables each unit. Starts it if it is not active, and restarts it if one of its files is newer than its
    start. Reloads systemd if it has not read a unit's file since the file changed; for a timer, also the
    file of the service that it starts.
  - It compares with what is loaded, not with what this run has written. So a run that was interrupted between
    a change and the restart is completed by the next one.
  - Fails if a unit does not stay active, with its last log lines.
options:
  units:
    description: The files that each unit reads when it starts, by unit; its unit file is always one of them.
    type: dict
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Run node exporter with its current configuration
  katago.fleet.unit_current:
    units:
      katago-node-exporter.service: []
      katago-exporter-gateway.service: [/etc/katago-exporters/gateway.yml]
"""

RETURN = r"""
actions:
  description:
    - What was, or would be, done with each unit. C(kept) if nothing, C(reloaded) if systemd read its file.
  type: dict
  returned: always
  sample: {katago-node-exporter.service: restarted}
"""

import subprocess
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import commands, unit_state

_SECONDS = 90
# A unit that fails at once has failed by then.
_SETTLE_SECONDS = 2


def needed(state: unit_state.State, files: Iterable[Path]) -> str:
    """What a unit needs: `started`, `restarted`, `reloaded` or `kept`."""
    if not state.active:
        return "started"
    if state.is_older_than(files):
        return "restarted"
    return "reloaded" if state.needs_reload else "kept"


def started_by(unit: str) -> str:
    """The unit that a timer starts; empty for another unit."""
    return unit.removesuffix(".timer") + ".service" if unit.endswith(".timer") else ""


def main() -> None:
    """Compare, enable and restart."""
    module = AnsibleModule(
        argument_spec={"units": {"type": "dict", "required": True}}, supports_check_mode=True
    )
    actions, disabled = {}, []
    for unit, files in module.params["units"].items():
        try:
            state = unit_state.read(unit)
            other = started_by(unit)
            # It runs only for a moment, so what it needs is that systemd has read its file.
            state = replace(
                state, needs_reload=state.needs_reload or bool(other and unit_state.read(other).needs_reload)
            )
        except (OSError, subprocess.SubprocessError) as error:
            module.fail_json(msg=f"The state of {unit} cannot be read: {error}.")
        actions[unit] = needed(state, [paths.SYSTEM_UNITS / unit, *map(Path, files or [])])
        if not state.enabled:
            disabled.append(unit)
    changed = bool(disabled) or any(action != "kept" for action in actions.values())
    if changed and not module.check_mode:
        apply(module, actions, disabled)
    module.exit_json(changed=changed, actions=actions)


def apply(module: AnsibleModule, actions: dict[str, str], disabled: list[str]) -> None:
    """Enable and restart the units. Fails the module if one does not run afterwards."""
    acted = [unit for unit, action in actions.items() if action in ("started", "restarted")]
    for command in (
        ["systemctl", "daemon-reload"],
        *(["systemctl", "enable", "--quiet", unit] for unit in disabled),
        *(["systemctl", "restart", unit] for unit in acted),
    ):
        status, output = commands.ask(command, _SECONDS)
        if status:
            module.fail_json(
                msg=f"`{' '.join(command)}` failed: {output.strip()[-500:]}. {_log(command[-1])}"
            )
    time.sleep(_SETTLE_SECONDS)
    for unit in acted:
        if not unit_state.read(unit).active:
            module.fail_json(msg=f"{unit} was started, but it does not run. {_log(unit)}")


def _log(unit: str) -> str:
    _, lines = commands.ask(
        ["journalctl", f"--unit={unit}", "--lines=10", "--output=cat", "--no-pager"], _SECONDS
    )
    return f"Last log lines: {lines.strip()[-2000:]}"


if __name__ == "__main__":
    main()
