#!/usr/bin/python
"""Records whether a release was found good or bad on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_verdict
short_description: Record that a release is good or bad
description:
  - Adds the verdict to C(/var/lib/katago-mcp/history.jsonl) unless it was given already since the
    release was last switched to. A release that was found bad is never returned to by itself.
options:
  release:
    description: The release's name.
    type: str
    required: true
  verdict:
    description: What it was found to be.
    type: str
    choices: [good, bad]
    required: true
  why:
    description: What was seen.
    type: str
    required: true
  who:
    description: Who judges.
    type: str
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The release is found good
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
    """Add the record unless it would say nothing new."""
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
