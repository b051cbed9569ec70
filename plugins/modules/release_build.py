#!/usr/bin/python
"""Builds a release of the server: environment, configuration, unit, manifest."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_build
short_description: Build a release, named by its content
description:
  - Builds C(/opt/katago-mcp/releases/<version>-<digest>/) with the server's environment, its configuration,
    its unit and a manifest of the sha256 of everything in it and under it.
  - The environment is installed from a wheel set made on the control node; the host needs no network.
  - Building changes nothing that runs. A release that is there and whole is not built again; one
    that is damaged is set aside under another name and built anew.
options:
  server:
    description: The server's sources on the control node, with C(pyproject.toml) and C(requirements.lock).
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
    description: The release's other files; name to content.
    type: dict
    required: true
  engine_version:
    description: The version of the engine that the release stands on.
    type: str
    required: true
  stands_on:
    description: What the release needs and does not contain; path on the host to sha256.
    type: dict
    required: true
  cache_dir:
    description: The control node's cache, where wheel sets are kept.
    type: path
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The release is built
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
  description: The release's name.
  type: str
  returned: always
version:
  description: The server's version.
  type: str
  returned: always
set_aside:
  description: Where a damaged release of the same name was moved to.
  type: str
  returned: when there was one
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, endings, files
from ansible_collections.katago.fleet.plugins.module_utils.release import layout

# For a host that is slow or busy: what hangs does so for ever.
INSTALL_SECONDS = 1800


class BuildError(Exception):
    """The release cannot be built; the message holds the words of what failed."""


def build(directory: Path, source: Path, parameters: dict[str, Any]) -> None:
    """Build the release in its final place, since an environment cannot be moved.

    Until its manifest is written it does not count as a release, so a killed build is begun anew.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, mode=0o755)
    wheels = directory / ".wheels"
    with zipfile.ZipFile(source) as archive:
        archive.extractall(wheels)
    install_environment(directory / "venv", wheels)
    shutil.rmtree(wheels)
    for name, content in parameters["files"].items():
        (directory / name).write_text(content)
    seal(directory)
    manifest = {
        "name": parameters["name"],
        "version": parameters["version"],
        **parameters["inputs"],
        "files": digest.of_tree(directory),
    }
    files.sync_tree(directory)
    files.write(directory / layout.MANIFEST, json.dumps(manifest, indent=1).encode() + b"\n", mode=0o644)


def install_environment(venv: Path, wheels: Path) -> None:
    """Make the environment without pip in it, from wheels alone, and compile it."""
    (pip,) = wheels.glob("pip-*.whl")
    run([sys.executable, "-m", "venv", "--without-pip", str(venv)])
    python = str(venv / "bin" / "python")
    run(
        [
            python,
            f"{pip}/pip",
            "install",
            "--quiet",
            "--no-index",
            f"--find-links={wheels}",
            "--require-hashes",
            "--no-compile",
            "--no-cache-dir",
            "--disable-pip-version-check",
            f"--requirement={wheels}/requirements.txt",
        ]
    )
    run(
        [
            python,
            "-m",
            "compileall",
            "-q",
            "-j",
            "0",
            "--invalidation-mode=unchecked-hash",
            str(venv / "lib"),
        ]
    )
    run([str(venv / "bin" / "katago-mcp"), "version"])


def run(command: list[str]) -> None:
    """Run a step of the build without the network's or the user's settings."""
    environment = {
        "PATH": os.environ["PATH"],
        "PIP_CONFIG_FILE": os.devnull,
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
    }
    result = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if result.returncode != 0:
        said = endings.said(result.stderr, result.stdout, status=result.returncode, lines=3)
        raise BuildError(f"`{Path(command[0]).name} {' '.join(command[1:3])}` failed: {said}")


def seal(directory: Path) -> None:
    """Readable by all, writable by root alone, whatever the umask was."""
    for folder, _, names in os.walk(directory):
        Path(folder).chmod(0o755)
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def set_aside(directory: Path) -> Path | None:
    """Move what is damaged out of the way, for analysis; None when it was never complete."""
    if not (directory / layout.MANIFEST).exists():
        return None
    stamp = timestamps.now().replace(":", "")
    target = directory.with_name(f".damaged-{directory.name}-{stamp}")
    directory.rename(target)
    return target


def main() -> None:
    """Answer whether the release is there and whole, or build it from `source`."""
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
    directory = layout.Layout(paths.RELEASE_ROOT).release(parameters["name"])
    present = not layout.damage(directory)
    if present or parameters["source"] is None:
        module.exit_json(changed=False, present=present)
    aside = set_aside(directory)
    try:
        build(directory, Path(parameters["source"]), parameters)
        if damage := layout.damage(directory):
            raise BuildError("; ".join(damage[:3]))
    except (BuildError, OSError, subprocess.TimeoutExpired) as error:
        if aside:
            # It may be the current release: damaged, it still runs; absent, it would not start again.
            shutil.rmtree(directory, ignore_errors=True)
            aside.rename(directory)
        module.fail_json(
            msg=(
                f"The release {parameters['name']} cannot be built: {error}."
                " Nothing was switched; what runs was not touched."
            )
        )
    module.exit_json(changed=True, present=True, **({"set_aside": str(aside)} if aside else {}))


if __name__ == "__main__":
    main()
