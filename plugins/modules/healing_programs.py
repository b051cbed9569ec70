#!/usr/bin/python
"""Installs what a monitoring host needs to run procedures: Ansible, ansible-rulebook, and this collection."""

from __future__ import annotations

DOCUMENTATION = r"""
module: healing_programs
short_description: Install Ansible, ansible-rulebook and this collection on a monitoring host
description:
  - Builds C(/opt/katago-healing/<digest>/) with a Python environment and the collection of the control node,
    and switches the link C(current) to it. The host needs no network. Other versions are removed.
  - Nothing is sent to a host that has this version already.
options:
  lock:
    description: The file on the control node with the locked requirements of the environment.
    type: path
    required: true
  python:
    description: The host's Python version, such as C(3.13).
    type: str
    required: true
  machine:
    description: The host's architecture.
    type: str
    required: true
  cache_dir:
    description: The cache directory on the control node, where wheel sets are kept.
    type: path
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Install Ansible and ansible-rulebook
  katago.fleet.healing_programs:
    lock: "{{ role_path }}/files/requirements.lock"
    python: "3.13"
    machine: x86_64
    cache_dir: ~/.cache/katago-mcp-fleet
"""

RETURN = r"""
name:
  description: The name of the version, a digest of its content.
  type: str
  returned: always
"""

import shutil
import subprocess
import zipfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import directories, environment, files

COMPLETE = "complete"
CURRENT = "current"


def is_current(root: Path, name: str) -> bool:
    """Whether this version is complete, and in use."""
    current = root / CURRENT
    return (root / name / COMPLETE).is_file() and current.is_symlink() and current.readlink() == Path(name)


def build(root: Path, name: str, source: Path) -> None:
    """Build a version in its final directory, because an environment cannot be moved, and switch to it."""
    directories.make(root, own=root)
    directory = root / name
    shutil.rmtree(directory, ignore_errors=True)
    directories.make(directory, own=directory)
    with zipfile.ZipFile(source) as archive:
        archive.extractall(directory)
    temporary = directory / ".tmp"
    directories.make(temporary)
    environment.install(directory / "venv", directory / "wheels", temporary)
    environment.run([str(directory / "venv" / "bin" / "ansible-playbook"), "--version"], temporary)
    shutil.rmtree(temporary)
    shutil.rmtree(directory / "wheels")
    directories.seal(directory)
    (directory / COMPLETE).touch()
    files.sync_tree(directory)
    files.link(root / CURRENT, name)
    for other in root.iterdir():
        if other.is_dir() and not other.is_symlink() and other.name != name:
            shutil.rmtree(other)


def main() -> None:
    """Report whether the version is present, or build it from `source`."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "source": {"type": "path"},
        },
        supports_check_mode=True,
    )
    parameters, root = module.params, paths.FLEET_HEALING_PROGRAMS
    present = is_current(root, parameters["name"])
    if present or parameters["source"] is None:
        module.exit_json(changed=False, present=present)
    try:
        build(root, parameters["name"], Path(parameters["source"]))
    except (environment.BuildError, OSError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
        module.fail_json(msg=f"The programs of fleet healing cannot be installed: {error}. Run again.")
    module.exit_json(changed=True, present=True)


if __name__ == "__main__":
    main()
