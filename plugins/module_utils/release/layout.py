"""The release on disk: its name, its manifest, whether it is whole, and which may be pruned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import digest, shape

# Written last and synced: a release without it was not built to the end.
MANIFEST = "manifest.json"
DIGEST_LENGTH = 12


def name(version: str, inputs: Mapping[str, Any]) -> str:
    """`<version>-<digest>`, where the digest is that of everything the release is made of."""
    return f"{version}-{digest.of_json(inputs)[:DIGEST_LENGTH]}"


@dataclass(frozen=True)
class Layout:
    """Where releases lie below `root`."""

    root: Path

    @property
    def releases(self) -> Path:
        """The directory of all releases."""
        return self.root / "releases"

    @property
    def current(self) -> Path:
        """The symlink that is the only switch there is."""
        return self.root / "current"

    def release(self, release: str) -> Path:
        """The directory of a release."""
        return self.releases / release

    def current_release(self) -> str | None:
        """The name of the release that `current` leads to, None when there is none."""
        return self.current.readlink().name if self.current.is_symlink() else None

    def complete(self) -> list[str]:
        """The names of the releases that were built to the end."""
        if not self.releases.is_dir():
            return []
        found = (path.parent.name for path in self.releases.glob(f"*/{MANIFEST}"))
        return sorted(release for release in found if not release.startswith("."))


class Manifest(TypedDict):
    """What a release is made of; keys that only the release itself knows may be added.

    `files`: its own files and `stands_on`: what it needs besides, each by path with its digest.
    """

    name: str
    version: str
    engine_version: str
    files: dict[str, str]
    stands_on: dict[str, str]


def parse(content: bytes) -> Manifest:
    """The manifest that a file holds. Raises shape.ShapeError."""
    return shape.typed(Manifest, shape.parsed(content))


def manifest(directory: Path) -> Manifest | None:
    """The manifest of a release's directory, None when there is none that can be used."""
    try:
        return parse((directory / MANIFEST).read_bytes())
    except (OSError, shape.ShapeError):
        return None


def fits_name(manifest: Manifest) -> bool:
    """Whether a manifest is the one that its release was named by, so that a changed manifest shows.

    What the manifest adds to the inputs are the files that were made of them, the environment's.
    """
    inputs = {key: value for key, value in manifest.items() if key not in ("name", "version")}
    files = {path: sha256 for path, sha256 in manifest["files"].items() if "/" not in path}
    return manifest["name"] == name(manifest["version"], {**inputs, "files": files})


def own_manifest(directory: Path) -> Manifest | None:
    """The manifest that a release's directory is named by; None when it cannot be read or was changed."""
    found = manifest(directory)
    if found is None or found["name"] != directory.resolve().name or not fits_name(found):
        return None
    return found


def damage(directory: Path) -> list[str]:
    """What is missing from, changed in or unreadable of a release and all it stands on; [] when it is whole.

    Of a release whose manifest was changed nothing else can be said.
    """
    found = own_manifest(directory)
    if found is None:
        words = "was changed" if _is_object(directory / MANIFEST) else "is missing or cannot be read"
        return [f"{MANIFEST} {words}"]
    problems = []
    try:
        problems += digest.differences(found["files"], digest.of_tree(directory, skip=frozenset({MANIFEST})))
        for path, expected in sorted(found["stands_on"].items()):
            if not Path(path).exists():
                problems.append(f"{path} is missing")
            elif digest.of_path(path) != expected:
                problems.append(f"{path} was changed")
    except OSError as error:
        problems.append(f"{error.filename or directory} cannot be read: {error.strerror}")
    return problems


def to_prune(releases: Mapping[str, float], *, keep: int, protected: Iterable[str]) -> list[str]:
    """The releases to remove, oldest first, so that `keep` remain; protected ones always remain.

    `releases`: name to time of building (any unit). `keep` counts the protected ones.
    """
    kept = set(protected) & releases.keys()
    for release in sorted(releases, key=lambda each: (releases[each], each), reverse=True):
        if len(kept) >= keep:
            break
        kept.add(release)
    return sorted(releases.keys() - kept, key=lambda each: (releases[each], each))


def _is_object(path: Path) -> bool:
    try:
        shape.mapping(shape.parsed(path.read_bytes()))
    except (OSError, shape.ShapeError):
        return False
    return True
