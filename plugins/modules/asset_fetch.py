#!/usr/bin/python
"""Fetches a file on a host from another host or from a mirror."""

from __future__ import annotations

DOCUMENTATION = r"""
module: asset_fetch
short_description: Fetch a file from the host that shares it, or from a mirror
description:
  - The part on the host of the modules that install engines and networks. Fetches a file to a directory for
    temporary files, and accepts it only with the right sha256.
  - Does not fail if the file cannot be fetched. The caller then sends the control node's file.
options:
  url:
    description: The address. It is not shown, because it has a token or may have a password.
    type: str
    required: true
  sha256:
    description: The sha256 that the file must have.
    type: str
    required: true
  size:
    description: The size that the file must have, in bytes.
    type: int
    required: true
  path:
    description: Where the file is written.
    type: path
    required: true
  direct:
    description: Whether to connect without the host's proxy.
    type: bool
    default: false
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Fetch a network from the mirror
  katago.fleet.asset_fetch:
    url: https://mirror.example.org/katago/f5d32604e3675c480c7c8f6aa579a1ea857135628a0afccc8fa56330fbacd38d
    sha256: f5d32604e3675c480c7c8f6aa579a1ea857135628a0afccc8fa56330fbacd38d
    size: 3932160
    path: /root/network.bin.gz
"""

RETURN = r"""
fetched:
  description: Whether the file was fetched.
  type: bool
  returned: always
reason:
  description: Why it was not fetched.
  type: str
  returned: when it was not fetched
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils.transfer import fetch

# The longest time without any data.
STALLED_SECONDS = 30


def main() -> None:
    """Fetch the file."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True, "no_log": True},
            "sha256": {"type": "str", "required": True},
            "size": {"type": "int", "required": True},
            "path": {"type": "path", "required": True},
            "direct": {"type": "bool", "default": False},
        },
    )
    parameters = module.params
    try:
        fetch.fetch(
            parameters["url"],
            parameters["sha256"],
            parameters["size"],
            Path(parameters["path"]),
            direct=parameters["direct"],
            seconds=STALLED_SECONDS,
        )
    except fetch.FetchError as error:
        module.exit_json(changed=False, fetched=False, reason=str(error))
    module.exit_json(changed=True, fetched=True)


if __name__ == "__main__":
    main()
