#!/usr/bin/python
"""Validates a service through its real interface: does it analyse Go positions?"""

from __future__ import annotations

DOCUMENTATION = r"""
module: validate
short_description: Validate the service through its MCP interface
description:
  - Waits until the service is ready, then has known positions analysed by the MCP client of the
    current release, and compares every field with what an engine must say. A server that merely
    answers does not pass.
  - Checks that release, engine version and metrics are those of the current release's manifest,
    and that the counters rose by the work that was asked for.
  - Reads only. A run asks about other positions than the last, so that no cache answers it.
options:
  deadline:
    description: Seconds to wait for readiness; loading a large network takes its time.
    type: int
    default: 120
  call_deadline:
    description: Seconds for all tool calls together.
    type: int
    default: 120
  release:
    description: The release that must run. The current one when it is not given.
    type: str
  root:
    description: Where releases are kept on the host.
    type: path
    default: /opt/katago-mcp
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The service analyses
  katago.fleet.validate:
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

import json
import secrets
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import (
    endpoints,
    overlay,
    releases,
    service,
    validation,
)

FEWEST_VISITS = 8
MOST_VISITS = 24
POLL_SECONDS = 0.5


def wait_until_ready(at: endpoints.Endpoints, deadline: float) -> tuple[int, dict[str, Any]] | None:
    """The last answer of /ready: the first 200, or what it said when the time was over."""
    end = time.monotonic() + deadline
    while True:
        answer = at.probe("/ready")
        over = time.monotonic() >= end or service.state().active == "failed"
        if over or (answer and answer[0] == 200):
            return answer
        time.sleep(POLL_SECONDS)


def observe(
    layout: releases.Layout, config: dict[str, Any], visits: int, deadline: float, call_deadline: float
) -> tuple[validation.Observed, int]:
    """Wait for readiness, then ask what `validation.calls` asks, with scrapes around it.

    Returns also the visits that were asked for: `visits`, or as many as an overlay leaves.
    """
    at = endpoints.Endpoints.of(config)
    ready = wait_until_ready(at, deadline)
    visits = min(visits, validation.most_visits(config, at.probe("/health")))
    before = at.scrape()
    answers: dict[str, Any] = {"error": "not asked, since it was not ready"}
    if ready and ready[0] == 200:
        calls = validation.calls(visits, secrets.randbelow(validation.VARIANTS))
        answers = at.call(layout.current / "venv" / "bin" / "katago-mcp", calls, call_deadline)
    observed = validation.Observed(
        ready=ready,
        health=at.probe("/health"),
        answers=answers,
        before=before,
        after=at.scrape(),
    )
    return observed, visits


def main() -> None:
    """Observe, judge, report."""
    module = AnsibleModule(
        argument_spec={
            "deadline": {"type": "int", "default": 120},
            "call_deadline": {"type": "int", "default": 120},
            "release": {"type": "str"},
            "root": {"type": "path", "default": "/opt/katago-mcp"},
        },
        supports_check_mode=True,
    )
    layout = releases.Layout(Path(module.params["root"]))
    manifest = releases.manifest(layout.current) or {}
    if not manifest:
        module.fail_json(
            msg=f"There is nothing to validate: {layout.current} leads to no release. Deploy one.",
            release=None,
            checks=[],
        )
    release = module.params["release"] or manifest["name"]
    visits = FEWEST_VISITS + secrets.randbelow(MOST_VISITS - FEWEST_VISITS + 1)
    try:
        config = json.loads((layout.current / "config.json").read_text())
        limits = {name: config["katago"][name] for name in validation.LIMITS if name in config["katago"]}
        observed, visits = observe(
            layout, config, visits, module.params["deadline"], module.params["call_deadline"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        module.fail_json(
            msg=(
                f"The current release, {release}, is damaged: its config.json cannot be used"
                f" ({error}). Deploying it again builds it anew."
            ),
            release=release,
            checks=[],
        )
    expected = validation.Expected(
        release=release,
        version=manifest["version"],
        engine_version=manifest["engine_version"],
        limits=limits,
    )
    checks = validation.judge(observed, expected, visits=visits)
    lowered = overlay.words(observed.health[1].get("overlay")) if observed.health else ""
    result = {"release": release, "lowered": lowered, "checks": validation.as_dicts(checks)}
    if failed := validation.failures(checks):
        words = f"{failed}\nIts last words:\n{service.journal()}"
        module.fail_json(msg=f"The service does not work ({release}):\n{words}", failures=failed, **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
