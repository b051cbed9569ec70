#!/usr/bin/python
"""Installs a network in a directory named by the sha256 of its file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: network
short_description: Install a network
description:
  - Installs the network as C(/opt/katago/networks/<sha256>/<name>), writable only by root.
  - A network that is already installed and intact is not sent again. Its owner and modes are corrected.
options:
  path:
    description: The network's file on the control node.
    type: path
    required: true
  sha256:
    description: The network file's sha256, which is also the name of its directory.
    type: str
    required: true
  name:
    description: The file's name. KataGo detects the format by its extension.
    type: str
    required: true
  mirror:
    description:
      - The address of a directory with each file under its sha256. A host that lacks the file fetches it
        there, or else from the host of C(katago.fleet.asset_share). If it cannot, the control node sends it.
    type: str
    default: ""
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Install the network
  katago.fleet.network:
    path: "{{ preflight_network.path }}"
    sha256: "{{ preflight_network.sha256 }}"
    name: "{{ preflight_network.name }}"
"""

RETURN = r"""
file:
  description: The network's path on the host.
  type: str
  returned: always
present:
  description: Whether the network is installed and intact.
  type: bool
  returned: always
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, directories, files


def main() -> None:
    """Report whether the network is installed, or install it from `source`."""
    module = AnsibleModule(
        argument_spec={
            "sha256": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "source": {"type": "path"},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    target = paths.ASSETS / "networks" / parameters["sha256"] / parameters["name"]
    present = target.exists() and digest.of_file(target) == parameters["sha256"]
    corrected = False
    if present:
        corrected = directories.make(target.parent, own=paths.ASSETS, check=module.check_mode)
        corrected |= directories.seal(target.parent, check=module.check_mode)
    if present or parameters["source"] is None:
        module.exit_json(changed=corrected, present=present, file=str(target))
    actual = digest.of_file(parameters["source"])
    if actual != parameters["sha256"]:
        module.fail_json(
            msg=(
                f"The network {parameters['name']} was not installed: it was damaged in transfer. Its sha256"
                f" is {actual}, not {parameters['sha256']}. Run again."
            )
        )
    directories.make(target.parent, own=paths.ASSETS)
    files.write(target, Path(parameters["source"]).read_bytes(), mode=0o644)
    module.exit_json(changed=True, present=True, file=str(target))


if __name__ == "__main__":
    main()
