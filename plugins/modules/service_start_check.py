#!/usr/bin/python
"""Checks that the service would start again, before a procedure stops it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_start_check
short_description: Check that the service would start again
description:
  - Checks what a start of the current release uses, before a procedure stops the running service. Changes
    nothing.
  - Verifies the unit, the release against its manifest, the disks, the credentials, and the ports. Runs the
    release's own C(katago-mcp validate) without an engine, as the service's user and in its sandbox. It
    checks the configuration, the tokens, the certificate and the files of the engine.
  - Refuses with every problem and with the procedure that repairs it.
options:
  starts:
    description: Whether to refuse if the service would not start again.
    type: bool
    default: true
  allow_changed_files:
    description:
      - Whether to accept files that were changed since the release was built. They may be traces of an
        intruder, and a restart destroys others.
    type: bool
    default: false
  makes_room:
    description: Whether the procedure makes room before the start, so that a full disk is not refused.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Check that the service would start again
  katago.fleet.service_start_check:
"""

RETURN = r"""
problems:
  description: What would keep the service from starting, one text for each.
  type: list
  elements: str
  returned: always
changed_files:
  description: The files and links that were changed since the release was built, one phrase for each.
  type: list
  elements: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.release import layout
from ansible_collections.katago.fleet.plugins.module_utils.service import start_check


def main() -> None:
    """Check and report, or refuse."""
    module = AnsibleModule(
        argument_spec={
            "starts": {"type": "bool", "default": True},
            "allow_changed_files": {"type": "bool", "default": False},
            "makes_room": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    findings = start_check.current(layout.Layout(paths.RELEASE_ROOT), makes_room=parameters["makes_room"])
    result = {
        "problems": [problem.message for problem in findings.problems],
        "changed_files": findings.changed,
    }
    refusal = start_check.refusal(
        findings, starts=parameters["starts"], allow_changed_files=parameters["allow_changed_files"]
    )
    if refusal:
        module.fail_json(msg=refusal, refused=True, **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
