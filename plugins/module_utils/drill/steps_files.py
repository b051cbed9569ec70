"""Changes of files: replaced, damaged in place, a damaged release, a full file system, lowered limits."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, directories, files
from ansible_collections.katago.fleet.plugins.module_utils.drill import step
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import Host
from ansible_collections.katago.fleet.plugins.module_utils.drill.step import Step
from ansible_collections.katago.fleet.plugins.module_utils.release import history, layout
from ansible_collections.katago.fleet.plugins.module_utils.service import limits, overlay_apply, switch

WHO = "drill"
MOUNT_SOURCE = "katago-drill"
FILLER = ".katago-drill-filler"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Replaced(Step):
    """A file with another content. `before`, `during`: the names of the kept contents."""

    path: str
    before: str
    during: str
    mode: int
    user: int
    group: int

    @classmethod
    def of(cls, host: Host, path: Path, content: bytes) -> Replaced:
        """The step that replaces the content of an existing file. Keeps both contents."""
        status = path.stat()
        before, during = step.keep(host, path.read_bytes()), step.keep(host, content)
        return cls(str(path), before, during, status.st_mode & 0o7777, status.st_uid, status.st_gid)

    def apply(self, host: Host) -> None:
        """Write the fault's content."""
        self._write(step.kept(host, self.during))

    def undo(self, host: Host) -> None:
        """Write the original content, unless somebody has written another one."""
        if self.remains(host):
            self._write(step.kept(host, self.before))

    def remains(self, host: Host) -> str:
        """The file has the fault's content, or is missing while its directory exists."""
        path = Path(self.path)
        if not path.parent.is_dir():
            return ""
        content = step.content_of(path)
        if content is None:
            return f"{path} is missing"
        return f"{path} has the content of the fault" if digest.of_bytes(content) == self.during else ""

    def _write(self, content: bytes) -> None:
        path = Path(self.path)
        files.write(path, content, mode=self.mode, group=self.group)
        if path.stat().st_uid != self.user:
            os.chown(path, self.user, self.group)


@dataclass(frozen=True)
class Pages(Step):
    """Pages of a file that are overwritten in place. `offsets`: in bytes, of pages of `size` bytes.

    `before`: the name of the kept pages, one after another. A page that somebody has written since stays.
    """

    path: str
    inode: int
    size: int
    offsets: tuple[int, ...]
    before: str

    @classmethod
    def of(cls, host: Host, path: Path, size: int, offsets: tuple[int, ...]) -> Pages:
        """The step that damages these pages. Keeps them."""
        with path.open("rb") as file:
            pages = b"".join(os.pread(file.fileno(), size, offset) for offset in offsets)
            return cls(str(path), os.fstat(file.fileno()).st_ino, size, offsets, step.keep(host, pages))

    def apply(self, host: Host) -> None:
        """Overwrite the pages."""
        with self._opened() as descriptor:
            for offset in self.offsets if descriptor is not None else ():
                os.pwrite(descriptor or 0, self._damage, offset)

    def undo(self, host: Host) -> None:
        """Write the original pages over those that are still damaged."""
        if not self.remains(host):
            return
        pages = step.kept(host, self.before)
        with self._opened() as descriptor:
            for number, offset in enumerate(self.offsets):
                if descriptor is not None and self._is_damaged(descriptor, offset):
                    os.pwrite(descriptor, pages[number * self.size : (number + 1) * self.size], offset)
            if descriptor is not None:
                os.fsync(descriptor)

    def remains(self, host: Host) -> str:
        """Pages are damaged."""
        with self._opened() as descriptor:
            if descriptor is None:
                return ""
            damaged = sum(self._is_damaged(descriptor, offset) for offset in self.offsets)
        return f"{damaged} of {len(self.offsets)} pages of {self.path} are damaged" if damaged else ""

    @property
    def _damage(self) -> bytes:
        return (b"katago-drill " * (self.size // 13 + 1))[: self.size]

    def _is_damaged(self, descriptor: int, offset: int) -> bool:
        return os.pread(descriptor, self.size, offset) == self._damage

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        """The file; None if it is gone, or if another one has its place."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            yield None
            return
        try:
            yield descriptor if os.fstat(descriptor).st_ino == self.inode else None
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class BadRelease(Step):
    """A copy of the current release with one damaged file, deployed as if it were a new release.

    `original`, `bad`: the names of the releases. `file`, `content`: the damaged file and the name of its
    kept content.
    """

    drill: str
    original: str
    bad: str
    file: str
    content: str

    def apply(self, host: Host) -> None:
        """Copy the release, damage the copy, record the switch, and switch to it."""
        directory = host.layout.release(self.bad)
        scratch = directory.with_name(f".drill-{self.bad}")
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(host.layout.release(self.original), scratch, symlinks=True)
        content = step.kept(host, self.content)
        files.write(scratch / self.file, content, mode=0o644)
        manifest = bad_manifest(host.layout.release(self.original), self.file, content)
        files.write(scratch / layout.MANIFEST, json.dumps(manifest, indent=1).encode(), mode=0o644)
        scratch.rename(directory)
        self._switch(host, self.bad, self.original, f"drill {self.drill}", "deployment")

    def undo(self, host: Host) -> None:
        """Switch back if the bad release is current, and remove it."""
        if host.layout.current_release() == self.bad:
            self._switch(host, self.original, self.bad, f"end of drill {self.drill}", "return")
        self._judge(host)
        for directory in self._directories(host):
            shutil.rmtree(directory)

    def remains(self, host: Host) -> str:
        """The bad release is current, or exists."""
        if host.layout.current_release() == self.bad:
            return f"the bad release {self.bad} is current"
        return next((f"{each} exists" for each in self._directories(host)), "")

    def _directories(self, host: Host) -> list[Path]:
        """The bad release, also as an interrupted injection or a rebuilt release left it."""
        releases = host.layout.releases
        named = [releases / self.bad, releases / f".drill-{self.bad}"]
        return [each for each in (*named, *releases.glob(f".damaged-{self.bad}-*")) if each.is_dir()]

    def _judge(self, host: Host) -> None:
        """Reject the bad release, and validate the original again if the drill itself switched to it."""
        records = history.read(host.places.history)
        now = timestamps.now()
        if any(each.release == self.bad for each in records):
            if history.standing(records, self.bad) != "bad":
                rejected = history.Record(now, WHO, self.bad, None, f"drill {self.drill}", "bad")
                history.append(rejected, host.places.history)
            newest = history.verdict_on(records, self.original)
            validated = newest is not None and newest.verdict == "good"
            if validated and history.standing(records, self.original) is None:
                again = history.Record(now, WHO, self.original, None, "validated before the drill", "good")
                history.append(again, host.places.history)

    def _switch(self, host: Host, release: str, previous: str, why: str, how: history.How) -> None:
        record = history.Record(timestamps.now(), WHO, release, previous, why, how=how)
        try:
            switch.switch(host.layout, record, host.places.history)
        except switch.SwitchError as error:
            raise OSError(f"the host cannot be switched to {release}: {error}") from error


def bad_manifest(original: Path, file: str, content: bytes) -> dict[str, Any]:
    """The manifest of a copy of a release in which one file has another content, with its new name.

    Raises OSError if the release has no manifest of its own.
    """
    manifest = layout.own_manifest(original)
    if manifest is None:
        raise OSError(f"{original} has no usable {layout.MANIFEST}")
    new: dict[str, Any] = {**manifest, "files": {**manifest["files"], file: digest.of_bytes(content)}}
    inputs = {key: value for key, value in new.items() if key not in ("name", "version")}
    own = {path: sha256 for path, sha256 in new["files"].items() if "/" not in path}
    new["name"] = layout.name(manifest["version"], {**inputs, "files": own})
    return new


@dataclass(frozen=True)
class Full(Step):
    """A directory whose file system has no room, or no inodes, left.

    `covered`: a small file system in memory covers the directory; otherwise its own small one is filled.
    `size`: bytes of the covering one. `inodes`: its number of inodes, 0 for the default.
    """

    directory: str
    what: str
    covered: bool
    size: int
    inodes: int

    def apply(self, host: Host) -> None:
        """Cover the directory if need be, and fill it."""
        path = Path(self.directory)
        if self.covered:
            self._cover(host, path)
        filler = path / FILLER
        directories.make(filler, mode=directories.PRIVATE)
        if self.what == "inodes":
            self._use_inodes(filler)
        else:
            self._use_bytes(filler)

    def undo(self, host: Host) -> None:
        """Uncover the directory, also for processes that use what covers it; remove what fills it."""
        path = Path(self.directory)
        while step.is_mount(path, MOUNT_SOURCE, host.places.proc):
            host.require("umount", "--lazy", path)
        filler = path / FILLER
        if filler.is_dir() and not filler.is_symlink():
            shutil.rmtree(filler)

    def remains(self, host: Host) -> str:
        """The directory is covered, or has what fills it."""
        path = Path(self.directory)
        if step.is_mount(path, MOUNT_SOURCE, host.places.proc):
            return f"{path} is covered by a small file system"
        return f"{path / FILLER} exists" if (path / FILLER).is_dir() else ""

    def _cover(self, host: Host, path: Path) -> None:
        """Mount a file system with the content of the directory, except large files."""
        status = path.stat()
        options = f"size={self.size},mode={status.st_mode & 0o7777:o},uid={status.st_uid},gid={status.st_gid}"
        if self.inodes:
            options += f",nr_inodes={self.inodes}"
        # The way to what is covered. A mount cannot be moved there later where mounts are shared.
        below = os.open(path, os.O_PATH | os.O_DIRECTORY)
        try:
            host.require("mount", "-t", "tmpfs", "-o", f"{options},nosuid,nodev", MOUNT_SOURCE, path)
            copy_small(Path(f"/proc/self/fd/{below}"), path, self.size // 2)
        finally:
            os.close(below)

    def _use_bytes(self, filler: Path) -> None:
        block = bytes(_CHUNK)
        with (filler / "bytes").open("wb", buffering=0) as file, no_room():
            while True:
                file.write(block)

    def _use_inodes(self, filler: Path) -> None:
        with no_room():
            for number in range(MOST_INODES):
                (filler / f"{number:06}").touch()


MOST_INODES = 200_000


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """Ignore that there is no room left."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def copy_small(source: Path, target: Path, most: int) -> None:
    """Copy the small files of a directory with owners and modes, the smallest first, up to `most` bytes."""
    sizes = sorted(
        (path.lstat().st_size, path) for path in source.rglob("*") if path.is_file() and not path.is_symlink()
    )
    total = 0
    for directory in sorted(path for path in source.rglob("*") if path.is_dir() and not path.is_symlink()):
        copied = target / directory.relative_to(source)
        directories.make(copied)
        _copy_access(directory, copied)
    for size, path in sizes:
        total += size
        if total > most:
            return
        copied = target / path.relative_to(source)
        shutil.copyfile(path, copied)
        _copy_access(path, copied)


def tree_bytes(directory: Path) -> int:
    """The bytes of all files below a directory."""
    return sum(
        Path(parent, name).lstat().st_size for parent, _, names in os.walk(directory) for name in names
    )


def _copy_access(source: Path, target: Path) -> None:
    status = source.stat()
    os.chown(target, status.st_uid, status.st_gid)
    target.chmod(status.st_mode & 0o7777)


@dataclass(frozen=True)
class Lowered(Step):
    """Limits that are lowered so far that the service refuses most requests.

    `limits`: by key of the configuration. `minutes`: the duration of the override, which ends itself too.
    `before`: the override that it replaces, as in its file; empty without one.
    """

    drill: str
    limits: Mapping[str, float | int]
    minutes: float
    before: str = ""

    def apply(self, host: Host) -> None:
        """Lower the limits, and wait until the service follows."""
        request = limits.Request(self.limits, self.minutes, self._why)
        try:
            overlay_apply.lower(request, WHO)
        except (overlay_apply.RefusedError, limits.OverlayError, RuntimeError) as error:
            raise OSError(str(error)) from error

    def undo(self, host: Host) -> None:
        """Remove the override if it is that of the drill; restore the previous one unless it has ended."""
        if not self.remains(host):
            return
        document: limits.Document | None = json.loads(self.before) if self.before else None
        expires = timestamps.parse(document["expiresAt"]) if document else None
        if document and expires and expires.timestamp() > host.time():
            try:
                overlay_apply.apply(expires, document)
            except overlay_apply.RefusedError as error:
                raise OSError(str(error)) from error
        else:
            host.places.overlay.unlink()
        # If the timer cannot be removed, the next undo finds nothing to undo, so the service must follow now.
        host.systemctl("reload", "--no-block", paths.SERVICE_UNIT, check=False)
        if not host.places.overlay.exists():
            overlay_apply.disarm()

    def remains(self, host: Host) -> str:
        """The override is that of the drill."""
        content = step.content_of(host.places.overlay)
        with contextlib.suppress(ValueError, TypeError):
            if content and json.loads(content).get("why") == self._why:
                return f"limits are lowered by {host.places.overlay}"
        return ""

    @property
    def _why(self) -> str:
        return f"drill {self.drill}"
