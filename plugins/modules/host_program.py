#!/usr/bin/python
"""Installs a program that is built from the collection's own modules."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_program
short_description: Install a program that runs on a host without the control node
description:
  - Builds one executable file from a module of C(plugins/module_utils) and everything that it imports from
    there, and installs it for root. The host only needs Python 3.11.
  - Timers and playbooks therefore run the same code.
  - Fails on a host in security mode.
options:
  module:
    description: The module of C(plugins/module_utils) whose C(main()) the program runs.
    type: str
    required: true
  path:
    description: The program's path on the host.
    type: path
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Install the backup program
  katago.fleet.host_program:
    module: backup
    path: /usr/local/sbin/katago-backup
"""

RETURN = r"""
present:
  description: Whether the program is installed.
  type: bool
  returned: always
security_mode:
  description: The host's security mode, because of which nothing was installed.
  type: dict
  returned: when the host is in security mode and the program is not installed
"""

from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, files
from ansible_collections.katago.fleet.plugins.module_utils.procedure import security_mode

MODE = 0o755


def is_installed(path: Path, sha256: str) -> bool:
    """Whether the program is installed, intact and executable."""
    return path.is_file() and path.stat().st_mode & 0o777 == MODE and digest.of_file(path) == sha256


def main() -> None:
    """Report whether the program is installed, or install it from `source`."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "sha256": {"type": "str", "required": True},
            "source": {"type": "path"},
        },
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    present = is_installed(path, module.params["sha256"])
    if not present and (mode := security_mode.standing(*paths.SECURITY_MODE)):
        module.exit_json(changed=False, present=False, security_mode=asdict(mode))
    if present or module.params["source"] is None:
        module.exit_json(changed=False, present=present)
    content = Path(module.params["source"]).read_bytes()
    if digest.of_bytes(content) != module.params["sha256"]:
        module.fail_json(msg=f"{path} was not installed: the file was damaged in transfer. Run again.")
    try:
        files.write(path, content, mode=MODE)
    except OSError as error:
        module.fail_json(msg=f"{path} was not installed: {error.strerror}")
    module.exit_json(changed=True, present=True)


if __name__ == "__main__":
    main()
