"""Packs what a monitoring host needs to run procedures: wheels, and the collection that runs here."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import digest

ROOT = Path(__file__).resolve().parents[3]
COLLECTION = "collections/ansible_collections/katago/fleet"
"""Where the collection lies in the archive."""
_PARTS = ("meta", "playbooks", "plugins", "roles")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_NAME_LENGTH = 16


def name(wheels_sha256: str, root: Path = ROOT) -> str:
    """The name of a version: a digest of the wheels and of the collection below `root`."""
    content = {path.relative_to(root).as_posix(): digest.of_file(path) for path in files(root)}
    return digest.of_json({"wheels": wheels_sha256, "collection": content})[:_NAME_LENGTH]


def files(root: Path = ROOT) -> Iterator[Path]:
    """The files of the collection that procedures need, without links and compiled files."""
    for part in _PARTS:
        for path in sorted((root / part).rglob("*")):
            # A checkout has a link to itself, so that playbooks find the collection there.
            inside = path.relative_to(root)
            if path.is_file() and not path.is_symlink() and "__pycache__" not in inside.parts:
                yield path


def pack(wheels: Path, target: Path, root: Path = ROOT) -> None:
    """Write the archive: the content of the archive `wheels` below `wheels/`, and the collection."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as packed:
        with zipfile.ZipFile(wheels) as source:
            for each in source.namelist():
                packed.writestr(zipfile.ZipInfo(f"wheels/{each}", _EPOCH), source.read(each))
        for path in files(root):
            entry = zipfile.ZipInfo(f"{COLLECTION}/{path.relative_to(root).as_posix()}", _EPOCH)
            packed.writestr(entry, path.read_bytes())
