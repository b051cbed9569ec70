"""The service's cache on disk: verifies that it was cleared, and quarantines it."""

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
from typing import Any, NotRequired, TypedDict, TypeVar

from ansible_collections.katago.fleet.plugins.module_utils.common import (
    directories,
    endings,
    redaction,
    shape,
)
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files
from ansible_collections.katago.fleet.plugins.module_utils.common.prometheus import Scrape

KERNELS = "pocl"
"""A directory beside the cached answers: kernels that PoCL compiled for the device. It is never moved."""
_INSIDE = ".quarantine-"
VERIFY_SECONDS = 300
_Shape = TypeVar("_Shape")


@dataclass(frozen=True)
class Size:
    """The number of cached answers, and their size in bytes."""

    entries: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.entries} {'answer' if self.entries == 1 else 'answers'}, {self.bytes} bytes"


def size(value: object) -> Size | None:
    """Parse a size in a response of the server; None if it is malformed."""
    if not isinstance(value, Mapping):
        return None
    entries, bytes_ = value.get("entries"), value.get("bytes")
    return Size(entries, bytes_) if isinstance(entries, int) and isinstance(bytes_, int) else None


def size_in_metrics(scrape: Scrape | None) -> Size | None:
    """The size according to the metrics; None if they do not have it."""
    if scrape is None:
        return None
    entries, bytes_ = scrape.value("katago_cache_entries"), scrape.value("katago_cache_size_bytes")
    return None if entries is None or bytes_ is None else Size(int(entries), int(bytes_))


def problem(answer: tuple[int, Mapping[str, Any]] | None, metrics: Size | None) -> str | None:
    """Why it is not certain that the cache was cleared, as part of a sentence; None if it is certain.

    `answer`: the response of `/admin/cache/clear`. `metrics`: the size according to the metrics
    afterwards. Clients may have added new answers in between, but hardly as many as there were.
    """
    if answer is None:
        return "the service did not respond to the request to clear the cache"
    status, body = answer
    before, after = size(body.get("before")), size(body.get("after"))
    if status != 200 or before is None or after is None:
        reason = body.get("message") or body.get("error") or "no message"
        return f"the service responded to the request to clear the cache with status {status} ({reason})"
    if after != Size(0, 0):
        return f"the service reports that the cache still has {after}"
    if metrics is None:
        return "the metrics do not show the size of the cache"
    if metrics.entries >= max(before.entries, 1):
        return f"the metrics still show {metrics} after the service cleared {before}"
    return None


class UnverifiedError(Exception):
    """The cache could not be inspected, which does not mean that it is damaged; the message is a sentence."""


class Report(TypedDict):
    """The release's verdict on the cache's file; `bytes` is the size of the answers in it."""

    ok: bool
    entries: int
    bytes: int
    problems: list[str]


class _Cleared(TypedDict):
    ok: bool
    problems: NotRequired[list[str]]
    before: NotRequired[dict[str, int]]


def verified(user: str, command: Path, config: Path) -> Report:
    """Run a release's `katago-mcp cache verify` as the service's user; its report.

    Raises:
        UnverifiedError: if there is no report.
    """
    return _reported(Report, "verify", user, command, config)


def clear_stopped(user: str, command: Path, config: Path) -> Size:
    """Run a release's `katago-mcp cache clear` as the service's user; the size of the deleted answers.

    It needs no service and no room on the disk.

    Raises:
        UnverifiedError: if the answers could not be deleted.
    """
    report = _reported(_Cleared, "clear", user, command, config)
    deleted = size(report.get("before"))
    if not report["ok"] or deleted is None:
        reasons = "; ".join(report.get("problems", [])) or "the command reported no size"
        raise UnverifiedError(f"The cache cannot be cleared: {reasons}.")
    return deleted


def _reported(shape_: type[_Shape], action: str, user: str, command: Path, config: Path) -> _Shape:
    trouble = f"The cache cannot be {'inspected' if action == 'verify' else 'cleared'}"
    if not _is_user(user):
        raise UnverifiedError(f"{trouble}: this host has no user {user}.")
    try:
        done = subprocess.run(
            [command, "cache", action, "--json", "--config", str(config)],
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
        raise UnverifiedError(f"{trouble}: {error}.") from error
    try:
        return shape.typed(shape_, shape.parsed(done.stdout), "the report")
    except shape.ShapeError as error:
        stderr = redaction.plain(done.stderr)
        reason = endings.describe(stderr, str(error) if done.stdout else "", status=done.returncode, most=300)
        raise UnverifiedError(f"{trouble}: {reason}.") from error


def _is_user(name: str) -> bool:
    """Whether both a user and a group of this name exist."""
    try:
        pwd.getpwnam(name)
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


class RefusedError(Exception):
    """The cache must not be touched; the message has the reason and the remedy, in sentences."""


class _Cache(TypedDict):
    directory: str


class _Settings(TypedDict):
    cache: _Cache


def directory(unit: Path, config: Path) -> Path:
    """The cache's directory according to the configuration. It may not exist yet; systemd creates it.

    Raises:
        RefusedError: if the unit file is missing, if the configuration does not name the directory, or if
            the path is a symlink or not a directory.
    """
    try:
        unit.stat()
        path = Path(shape.typed(_Settings, shape.parsed(config.read_bytes()))["cache"]["directory"])
        mode = path.lstat().st_mode if os.path.lexists(path) else stat.S_IFDIR
    except (OSError, shape.ShapeError) as error:
        raise RefusedError(
            f"The service is not installed, or it is damaged ({config}: {error})."
            " Install it with playbooks/deploy.yml."
        ) from error
    if stat.S_ISLNK(mode):
        raise RefusedError(
            f"{path} is a symlink to {path.readlink()}, which is not followed. Replace it with a directory;"
            " to keep the cache on another disk, mount that disk there."
        )
    if not stat.S_ISDIR(mode):
        raise RefusedError(f"{path} is not a directory. Move it away, then run again.")
    return path


def content(directory: Path) -> dict[str, int]:
    """The content to quarantine: files, links and directories by name, with their sizes in bytes."""
    if not directory.exists():
        return {}
    with os.scandir(directory) as entries:
        sizes = {entry.name: _bytes(entry) for entry in entries if _is_cache(entry.name)}
    return dict(sorted(sizes.items()))


def quarantine(directory: Path) -> Path:
    """The quarantine directory: beside the cache's directory, where the service cannot reach it.

    If the cache is a file system of its own, the cache's directory itself, because a rename cannot leave
    a file system.
    """
    beside = directory.parent / f"{directory.name}-quarantine"
    return beside if directory.stat().st_dev == directory.parent.stat().st_dev else directory


def move_to_quarantine(directory: Path, at: str) -> list[Path]:
    """Move the content into quarantine, under names that begin with the time `at`; return the new paths.

    Only renames, which need no space. Nothing is copied, deleted or overwritten; links are not followed.
    """
    names = list(content(directory))
    if not names:
        return []
    destination = quarantine(directory)
    if destination != directory:
        try:
            directories.make(destination, own=destination, mode=directories.PRIVATE)
        except OSError:
            # A full disk may not even have room for a directory.
            destination = directory
    prefix = f"{_INSIDE if destination == directory else ''}{at.replace(':', '')}-"
    moved = []
    with _opened(directory) as source, _opened(destination) as target:
        for name in names:
            os.rename(name, prefix + name, src_dir_fd=source, dst_dir_fd=target)
            moved.append(destination / (prefix + name))
    for changed in {directory, destination}:
        common_files.sync_directory(changed)
    return moved


def quarantined(directory: Path) -> list[Path]:
    """Everything in quarantine."""
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
