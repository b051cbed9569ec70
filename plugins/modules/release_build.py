#!/usr/bin/python
"""Builds a release of the server: environment, configuration, unit, manifest."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_build
short_description: Build a release, named by its content
description:
  - Builds C(/opt/katago-mcp/releases/<version>-<digest>/) with the server's environment, its configuration,
    its unit, and a manifest. The manifest has the sha256 of every file of the release and of everything
    that the release depends on.
  - The environment is installed from a wheel set that is made on the control node. The host needs no
    network.
  - Does not touch the running service. An intact release is not built again; its owner and modes are
    corrected, like those of the directories that the service reads. A damaged release is moved
    aside under another name and built again.
options:
  server:
    description: The server's source directory on the control node, with C(pyproject.toml) and
      C(requirements.lock).
    type: path
    required: true
  python:
    description: The host's Python version, as a list of numbers.
    type: list
    elements: int
    required: true
  machine:
    description: The host's architecture.
    type: str
    required: true
  files:
    description: The other files of the release; name to content.
    type: dict
    required: true
  engine_version:
    description: The version of the engine that the release uses.
    type: str
    required: true
  stands_on:
    description: What the release depends on and does not contain; path on the host to sha256.
    type: dict
    required: true
  cache_dir:
    description: The cache directory on the control node, where wheel sets are kept.
    type: path
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Build the release
  katago.fleet.release_build:
    server: "{{ playbook_dir }}/../server"
    python: [3, 13, 5]
    machine: x86_64
    files:
      config.json: "{{ _katago_mcp_config | to_nice_json }}"
    engine_version: "1.18.1"
    stands_on:
      /opt/katago/networks/f5d3/net.bin.gz: f5d3
    cache_dir: ~/.cache/katago-mcp-fleet
"""

RETURN = r"""
name:
  description: The name of the release.
  type: str
  returned: always
version:
  description: The server's version.
  type: str
  returned: always
set_aside:
  description: The directory to which a damaged release of the same name was moved.
  type: str
  returned: when a damaged release was replaced
"""

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    digest,
    directories,
    environment,
    files,
)
from ansible_collections.katago.fleet.plugins.module_utils.release import layout
from ansible_collections.katago.fleet.plugins.module_utils.service import unit


def build(directory: Path, source: Path, parameters: dict[str, Any]) -> None:
    """Build the release in its final directory, because an environment cannot be moved.

    A directory without a manifest does not count as a release, so a build that was killed starts over.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directories.make(directory, own=directory)
    wheels = directory / ".wheels"
    with zipfile.ZipFile(source) as archive:
        archive.extractall(wheels)
    # pip unpacks wheels in its directory for temporary files, and /tmp may be small or full.
    temporary = directory / ".tmp"
    directories.make(temporary)
    environment.install(directory / "venv", wheels, temporary)
    environment.run([str(directory / "venv" / "bin" / "katago-mcp"), "version"], temporary)
    shutil.rmtree(temporary)
    shutil.rmtree(wheels)
    for name, content in parameters["files"].items():
        (directory / name).write_text(content)
    directories.seal(directory)
    manifest = {
        "name": parameters["name"],
        "version": parameters["version"],
        **parameters["inputs"],
        "files": digest.of_tree(directory),
    }
    files.sync_tree(directory)
    files.write(directory / layout.MANIFEST, json.dumps(manifest, indent=1).encode() + b"\n", mode=0o644)


def correct(directory: Path, *, check: bool) -> bool:
    """Correct the owners and modes of a release and of the directories that the service passes through.

    Returns whether any of them differed. `check`: change nothing.
    """
    changed = directories.seal(directory, check=check)
    for path in (directory.parent, paths.STATE, paths.CONFIG.parent):
        changed |= directories.make(path, own=paths.own(path), check=check)
    return changed


def set_aside(directory: Path, *, in_use: bool = False) -> Path | None:
    """Move a damaged release away and keep it for analysis; None if the release was never complete.

    `in_use`: it is the current release or it runs, so it was complete once.
    """
    if not (os.path.lexists(directory) if in_use else (directory / layout.MANIFEST).exists()):
        return None
    stamp = timestamps.now().replace(":", "")
    target = directory.with_name(f".damaged-{directory.name}-{stamp}")
    directory.rename(target)
    return target


def main() -> None:
    """Report whether the release is present and intact, or build it from `source`."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "inputs": {"type": "dict", "required": True},
            "files": {"type": "dict", "required": True},
            "source": {"type": "path"},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    releases = layout.Layout(paths.RELEASE_ROOT)
    directory = releases.release(parameters["name"])
    present = not layout.damage(directory)
    if present or parameters["source"] is None:
        corrected = present and correct(directory, check=module.check_mode)
        module.exit_json(changed=corrected, present=present)
    uses = (releases.current_release(), unit.running_release(unit.state().pid))
    aside = set_aside(directory, in_use=directory.name in uses)
    try:
        build(directory, Path(parameters["source"]), parameters)
        if damage := layout.damage(directory):
            raise environment.BuildError("; ".join(damage[:3]))
        correct(directory, check=False)
    except (environment.BuildError, OSError, subprocess.TimeoutExpired) as error:
        if aside:
            # It may be the current release. A damaged release still runs; a missing one cannot be restarted.
            shutil.rmtree(directory, ignore_errors=True)
            aside.rename(directory)
        module.fail_json(
            msg=(
                f"The release {parameters['name']} cannot be built: {error}."
                " No release was switched; the running service was not touched."
            )
        )
    module.exit_json(changed=True, present=True, **({"set_aside": str(aside)} if aside else {}))


if __name__ == "__main__":
    main()
