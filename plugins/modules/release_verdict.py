#!/usr/bin/python
"""Records on a host that a release is validated or rejected."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_verdict
short_description: Record that a release is validated or rejected
description:
  - Appends the verdict to C(/var/lib/katago-mcp/history.jsonl), unless the same verdict is recorded already
    since the last switch to the release.
  - Automatic rollbacks never choose a rejected release.
options:
  release:
    description: The name of the release.
    type: str
    required: true
  verdict:
    description: C(good) for a validated release, C(bad) for a rejected release.
    type: str
    choices: [good, bad]
    required: true
  why:
    description: The reason for the verdict.
    type: str
    required: true
  who:
    description: Who records the verdict.
    type: str
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Record that the release is validated
  katago.fleet.release_verdict:
    release: 0.1.0-2f6a9c0d1e3b
    verdict: good
    why: validated
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.release import history


def main() -> None:
    """Append the record, unless the verdict is recorded already."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str", "required": True},
            "verdict": {"choices": ["good", "bad"], "required": True},
            "why": {"type": "str", "required": True},
            "who": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    records = history.read(paths.HISTORY)
    changed = history.standing(records, parameters["release"]) != parameters["verdict"]
    if changed and not module.check_mode:
        record = history.Record(at=timestamps.now(), previous=None, **parameters)
        history.append(record, paths.HISTORY)
    module.exit_json(changed=changed)


if __name__ == "__main__":
    main()
