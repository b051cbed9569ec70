#!/usr/bin/python
"""Validates a service through its real interface: does it analyse Go positions?"""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_validate
short_description: Validate the service through its MCP interface
description:
  - Waits until the service is ready, then has known positions analysed by the MCP client of the
    current release, and compares every field with what an engine must say. A server that merely
    answers does not pass.
  - Checks that release, engine version and metrics are those of the current release's manifest,
    and that the counters rose by the work that was asked for.
  - Has a service that reads its tokens by itself do so, and checks that those of the file are in force.
  - Reads only. A run asks about other positions than the last, so that no cache answers it.
options:
  deadline:
    description:
      - Seconds to wait for readiness. The time in which the engine starts, tunes or builds caches and makes
        progress does not count.
    type: int
    default: 120
  start_deadline:
    description: Seconds to wait for readiness in all.
    type: int
    default: 7800
  call_deadline:
    description: Seconds for all tool calls together.
    type: int
    default: 300
  release:
    description: The release that must run. The current one when it is not given.
    type: str
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The service analyses
  katago.fleet.service_validate:
    deadline: 120
"""

RETURN = r"""
release:
  description: The release that was validated.
  type: str
  returned: always
failures:
  description: The checks that did not hold, a line for each.
  type: str
  returned: failure
lowered:
  description: Until when and why limits are lowered, as part of a sentence; empty when they are not.
  type: str
  returned: when it was asked
checks:
  description: Every check; name, ok, message.
  type: list
  elements: dict
  returned: always
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import os_release
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    admin,
    host_secrets,
    observe,
    overlay,
    unit,
)
from ansible_collections.katago.fleet.plugins.module_utils.service import checks as service_checks


def main() -> None:
    """Observe, judge, report."""
    module = AnsibleModule(
        argument_spec={
            "deadline": {"type": "int", "default": 120},
            "start_deadline": {"type": "int", "default": 7800},
            "call_deadline": {"type": "int", "default": 300},
            "release": {"type": "str"},
        },
        supports_check_mode=True,
    )
    if warning := os_release.warning_of(paths.OS_RELEASE):
        module.warn(warning)
    layout = release_layout.Layout(paths.RELEASE_ROOT)
    if not layout.current.exists():
        module.fail_json(
            msg=f"There is nothing to validate: {layout.current} leads to no release. Deploy one.",
            release=None,
            checks=[],
        )
    release = str(module.params["release"] or layout.current.resolve().name)
    manifest: Mapping[str, Any] = release_layout.own_manifest(layout.current) or {}
    if not manifest:
        module.fail_json(
            msg=(
                f"The current release, {release}, is damaged: its {release_layout.MANIFEST} was changed or"
                " cannot be read. Deploying it again builds it anew."
            ),
            release=release,
            checks=[],
        )
    try:
        config = admin.read_config(layout.current)
        expected = observe.expected(manifest, config, release)
        seen = observe.observe(
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
                f" ({error}). Deploying it again builds it anew."
            ),
            release=release,
            checks=[],
        )
    checks = service_checks.judge(seen.observed, expected, visits=seen.visits)
    health = seen.observed.health
    lowered = overlay.words(health[1].get("overlay")) if health else ""
    result = {"release": release, "lowered": lowered, "checks": service_checks.as_dicts(checks)}
    if failed := service_checks.failures(checks):
        words = f"{failed}\nIts last words:\n{host_secrets.shown(unit.journal())}"
        module.fail_json(msg=f"The service does not work ({release}):\n{words}", failures=failed, **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
