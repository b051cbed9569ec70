#!/usr/bin/python
"""Installs a KataGo engine under the digest of its file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: engine
short_description: Install a KataGo engine, content-addressed
description:
  - Installs the engine as C(/opt/katago/engines/<sha256>/), owned by root and not writable by anybody else.
  - An AppImage is unpacked, since hosts have no FUSE. A plain executable is installed as it is.
  - The engine must run on the host and be of the version that was declared.
  - An engine that is there and whole is not touched and not sent again.
options:
  path:
    description: The engine on the control node.
    type: path
    required: true
  sha256:
    description: The engine file's sha256; its directory's name.
    type: str
    required: true
  version:
    description: The version that the engine must say it is.
    type: str
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The engine is installed
  katago.fleet.engine:
    path: "{{ preflight_engine.path }}"
    sha256: "{{ preflight_engine.sha256 }}"
    version: "{{ preflight_engine.version }}"
"""

RETURN = r"""
binary:
  description: The program to start.
  type: str
  returned: always
directory:
  description: Everything that belongs to the engine.
  type: str
  returned: always
tree_sha256:
  description: The digest of the directory; empty while the engine is not installed.
  type: str
  returned: always
present:
  description: Whether the engine is installed and whole.
  type: bool
  returned: always
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, endings
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files

ENGINES = paths.ASSETS / "engines"
# For a host that is slow or busy: what hangs does so for ever.
EXTRACTION_SECONDS = 900
VERSION_SECONDS = 300


class EngineError(Exception):
    """The engine cannot be installed; the message says why."""


def binary(directory: Path) -> Path:
    """The program to start in an engine's directory."""
    unpacked = directory / "AppRun"
    return unpacked if unpacked.exists() else directory / "katago"


def is_appimage(path: Path) -> bool:
    """Whether a file is an AppImage of type 2, by its magic bytes."""
    with path.open("rb") as file:
        return file.read(11)[8:] == b"AI\x02"


def install(source: Path, sha256: str, version: str, directory: Path) -> None:
    """Install the engine; what a killed run left behind is replaced.

    Everything is checked before an engine that is there, and perhaps runs, is touched.
    """
    actual = digest.of_file(source)
    if actual != sha256:
        raise EngineError(f"the engine arrived damaged: its sha256 is {actual}, not {sha256}")
    scratch = directory.with_name(f".{sha256}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True, mode=0o755)
    try:
        tree = prepare(source, scratch)
        check_version(binary(tree), version)
        # Written last: an engine without it was not installed to the end.
        record = json.dumps(digest.of_tree(tree), indent=1)
        common_files.write(tree / digest.RECORD, record.encode(), mode=0o644)
        common_files.sync_tree(tree)
        shutil.rmtree(directory, ignore_errors=True)
        tree.rename(directory)
        common_files.sync_directory(directory.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def prepare(source: Path, scratch: Path) -> Path:
    """Everything that belongs to the engine, as a tree below `scratch`."""
    tree = scratch / "tree"
    tree.mkdir()
    program = tree / "katago"
    shutil.copyfile(source, program)
    program.chmod(0o755)
    if is_appimage(program):
        tree = unpack(program, scratch)
    seal(tree)
    return tree


def unpack(program: Path, scratch: Path) -> Path:
    """Unpack an AppImage, which carries its own unpacker; return the tree."""
    result = subprocess.run(
        [program, "--appimage-extract"],
        cwd=scratch,
        capture_output=True,
        text=True,
        timeout=EXTRACTION_SECONDS,
        check=False,
    )
    tree = scratch / "squashfs-root"
    if result.returncode != 0 or not (tree / "AppRun").exists():
        said = endings.said(result.stderr, result.stdout, status=result.returncode)
        raise EngineError(f"the AppImage cannot be unpacked: {said}")
    return tree


def seal(tree: Path) -> None:
    """Give everything to root, readable by all and writable by nobody else."""
    for directory, _, files in os.walk(tree):
        Path(directory).chmod(0o755)
        os.chown(directory, 0, 0)
        for name in files:
            path = Path(directory, name)
            os.lchown(path, 0, 0)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def tree_digest(directory: Path) -> str:
    """The digest of an installed engine; empty when it is missing or not what was installed."""
    try:
        record = json.loads((directory / digest.RECORD).read_text())
    except (OSError, ValueError):
        return ""
    actual = digest.of_path(directory)
    return actual if actual == digest.of_json(record) else ""


def check_version(program: Path, declared: str) -> None:
    """Refuse an engine that does not run here or is of another version than declared."""
    found = reported_version(program)
    if found != declared:
        raise EngineError(
            f"it says that it is version {found}, and katago_engine.version is {declared}:"
            " correct the one or the other"
        )


def reported_version(program: Path) -> str:
    """The version that the engine says it is."""
    result = subprocess.run(
        [program, "version"],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=VERSION_SECONDS,
        check=False,
    )
    if result.returncode != 0 or not result.stdout.startswith("KataGo v"):
        said = endings.said(result.stderr, result.stdout, status=result.returncode)
        raise EngineError(f"the engine does not run here: {said}")
    return result.stdout.split()[1].removeprefix("v")


def main() -> None:
    """Answer whether the engine is there, or install it from `source`."""
    module = AnsibleModule(
        argument_spec={
            "sha256": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "source": {"type": "path"},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    directory = ENGINES / parameters["sha256"]
    tree = tree_digest(directory)
    installing = not tree and parameters["source"] is not None
    try:
        if installing:
            install(Path(parameters["source"]), parameters["sha256"], parameters["version"], directory)
            tree = digest.of_path(directory)
        elif tree:
            check_version(binary(directory), parameters["version"])
    except (EngineError, OSError, subprocess.TimeoutExpired) as error:
        module.fail_json(
            msg=(
                f"The engine {parameters['sha256'][:12]} cannot be used: {endings.of_error(error)}."
                " Nothing was switched."
            )
        )
    module.exit_json(
        changed=installing,
        present=bool(tree),
        binary=str(binary(directory)),
        directory=str(directory),
        tree_sha256=tree,
    )


if __name__ == "__main__":
    main()
