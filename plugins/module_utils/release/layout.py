"""Releases on disk: names, manifests, integrity checks, and which releases may be pruned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import digest, shape

# Written last and synced: a release without it was not built completely.
MANIFEST = "manifest.json"
DIGEST_LENGTH = 12


def name(version: str, inputs: Mapping[str, Any]) -> str:
    """`<version>-<digest>`; the digest covers everything that the release is made of."""
    return f"{version}-{digest.of_json(inputs)[:DIGEST_LENGTH]}"


@dataclass(frozen=True)
class Layout:
    """The directories of releases below `root`."""

    root: Path

    @property
    def releases(self) -> Path:
        """The directory of all releases."""
        return self.root / "releases"

    @property
    def current(self) -> Path:
        """The symlink to the current release. Replacing it is how a host switches releases."""
        return self.root / "current"

    def release(self, release: str) -> Path:
        """The directory of a release."""
        return self.releases / release

    def current_release(self) -> str | None:
        """The name of the release that `current` points to; None if there is none."""
        return self.current.readlink().name if self.current.is_symlink() else None

    def complete(self) -> list[str]:
        """The names of the releases that were built completely."""
        if not self.releases.is_dir():
            return []
        built = (path.parent.name for path in self.releases.glob(f"*/{MANIFEST}"))
        return sorted(release for release in built if not release.startswith("."))


class Manifest(TypedDict):
    """What a release is made of. It may have more keys, which only the release itself uses.

    `files`: path to digest of its own files. `stands_on`: path to digest of what it depends on outside.
    """

    name: str
    version: str
    engine_version: str
    files: dict[str, str]
    stands_on: dict[str, str]


def parse(content: bytes) -> Manifest:
    """Parse the content of a manifest. Raises shape.ShapeError."""
    return shape.typed(Manifest, shape.parsed(content))


def manifest(directory: Path) -> Manifest | None:
    """The manifest in a release's directory; None if it is missing or unusable."""
    try:
        return parse((directory / MANIFEST).read_bytes())
    except (OSError, shape.ShapeError):
        return None


def fits_name(manifest: Manifest) -> bool:
    """Whether the digest in a release's name matches its manifest; a changed manifest does not match.

    The name covers the build's inputs only, so the files of the environment, which the build adds to
    `files`, are left out.
    """
    inputs = {key: value for key, value in manifest.items() if key not in ("name", "version")}
    files = {path: sha256 for path, sha256 in manifest["files"].items() if "/" not in path}
    return manifest["name"] == name(manifest["version"], {**inputs, "files": files})


def own_manifest(directory: Path) -> Manifest | None:
    """The manifest that matches the directory's name; None if it cannot be read or was changed."""
    content = manifest(directory)
    if content is None or content["name"] != directory.resolve().name or not fits_name(content):
        return None
    return content


def damage(directory: Path) -> list[str]:
    """What is missing, changed or unreadable in a release and in what it depends on; [] if it is intact.

    If the manifest was changed, only that is reported: nothing else can be checked.
    """
    content = own_manifest(directory)
    if content is None:
        problem = "was changed" if _is_object(directory / MANIFEST) else "is missing or cannot be read"
        return [f"{MANIFEST} {problem}"]
    problems = []
    try:
        files = digest.of_tree(directory, skip=frozenset({MANIFEST}))
        problems += digest.differences(content["files"], files)
        for path, expected in sorted(content["stands_on"].items()):
            if not Path(path).exists():
                problems.append(f"{path} is missing")
            elif digest.of_path(path) != expected:
                problems.append(f"{path} was changed")
    except OSError as error:
        problems.append(f"{error.filename or directory} cannot be read: {error.strerror}")
    return problems


def changed(damage: Iterable[str]) -> list[str]:
    """The lines of `damage` about changed or added files, which may be traces of an intruder."""
    return [line for line in damage if line.endswith((" was changed", " was added"))]


def to_prune(releases: Mapping[str, float], *, keep: int, protected: Iterable[str]) -> list[str]:
    """The releases to remove, oldest first, so that `keep` remain. Protected releases always remain.

    `releases`: name to build time (any unit). `keep` includes the protected releases.
    """
    remaining = set(protected) & releases.keys()
    for release in sorted(releases, key=lambda each: (releases[each], each), reverse=True):
        if len(remaining) >= keep:
            break
        remaining.add(release)
    return sorted(releases.keys() - remaining, key=lambda each: (releases[each], each))


def _is_object(path: Path) -> bool:
    try:
        shape.mapping(shape.parsed(path.read_bytes()))
    except (OSError, shape.ShapeError):
        return False
    return True
