"""The service's cache on disk: whether it was really emptied, and how it is set aside."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import endings, redaction, shape
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files
from ansible_collections.katago.fleet.plugins.module_utils.common.prometheus import Scrape

KERNELS = "pocl"
"""What lies in the same directory and is no answer: kernels that PoCL compiled for the device."""
_INSIDE = ".quarantine-"
VERIFY_SECONDS = 300


@dataclass(frozen=True)
class Size:
    """How many answers, and their size in bytes."""

    entries: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.entries} {'answer' if self.entries == 1 else 'answers'}, {self.bytes} bytes"


def size(value: object) -> Size | None:
    """The size in an answer of the server; None when it is none."""
    if not isinstance(value, Mapping):
        return None
    entries, bytes_ = value.get("entries"), value.get("bytes")
    return Size(entries, bytes_) if isinstance(entries, int) and isinstance(bytes_, int) else None


def shown(scrape: Scrape | None) -> Size | None:
    """The size that the metrics show; None when they do not."""
    if scrape is None:
        return None
    entries, bytes_ = scrape.value("katago_cache_entries"), scrape.value("katago_cache_size_bytes")
    return None if entries is None or bytes_ is None else Size(int(entries), int(bytes_))


def problem(answer: tuple[int, Mapping[str, Any]] | None, metrics: Size | None) -> str | None:
    """Why it is not proven that the cache was emptied, as part of a sentence; None when it is.

    `answer`: that of `/admin/cache/clear`, `metrics`: what is shown afterwards. Clients may have put
    new answers there in between, but hardly as many as there were.
    """
    if answer is None:
        return "the service gave no answer to the order to clear it"
    status, body = answer
    before, after = size(body.get("before")), size(body.get("after"))
    if status != 200 or before is None or after is None:
        words = body.get("message") or body.get("error") or "no words"
        return f"the service answered {status} to the order to clear it ({words})"
    if after != Size(0, 0):
        return f"the service says that {after} are left"
    if metrics is None:
        return "the metrics do not show its size"
    if metrics.entries >= max(before.entries, 1):
        return f"the metrics show {metrics} after {before} were dropped"
    return None


class UnverifiedError(Exception):
    """The cache was not inspected, which is no damage; the message says why, as a sentence."""


class Report(TypedDict):
    """What the release's command found in the file of the cache; `bytes` are those of its answers."""

    ok: bool
    entries: int
    bytes: int
    problems: list[str]


def verified(user: str, command: Path, config: Path) -> Report:
    """What a release's `katago-mcp cache verify` finds, run as the service's user.

    Raises:
        UnverifiedError: if it comes to no verdict.
    """
    if not _is_user(user):
        raise UnverifiedError(f"The cache cannot be inspected: there is no user {user}.")
    try:
        asked = subprocess.run(
            [command, "cache", "verify", "--json", "--config", str(config)],
            capture_output=True,
            text=True,
            timeout=VERIFY_SECONDS,
            user=user,
            group=user,
            extra_groups=[],
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnverifiedError(f"The cache cannot be inspected: {error}.") from error
    try:
        return shape.typed(Report, shape.parsed(asked.stdout), "the report")
    except shape.ShapeError as error:
        said = redaction.plain(asked.stderr)
        words = endings.said(said, str(error) if asked.stdout else "", status=asked.returncode, most=300)
        raise UnverifiedError(f"The cache cannot be inspected: {words}.") from error


def _is_user(name: str) -> bool:
    """Whether there are a user and a group of that name."""
    try:
        pwd.getpwnam(name)
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


class RefusedError(Exception):
    """Nothing may be done to the cache; the message says why and the remedy, in sentences."""


class _Cache(TypedDict):
    directory: str


class _Settings(TypedDict):
    cache: _Cache


def directory(unit: Path, config: Path) -> Path:
    """Where a configuration keeps the cache; a directory, or not there yet: systemd makes it.

    Raises:
        RefusedError: if there is no service with that unit file, its configuration does not say, or what is
            there is a symlink or no directory.
    """
    try:
        unit.stat()
        place = Path(shape.typed(_Settings, shape.parsed(config.read_bytes()))["cache"]["directory"])
        mode = place.lstat().st_mode if os.path.lexists(place) else stat.S_IFDIR
    except (OSError, shape.ShapeError) as error:
        raise RefusedError(
            f"There is no service that could be purged, or it is damaged ({config}: {error})."
            " playbooks/deploy.yml installs it."
        ) from error
    if stat.S_ISLNK(mode):
        raise RefusedError(
            f"{place} is a symlink to {place.readlink()}, which is not followed. Make it a directory; what"
            " lies elsewhere can be mounted there."
        )
    if not stat.S_ISDIR(mode):
        raise RefusedError(f"{place} is no directory. Move it away.")
    return place


def content(directory: Path) -> dict[str, int]:
    """What is to be set aside: files, links and directories by name, with their sizes in bytes."""
    if not directory.exists():
        return {}
    with os.scandir(directory) as entries:
        found = {entry.name: _bytes(entry) for entry in entries if _is_cache(entry.name)}
    return dict(sorted(found.items()))


def quarantine(directory: Path) -> Path:
    """Where the content is set aside: beside the directory, out of the service's reach.

    Inside of it where a rename does not lead out, since it is a file system of its own.
    """
    beside = directory.parent / f"{directory.name}-quarantine"
    return beside if directory.stat().st_dev == directory.parent.stat().st_dev else directory


def set_aside(directory: Path, at: str) -> list[Path]:
    """Rename the content, under names that begin with the time `at`; return where it is now.

    Renames alone, which need no space: nothing is copied, deleted or overwritten, no link is followed.
    """
    names = list(content(directory))
    if not names:
        return []
    place = quarantine(directory)
    if place != directory:
        try:
            place.mkdir(mode=0o700, exist_ok=True)
        except OSError:
            # A full disk may have no room for a directory either.
            place = directory
    prefix = f"{_INSIDE if place == directory else ''}{at.replace(':', '')}-"
    moved = []
    with _opened(directory) as source, _opened(place) as target:
        for name in names:
            os.rename(name, prefix + name, src_dir_fd=source, dst_dir_fd=target)
            moved.append(place / (prefix + name))
    for changed in {directory, place}:
        common_files.sync_directory(changed)
    return moved


def earlier(directory: Path) -> list[Path]:
    """All that was set aside up to now."""
    beside = directory.parent / f"{directory.name}-quarantine"
    return sorted([*beside.glob("*"), *directory.glob(f"{_INSIDE}*")])


def _is_cache(name: str) -> bool:
    return name != KERNELS and not name.startswith(_INSIDE)


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _bytes(entry: os.DirEntry[str]) -> int:
    if not entry.is_dir(follow_symlinks=False):
        return entry.stat(follow_symlinks=False).st_size
    return sum(
        Path(directory, name).lstat().st_size for directory, _, names in os.walk(entry) for name in names
    )
