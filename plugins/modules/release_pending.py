#!/usr/bin/python
"""Reports whether a host must be visited to run a release; changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_pending
short_description: Report whether a host must be visited to run a release
description:
  - Compares a host with what a deployment makes of it, by observed state. A host is pending if its current
    release differs, if a link to the release is damaged, if the service must be started or restarted, if the
    release is not validated, if the credentials differ, or if the service is not enabled at boot.
  - Reports also whether old releases would be removed. That alone does not make a host pending.
  - Changes nothing, also outside check mode.
options:
  release:
    description: The release that the host must run.
    type: str
    required: true
  keep:
    description: The number of releases that remain on the host.
    type: int
    required: true
extends_documentation_fragment: [katago.fleet.credentials]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Find out whether the host must be switched
  katago.fleet.release_pending:
    release: 0.1.0-2f6a9c0d1e3b
    tokens: "{{ katago_mcp_tokens | katago.fleet.hashed_tokens }}"
    keep: 5
  register: pending
"""

RETURN = r"""
current:
  description: The current release; null if there is none.
  type: str
  returned: always
release:
  description: The release that the host must run.
  type: str
  returned: always
reasons:
  description: Why the host is pending; empty if it needs no change.
  type: list
  elements: str
  returned: always
rejected:
  description: When and why this host rejected the release, as the end of a sentence; empty if it did not.
  type: str
  returned: always
prunes:
  description: Whether old releases would be removed.
  type: bool
  returned: always
"""

import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.procedure import security_mode
from ansible_collections.katago.fleet.plugins.module_utils.release import history, links, pending, pruning
from ansible_collections.katago.fleet.plugins.module_utils.release.layout import Layout
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    credential_files,
    credentials,
    restart,
    unit,
)


def reasons(layout: Layout, parameters: dict[str, Any], records: list[history.Record]) -> list[str]:
    """Why the host is pending. Raises OSError and SubprocessError."""
    release = parameters["release"]
    group = credentials.group_id(parameters["group"])
    wrong = sorted(path.name for path in credential_files.wrong(credential_files.required(parameters, group)))
    directory = credential_files.directory(parameters)
    if group is not None and credentials.open_directory(directory, group, check=True):
        wrong.append(directory.name)
    unit_file = layout.release(release) / paths.SERVICE_UNIT
    # Check mode builds no release.
    is_built = unit_file.exists()
    found = pending.reasons(
        release,
        current=layout.current_release(),
        damaged_links=links.damage(links.of_host(layout, release)),
        restart_reasons=restart.reasons(release, unit_file.read_text()) if is_built else [],
        verdict=history.standing(records, release),
        credentials=wrong,
        enabled=unit.is_enabled(),
    )
    return found if is_built else [*found, "the release is not built yet"]


def main() -> None:
    """Observe, decide, report."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str", "required": True},
            **credential_files.ARGUMENTS,
            "keep": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    layout, records = Layout(paths.RELEASE_ROOT), history.read(paths.HISTORY)
    try:
        found = reasons(layout, module.params, records)
        prunes = not security_mode.standing(*paths.SECURITY_MODE) and bool(
            pruning.removable(layout, records, paths.ASSETS, keep=module.params["keep"])
        )
    except (OSError, subprocess.SubprocessError) as error:
        module.fail_json(
            msg=f"Whether this host needs a change cannot be determined: {error}. Run triage.", refused=True
        )
    module.exit_json(
        changed=False,
        current=layout.current_release(),
        release=module.params["release"],
        reasons=found,
        rejected=pending.rejected(history.verdict_on(records, module.params["release"])),
        prunes=prunes,
    )


if __name__ == "__main__":
    main()
