#!/usr/bin/python
"""Validates the service through its MCP interface: it must really analyse Go positions."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_validate
short_description: Validate the service through its MCP interface
description:
  - Waits until the service is ready. Then the MCP client of the current release requests the analysis of
    known positions, and every field of the responses is checked. A server that merely responds does not
    pass.
  - Checks release and engine version against the manifest of the current release, and checks that the
    metrics count the requested work.
  - Verifies the files of the release, and what it depends on, against the manifest.
  - If the service has a tokens file, makes the service load it, and checks that its tokens are in force.
  - Changes nothing else. Every run uses new positions, so that no cache has the answers.
options:
  deadline:
    description:
      - Seconds to wait until the service is ready. Time in which the engine is starting, tuning or building
        caches, with progress, does not count.
    type: int
    default: 120
  start_deadline:
    description: Seconds to wait until the service is ready, in total.
    type: int
    default: 7800
  call_deadline:
    description: Seconds for all tool calls together.
    type: int
    default: 300
  release:
    description: The release that must run. By default the current release.
    type: str
  allow_changed_files:
    description: Whether files that were changed since the release was built are only reported.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Validate the service
  katago.fleet.service_validate:
    deadline: 120
"""

RETURN = r"""
release:
  description: The release that was validated.
  type: str
  returned: always
failures:
  description: The failed checks, one line for each.
  type: str
  returned: failure
lowered:
  description: Until when and why limits are lowered, as part of a sentence; empty if they are not.
  type: str
  returned: when the checks ran
changed_files:
  description: The files that were changed since the release was built, as part of a sentence; empty if none.
  type: str
  returned: when the checks ran
checks:
  description: Every check; name, ok, message.
  type: list
  elements: dict
  returned: always
"""

import subprocess
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import endings, os_release
from ansible_collections.katago.fleet.plugins.module_utils.release import deployed, links
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    admin,
    host_secrets,
    observe,
    overlay,
    sandbox,
    start_check,
    unit,
)
from ansible_collections.katago.fleet.plugins.module_utils.service import checks as service_checks


def weaknesses(layout: release_layout.Layout) -> list[str]:
    """What the running unit lacks of its sandbox. A weaker sandbox is reported and does not fail."""
    try:
        return sandbox.sentences(sandbox.of_running_unit(layout.current / paths.SERVICE_UNIT))
    except (OSError, subprocess.SubprocessError) as error:
        return [f"The sandbox of the running service cannot be checked: {endings.of_error(error)}"]


def main() -> None:
    """Observe, judge, report."""
    module = AnsibleModule(
        argument_spec={
            "deadline": {"type": "int", "default": 120},
            "start_deadline": {"type": "int", "default": 7800},
            "call_deadline": {"type": "int", "default": 300},
            "release": {"type": "str"},
            "allow_changed_files": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    if warning := os_release.warning_of(paths.OS_RELEASE):
        module.warn(warning)
    layout = release_layout.Layout(paths.RELEASE_ROOT)
    if not layout.current.exists():
        why = deployed.undeployed(layout, paths.SERVICE_UNIT_FILE)
        module.fail_json(
            msg=(
                f"There is nothing to validate: {why or f'{layout.current} points to no release'}. Deploy one"
                " with playbooks/deploy.yml."
            ),
            release=None,
            checks=[],
        )
    release = str(module.params["release"] or layout.current.resolve().name)
    manifest: Mapping[str, Any] = release_layout.own_manifest(layout.current) or {}
    if not manifest:
        module.fail_json(
            msg=(
                f"The current release, {release}, is damaged: its {release_layout.MANIFEST} was changed or"
                " cannot be read. Deploy it again to rebuild it."
            ),
            release=release,
            checks=[],
        )
    try:
        config = admin.read_config(layout.current)
        expected = observe.expected(manifest, config, release)
        observation = observe.observe(
            layout,
            config,
            module.params["deadline"],
            module.params["call_deadline"],
            start_deadline=module.params["start_deadline"],
        )
    except (OSError, ValueError) as error:
        module.fail_json(
            msg=(
                f"The current release, {release}, is damaged: its config.json cannot be used"
                f" ({error}). Deploy it again to rebuild it."
            ),
            release=release,
            checks=[],
        )
    damage = [
        *release_layout.damage(layout.current),
        *links.damage(links.of_host(layout, layout.current_release() or "")),
    ]
    works = service_checks.judge(observation.observed, expected, visits=observation.visits)
    files = service_checks.files(
        damage, len(manifest["files"]), is_allowed=module.params["allow_changed_files"]
    )
    checks = [*works, files]
    health = observation.observed.health
    lowered = overlay.describe(health[1].get("overlay")) if health else ""
    for sentence in weaknesses(layout):
        module.warn(sentence)
    result = {
        "release": release,
        "lowered": lowered,
        "changed_files": files.message if damage else "",
        "checks": service_checks.as_dicts(checks),
    }
    if not files.ok and not service_checks.failures(works):
        module.fail_json(
            msg=(
                f"The service analyses correctly, but its release is not intact ({release}):"
                f" {files.message}.\n{start_check.advice()}"
            ),
            failures=service_checks.failures(checks),
            **result,
        )
    if failed := service_checks.failures(checks):
        details = f"{failed}\nIts last log lines:\n{host_secrets.redacted(unit.journal()) or 'none'}"
        module.fail_json(msg=f"The service does not work ({release}):\n{details}", failures=failed, **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
