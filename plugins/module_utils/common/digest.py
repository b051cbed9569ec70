"""Digests of files and directory trees. Everything that is installed is named and verified by its digest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

# The name of the record of its own files that a completely installed directory has.
RECORD = "files.json"

_BLOCK = 1 << 20


def of_file(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file's content, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def of_bytes(content: bytes) -> str:
    """The sha256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def of_text(text: str) -> str:
    """The sha256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def of_json(value: object) -> str:
    """The sha256 of a JSON value, independent of the order of its keys."""
    return of_text(json.dumps(value, sort_keys=True, separators=(",", ":")))


def of_tree(root: str | os.PathLike[str], *, skip: frozenset[str] = frozenset()) -> dict[str, str]:
    """Every file and symlink below `root`, by relative path, with its sha256.

    The digest of an executable file ends in `+x`. The entry of a symlink is `link:` and its target. Empty
    directories are ignored. `skip`: paths relative to `root` to leave out.
    """
    entries = {}
    for path in sorted(_files(Path(root))):
        relative = path.relative_to(root).as_posix()
        if relative in skip:
            continue
        if path.is_symlink():
            entries[relative] = f"link:{path.readlink()}"
        else:
            executable = "+x" if path.stat().st_mode & 0o100 else ""
            entries[relative] = of_file(path) + executable
    return entries


def of_path(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file, or of the content of a directory without its own record."""
    if Path(path).is_dir():
        return of_json(of_tree(path, skip=frozenset({RECORD})))
    return of_file(path)


def differences(expected: dict[str, str], actual: dict[str, str]) -> list[str]:
    """The differences between two trees from `of_tree`, as one short phrase for each path.

    Triage reads the ends of these phrases to distinguish missing files from changed and added ones.
    """
    return [
        *(f"{path} is missing" for path in sorted(expected.keys() - actual.keys())),
        *(f"{path} was added" for path in sorted(actual.keys() - expected.keys())),
        *(
            f"{path} was changed"
            for path in sorted(expected.keys() & actual.keys())
            if expected[path] != actual[path]
        ),
    ]


def _files(root: Path) -> Iterator[Path]:
    for directory, subdirectories, files in os.walk(root):
        for name in files:
            yield Path(directory, name)
        for name in subdirectories:
            if Path(directory, name).is_symlink():
                yield Path(directory, name)
