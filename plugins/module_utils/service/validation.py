"""Validates the running service without Ansible: readiness, known positions through MCP, the release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    admin,
    checks,
    host_secrets,
    observe,
    unit,
)

READY_SECONDS = 120
START_SECONDS = 7800
CALL_SECONDS = 300
"""The deadlines of the role `validate`: until the service is ready, while its engine starts, of all calls."""


def failures(layout: release_layout.Layout) -> str:
    """Which checks failed, one line for each, and the last log lines; empty if all passed."""
    manifest: Mapping[str, Any] = release_layout.own_manifest(layout.current) or {}
    if not manifest:
        return f"the {release_layout.MANIFEST} of the current release was changed or cannot be read"
    try:
        config = admin.read_config(layout.current)
        expected = observe.expected(manifest, config, manifest["name"])
        seen = observe.observe(layout, config, READY_SECONDS, CALL_SECONDS, start_deadline=START_SECONDS)
    except (OSError, ValueError) as error:
        return f"the config.json of the current release cannot be used: {error}"
    failed = checks.failures(checks.judge(seen.observed, expected, visits=seen.visits))
    if not failed:
        return ""
    return f"{failed}\nIts last log lines:\n{host_secrets.redacted(unit.journal()) or 'none'}"
