#!/usr/bin/python
"""Installs a KataGo engine in a directory named by the sha256 of its file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: engine
short_description: Install a KataGo engine, content-addressed
description:
  - Installs the engine as C(/opt/katago/engines/<sha256>/), owned by root and writable only by root.
  - Unpacks an AppImage, because hosts have no FUSE. Installs a plain executable unchanged.
  - The engine must run on the host and report the declared version.
  - An engine that is already installed and intact is not sent again. Its owners and modes are corrected.
options:
  path:
    description: The engine on the control node.
    type: path
    required: true
  sha256:
    description: The engine file's sha256, which is also the name of its directory.
    type: str
    required: true
  version:
    description: The version that the engine must report.
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
- name: Install the engine
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
  description: The engine's directory.
  type: str
  returned: always
tree_sha256:
  description: The digest of the directory; empty if the engine is not installed.
  type: str
  returned: always
present:
  description: Whether the engine is installed and intact.
  type: bool
  returned: always
"""

import json
import shutil
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, directories, endings
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files

ENGINES = paths.ASSETS / "engines"
# Long enough for a slow or busy host; a hanging program must still be stopped.
EXTRACTION_SECONDS = 900
VERSION_SECONDS = 300


class EngineError(Exception):
    """The engine cannot be installed; the message states the cause."""


def binary(directory: Path) -> Path:
    """The engine's program in its directory."""
    unpacked = directory / "AppRun"
    return unpacked if unpacked.exists() else directory / "katago"


def is_appimage(path: Path) -> bool:
    """Whether a file is an AppImage of type 2, by its magic bytes."""
    with path.open("rb") as file:
        return file.read(11)[8:] == b"AI\x02"


def install(source: Path, sha256: str, version: str, directory: Path) -> None:
    """Install the engine. Leftovers of a killed run are replaced.

    Everything is checked before an installed engine, which may be running, is replaced.

    Raises:
        EngineError: the file is damaged, does not run on the host, or has another version.
    """
    actual = digest.of_file(source)
    if actual != sha256:
        raise EngineError(f"the file was damaged in transfer: its sha256 is {actual}, not {sha256}")
    scratch = directory.with_name(f".{sha256}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    directories.make(scratch, own=scratch)
    try:
        tree = prepare(source, scratch)
        check_version(binary(tree), version)
        # Written last: without this file, the engine counts as not installed.
        record = json.dumps(digest.of_tree(tree), indent=1)
        common_files.write(tree / digest.RECORD, record.encode(), mode=0o644)
        common_files.sync_tree(tree)
        shutil.rmtree(directory, ignore_errors=True)
        tree.rename(directory)
        common_files.sync_directory(directory.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def prepare(source: Path, scratch: Path) -> Path:
    """Create the engine's directory tree below `scratch`; return it."""
    tree = scratch / "tree"
    directories.make(tree)
    program = tree / "katago"
    shutil.copyfile(source, program)
    program.chmod(0o755)
    if is_appimage(program):
        tree = unpack(program, scratch)
    directories.seal(tree)
    return tree


def unpack(program: Path, scratch: Path) -> Path:
    """Unpack an AppImage with its own unpacker; return the tree."""
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
        message = endings.describe(result.stderr, result.stdout, status=result.returncode)
        raise EngineError(f"the AppImage cannot be unpacked: {message}")
    return tree


def tree_digest(directory: Path) -> str:
    """The digest of an installed engine; empty if it is missing or was changed since its installation."""
    try:
        record = json.loads((directory / digest.RECORD).read_text())
    except (OSError, ValueError):
        return ""
    actual = digest.of_path(directory)
    return actual if actual == digest.of_json(record) else ""


def check_version(program: Path, declared: str) -> None:
    """Raise EngineError if the engine does not run on the host or reports another version."""
    reported = reported_version(program)
    if reported != declared:
        raise EngineError(
            f"it reports version {reported}, but katago_engine.version is {declared}: correct one of them"
        )


def reported_version(program: Path) -> str:
    """The version that the engine reports."""
    result = subprocess.run(
        [program, "version"],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=VERSION_SECONDS,
        check=False,
    )
    if result.returncode != 0 or not result.stdout.startswith("KataGo v"):
        message = endings.describe(result.stderr, result.stdout, status=result.returncode)
        raise EngineError(f"it does not run on this host: {message}")
    return result.stdout.split()[1].removeprefix("v")


def main() -> None:
    """Report whether the engine is installed, or install it from `source`."""
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
    corrected = False
    try:
        if tree or installing:
            corrected = directories.make(ENGINES, own=paths.ASSETS, check=module.check_mode)
        if tree:
            corrected |= directories.seal(directory, check=module.check_mode)
        if installing:
            install(Path(parameters["source"]), parameters["sha256"], parameters["version"], directory)
            tree = digest.of_path(directory)
        elif tree:
            check_version(binary(directory), parameters["version"])
    except (EngineError, OSError, subprocess.TimeoutExpired) as error:
        module.fail_json(
            msg=(
                f"The engine {parameters['sha256'][:12]} cannot be used: {endings.of_error(error)}."
                " Nothing was switched: the current release is unchanged."
            )
        )
    module.exit_json(
        changed=installing or corrected,
        present=bool(tree),
        binary=str(binary(directory)),
        directory=str(directory),
        tree_sha256=tree,
    )


if __name__ == "__main__":
    main()
