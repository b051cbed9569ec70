"""Removes everything that `parts` lists from a host. Interrupted, it continues where it stopped."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup import restic
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import BackupError, Settings
from ansible_collections.katago.fleet.plugins.module_utils.common import endings
from ansible_collections.katago.fleet.plugins.module_utils.procedure import isolation
from ansible_collections.katago.fleet.plugins.module_utils.removal import obstacles as found
from ansible_collections.katago.fleet.plugins.module_utils.removal import parts

_SECONDS = 120
_METRICS_DIRECTORY = Path("/var/lib/prometheus/node-exporter")


class RemovalError(Exception):
    """Something could not be removed. The message says what, why, and what to do."""


@dataclass
class Removed:
    """What was removed, or would be: bytes by the name of a part; units; `user`: the service's user."""

    sizes: dict[str, int] = field(default_factory=dict)
    units: list[str] = field(default_factory=list)
    user: bool = False

    def __bool__(self) -> bool:
        return bool(self.sizes or self.units or self.user)


@dataclass(frozen=True)
class Host:
    """What the settings of the host's backups name and is ours.

    `restored`: the directory of restored files. `metrics`: the file with metrics.
    """

    restored: Path | None
    metrics: Path | None

    @classmethod
    def of(cls, settings: Path) -> Host:
        """Read them from the settings of the backups; None without usable settings, or if it is not ours."""
        try:
            read = Settings.load(settings)
        except (OSError, BackupError):
            return cls(None, None)
        metrics = Path(read.metrics)
        return cls(Path(read.scratch) / "restored", metrics if _has_our_metrics(metrics) else None)


def _has_our_metrics(file: Path) -> bool:
    """Whether a file has the metrics of the backups: any path can be configured."""
    try:
        return file.is_file() and "katago_backup_" in file.read_text(errors="replace")
    except OSError:
        return False


def obstacles(keep: parts.Keep, repositories: Iterable[str]) -> list[str]:
    """Why nothing may be removed, with what to do. `repositories`: the addresses of the backups."""
    removed = [path for part in _parts(keep, Host.of(paths.BACKUP_SETTINGS)) for path in part.paths]
    local = {Path(path) for each in repositories if (path := restic.local_path(each))}
    mounted = found.mounts((paths.PROC / "self/mountinfo").read_text())
    reasons = [
        *found.of_paths(removed, mounted),
        *found.of_command(),
        *found.of_repositories(sorted(local), removed),
    ]
    if keep == "nothing" and (account := _account()) is not None:
        reasons += found.of_processes(account.pw_uid)
    return reasons


def planned(keep: parts.Keep) -> Removed:
    """What `remove` would remove."""
    host = Host.of(paths.BACKUP_SETTINGS)
    removed = Removed(units=sorted(_unit_names()))
    for part in _parts(keep, host):
        if existing := [path for path in part.paths if os.path.lexists(path)]:
            removed.sizes[part.name] = sum(map(size, existing))
    removed.user = keep == "nothing" and _has_our_user()
    return removed


def remove(keep: parts.Keep) -> Removed:
    """Remove all parts; return what existed.

    Raises:
        RemovalError: with what is left, and why.
    """
    removed = planned(keep)
    if not removed:
        return removed
    try:
        _remove_units()
        for part in _parts(keep, Host.of(paths.BACKUP_SETTINGS)):
            for path in part.paths:
                delete(path)
        for path in parts.stamps():
            delete(path)
        _remove_table()
        if removed.user:
            _remove_user()
    except OSError as error:
        raise RemovalError(
            f"{error.filename or 'a file'} cannot be removed: {error.strerror}. Fix this, then run again"
        ) from error
    except subprocess.SubprocessError as error:
        raise RemovalError(f"{endings.of_error(error)}. Fix this, then run again") from error
    return removed


def size(path: Path) -> int:
    """Bytes of a file, or of all files of a directory. Links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size if os.path.lexists(path) and not path.is_symlink() else 0
    files: dict[tuple[int, int], int] = {}
    for directory, _, names in os.walk(path):
        for name in names:
            status = Path(directory, name).lstat()
            files[status.st_dev, status.st_ino] = status.st_size
    return sum(files.values())


def delete(path: Path) -> None:
    """Delete a file, a link (not what it leads to) or a directory. Of a mount point only the content."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if not path.is_mount():
        shutil.rmtree(path)
        return
    for each in path.iterdir():
        delete(each)


def _parts(keep: parts.Keep, host: Host) -> Iterable[parts.Part]:
    """The parts to remove, and what the settings of the backups add to them."""
    others = [each for each in (host.metrics, host.restored) if each]
    yield parts.Part("metrics and restored files of backups", tuple(others))
    for part in parts.to_remove(keep):
        yield replace(part, paths=(*part.paths, *filter(None, map(parts.private, part.paths))))
    yield parts.Part("directories of metrics", tuple(_empty_directories(host.metrics)))


def _empty_directories(metrics: Path | None) -> list[Path]:
    """The directories of the metrics file, if nothing else uses them and they belong to no package.

    Only the default ones: others may have existed before.
    """
    directories: list[Path] = []
    if metrics is None or metrics.parent != _METRICS_DIRECTORY:
        return directories
    for below in (metrics, metrics.parent):
        directory = below.parent
        names = {each.name for each in directory.iterdir()} if directory.is_dir() else {""}
        if names - {below.name} or directory.is_mount() or _belongs_to_package(directory):
            break
        directories.append(directory)
    return directories


def is_installed(package: str) -> bool:
    """Whether a package is installed."""
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    return done.stdout == "installed"


def _belongs_to_package(path: Path) -> bool:
    done = subprocess.run(
        ["dpkg-query", "--search", path], capture_output=True, check=False, timeout=_SECONDS
    )
    return done.returncode == 0


def _unit_names() -> set[str]:
    """The names of our units that systemd knows, or that have a file."""
    named = _listed(*parts.UNITS)
    transient = {
        name for name in _listed(*parts.TRANSIENT_UNITS) if os.path.lexists(parts.TRANSIENT_DIRECTORY / name)
    }
    # The template of a unit cannot be stopped.
    files = {
        path.name for path in parts.unit_files() if not path.name.endswith(".d") and "@." not in path.name
    }
    return named | transient | files


def _listed(*patterns: str) -> set[str]:
    done = subprocess.run(
        ["systemctl", "list-units", "--all", "--plain", "--no-legend", *patterns],
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
    )
    return {line.split()[0] for line in done.stdout.splitlines() if line.split()}


def _remove_units() -> None:
    """Stop and disable our units, and remove their files, drop-ins and links."""
    names = sorted(_unit_names(), key=lambda name: (not name.endswith(".timer"), name))
    if names:
        _run("systemctl", "stop", *names, check=False)
    for path in parts.unit_files():
        delete(path)
    _run("systemctl", "daemon-reload")
    _run("systemctl", "reset-failed", *parts.UNITS, *names, check=False)


def _remove_table() -> None:
    """Remove the firewall table of a security mode that has ended; it may be left after a failure."""
    if paths.NFT.exists() and isolation.listed() is not None:
        _run(str(paths.NFT), "delete", "table", "inet", isolation.TABLE)


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(paths.SERVICE_USER)
    except KeyError:
        return None


def is_our_user(account: pwd.struct_passwd | None, members: Sequence[str]) -> bool:
    """Whether an account is as a deployment creates it, and nobody else is in its group."""
    if set(members) - {paths.SERVICE_USER}:
        return False
    return account is None or (account.pw_dir, account.pw_shell) == ("/nonexistent", "/usr/sbin/nologin")


def _has_our_user() -> bool:
    try:
        members = grp.getgrnam(paths.SERVICE_GROUP).gr_mem
    except KeyError:
        if _account() is None:
            return False
        members = []
    return is_our_user(_account(), members)


def has_foreign_user() -> bool:
    """Whether the host has the service's user or group, and it stays because others may use it."""
    has_any = _account() is not None or _exists(grp.getgrnam, paths.SERVICE_GROUP)
    return has_any and not _has_our_user()


def _exists(find: object, name: str) -> bool:
    try:
        find(name)  # type: ignore[operator]
    except KeyError:
        return False
    return True


def _remove_user() -> None:
    """Remove the service's user and group; systemd removes with the user what it left of shared memory."""
    if _exists(pwd.getpwnam, paths.SERVICE_USER):
        _run("userdel", paths.SERVICE_USER)
    if _exists(grp.getgrnam, paths.SERVICE_GROUP):
        _run("groupdel", paths.SERVICE_GROUP)


def _run(*command: str, check: bool = True) -> None:
    subprocess.run(command, check=check, capture_output=True, text=True, timeout=_SECONDS)
