"""Runs restic and selects snapshots."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NotRequired, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils import paths as paths_module
from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.backup.restic_errors import (
    ResticError as ResticError,
)
from ansible_collections.katago.fleet.plugins.module_utils.backup.restic_errors import (
    classify_failure,
    error_lines,
)
from ansible_collections.katago.fleet.plugins.module_utils.common import shape

VERIFIED = "verified"
UNVERIFIED = "unverified"
RELEASE_TAG = "release="
FLEET_TAG = "fleet="

# restic renews its locks every 5 minutes; a lock older than 30 minutes is stale (internal/restic/lock.go).
LOCK_LIFETIME = timedelta(minutes=30)
PROBE_SECONDS = 60
LOCK_POLL_SECONDS = 5.0
_TEMPORARY_PREFIX = "katago-restic-"
_TEMPORARY_PLACES = (paths_module.BACKUP_DIRECTORY, Path("/var/tmp"))  # noqa: S108 (its directories are private)


class NoSuchSnapshot(Exception):
    """No snapshot matches the request. The message lists the snapshots that exist."""


class Summary(TypedDict):
    """The part of `restic backup`'s summary that is used here. The id is the full one."""

    snapshot_id: str


class Statistics(TypedDict):
    """The part of `restic stats`' output that is used here: bytes."""

    total_size: int


class _Lock(TypedDict):
    time: str
    hostname: str
    pid: int
    exclusive: NotRequired[bool]


class _Snapshot(TypedDict):
    id: str
    time: str
    hostname: str
    tags: NotRequired[list[str] | None]
    paths: list[str]
    original: NotRequired[str | None]


class _Node(TypedDict):
    path: str
    type: str
    size: NotRequired[int | None]


@dataclass(frozen=True)
class Snapshot:
    """One backup in the repository. `time`: in UTC. `paths`: the backed-up paths as passed to restic."""

    id: str
    time: datetime
    host: str
    tags: tuple[str, ...]
    paths: tuple[str, ...]
    original: str = ""

    @property
    def name(self) -> str:
        """The short id that restic prints."""
        return self.id[:8]

    @property
    def verified(self) -> bool:
        """Whether it was read back, restored and validated after it was created."""
        return VERIFIED in self.tags

    @property
    def release(self) -> str:
        """The release that was current when the backup was made."""
        return self._value(RELEASE_TAG)

    @property
    def fleet(self) -> str:
        """The name of the fleet that made the backup. Empty in backups of version 0.2.0 and earlier."""
        return self._value(FLEET_TAG)

    def _value(self, tag: str) -> str:
        return next((each.removeprefix(tag) for each in self.tags if each.startswith(tag)), "")

    def __str__(self) -> str:
        fleet = f" of the fleet {self.fleet}" if self.fleet else ""
        state = "" if self.verified else ", not verified"
        time = timestamps.stamp(self.time)
        return f"{self.name} of {self.host}{fleet}, {time}, release {self.release}{state}"


@dataclass(frozen=True)
class Lock:
    """A lock in the repository and the process that holds it."""

    id: str
    time: datetime
    host: str
    pid: int
    exclusive: bool

    def __str__(self) -> str:
        kind = "exclusive lock" if self.exclusive else "lock"
        return f"{kind} {self.id[:8]} of process {self.pid} on {self.host}, {timestamps.stamp(self.time)}"


@dataclass(frozen=True)
class Node:
    """One entry of a snapshot. `size`: bytes; 0 for anything but a file."""

    path: str
    type: str
    size: int


def summary(printed: str) -> Summary:
    """Parse the last line of `restic backup --json`. Raises shape.ShapeError."""
    last = printed.strip().rpartition("\n")[2]
    return shape.typed(Summary, shape.parsed(last), "the summary of restic backup")


def statistics(printed: str) -> Statistics:
    """Parse the output of `restic stats --json`. Raises shape.ShapeError."""
    return shape.typed(Statistics, shape.parsed(printed), "the output of restic stats")


def parse_time(text: str) -> datetime:
    """Parse an ISO 8601 time; without a time zone it is UTC. Cuts restic's nanoseconds. Raises ValueError."""
    time = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def redacted_address(address: str) -> str:
    """A repository's address without its password, and in a URL without its user and its query."""
    kind, separator, rest = address.partition("://")
    if separator:
        # A password may have a slash or a question mark that should have been encoded.
        login = re.match(r"[^/@]*:.*@|[^/@]*@", rest)
        return f"{kind}://{rest[login.end() if login else 0 :].partition('?')[0]}"
    kind, separator, rest = address.partition(":")
    login = re.match(r"([^/@:]*):.*@", rest)
    return f"{kind}:{login[1]}@{rest[login.end() :]}" if separator and login else address


def local_path(address: str) -> str | None:
    """The directory of a repository on the host's own disk; None for any other repository."""
    path = address.removeprefix("local:")
    return path if path.startswith("/") else None


def sftp_command(address: str, key: Path | None, known_hosts: Path | None) -> str | None:
    """The ssh command that restic uses for an SFTP repository; None for any other repository."""
    if not address.startswith("sftp:"):
        return None
    if address.startswith("sftp://"):
        parts = urllib.parse.urlsplit(address)
        port = ["-p", str(parts.port)] if parts.port else []
        login = f"{parts.username}@{parts.hostname}" if parts.username else str(parts.hostname)
    else:
        port, login = [], address.removeprefix("sftp:").partition(":")[0]
    options = ["BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=15"]
    options += ["ServerAliveInterval=15", "ServerAliveCountMax=4"]
    options += [f"IdentityFile={key}", "IdentitiesOnly=yes"] if key else []
    options += [f"UserKnownHostsFile={known_hosts}"] if known_hosts else []
    command = ["ssh", *(part for option in options for part in ("-o", option)), *port, login, "-s", "sftp"]
    return shlex.join(command)


def choose(snapshots: Sequence[Snapshot], at: str, host: str, fleet: str) -> Snapshot:
    """Select the snapshot for `at`: `latest`, an id or its first digits, or a time.

    `latest` and a time select among the verified snapshots of `host` in `fleet`; if there are none, among
    those that name no fleet. An id may also name a snapshot that is not verified. Raises NoSuchSnapshot.
    """
    if re.fullmatch(r"[0-9a-f]{8,64}", at):
        return _by_id(snapshots, at, host, fleet)
    limit = None
    if at != "latest":
        try:
            limit = parse_time(at)
        except ValueError:
            raise NoSuchSnapshot(
                f"at={at!r} is not valid. Use `latest`, 8 or more digits of a snapshot's id, or a time such"
                " as 2026-11-24T06:00:00Z"
            ) from None
    verified = [
        each
        for each in snapshots
        if each.host == host and each.verified and (limit is None or each.time <= limit)
    ]
    # A snapshot without a fleet may belong to another fleet's host of the same name.
    for name in (fleet, ""):
        if own := [each for each in verified if each.fleet == name]:
            return max(own, key=lambda each: each.time)
    when = f" at or before {timestamps.stamp(limit)}" if limit else ""
    raise NoSuchSnapshot(
        f"there is no verified snapshot of {host} in the fleet {fleet}{when}."
        f" {listing(snapshots, host, fleet)}"
    )


def _by_id(snapshots: Sequence[Snapshot], at: str, host: str, fleet: str) -> Snapshot:
    matching = [each for each in snapshots if each.id.startswith(at) or each.original.startswith(at)]
    if not matching:
        raise NoSuchSnapshot(f"there is no snapshot {at}. {listing(snapshots, host, fleet)}")
    snapshot = matching[0]
    owners, remedies = [], []
    if snapshot.host != host:
        owners.append((snapshot.host, host))
        remedies.append(f"-e from_host={snapshot.host}")
    if snapshot.fleet not in ("", fleet):
        owners.append((f"the fleet {snapshot.fleet}", f"the fleet {fleet}"))
        remedies.append(f"-e from_fleet={snapshot.fleet}")
    if owners:
        belongs = " and ".join(f"to {actual}, not to {expected}" for actual, expected in owners)
        raise NoSuchSnapshot(
            f"the snapshot {at} belongs {belongs}. To restore it anyway: {' '.join(remedies)}"
        )
    return snapshot


def listing(snapshots: Sequence[Snapshot], host: str, fleet: str) -> str:
    """The snapshots that exist, as one or two sentences for an error message, without a full stop."""
    of_host = sorted((each for each in snapshots if each.host == host), key=lambda each: each.time)
    own = [each for each in of_host if each.fleet in ("", fleet)]
    if own:
        return "Available snapshots: " + "; ".join(str(each) for each in own[-5:])
    if of_host:
        fleets = sorted({each.fleet for each in of_host})
        return (
            f"The repository has snapshots of a host {host} of these fleets: {', '.join(fleets)}."
            f" To restore the one of {fleets[0]}: -e from_fleet={fleets[0]}"
        )
    others = sorted({each.host for each in snapshots})
    return f"The repository has snapshots of these hosts: {', '.join(others) or 'none'}"


def fleet_note(snapshot: Snapshot, fleet: str) -> str:
    """What the operator must know about a snapshot's fleet, one sentence; empty if it names `fleet`."""
    if snapshot.fleet:
        return ""
    return (
        f"The snapshot {snapshot.name} names no fleet, because version 0.2.0 or an earlier one made it."
        f" Check that it belongs to the fleet {fleet}."
    )


def is_stale(lock: Lock, *, hostname: str, alive: Callable[[int], bool], now: datetime) -> bool:
    """Whether a lock's process is dead: it is gone from this host, or has not renewed the lock in time."""
    if lock.host == hostname:
        return not alive(lock.pid)
    return now - lock.time > LOCK_LIFETIME


def is_restic_process(pid: int) -> bool:
    """Whether a process on this host is restic."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "restic"
    except OSError:
        return False


class Repository:
    """A restic repository, with the address and credentials of this host.

    `secrets`: the directory with the repository's address, password, environment and SSH key. `cache`:
    restic's cache directory; None disables the cache, which reading the repository back requires.
    `temporary`: where restic's temporary files lie; None for a place on the host's disk. `/tmp` may be small.
    """

    def __init__(self, secrets: Path, *, cache: Path | None, temporary: Path | None = None) -> None:
        self._secrets = secrets
        self._cache = cache
        self._temporary = temporary

    @property
    def address(self) -> str:
        """The repository in restic's syntax. It may contain a password."""
        return (self._secrets / paths_module.RESTIC_REPOSITORY).read_text().strip()

    @property
    def display_address(self) -> str:
        """The address without secrets, for messages."""
        return redacted_address(self.address)

    def run(self, *arguments: str, deadline: float, lock: bool = False) -> str:
        """Run restic and return its output as text; see `output`."""
        return self.output(*arguments, deadline=deadline, lock=lock).decode(errors="replace")

    def output(self, *arguments: str, deadline: float, lock: bool = False) -> bytes:
        """Run restic and return its output. Raises ResticError, whose message contains no secret.

        `deadline`: seconds. Without `lock` restic writes nothing to the repository; so reading also works
        when the repository is full, read-only or locked.
        """
        command = ["restic", f"--repository-file={self._secrets / paths_module.RESTIC_REPOSITORY}"]
        command += [
            f"--password-file={self._secrets / paths_module.RESTIC_PASSWORD}",
            *([] if lock else ["--no-lock"]),
        ]
        command += [f"--cache-dir={self._cache}"] if self._cache else ["--no-cache"]
        if ssh := sftp_command(
            self.address, self._file(paths_module.RESTIC_SSH_KEY), self._file(paths_module.RESTIC_KNOWN_HOSTS)
        ):
            command += [f"--option=sftp.command={ssh}"]
        try:
            with self._temporary_directory() as temporary:
                done = subprocess.run(
                    [*command, *arguments],
                    env=self._environment(temporary),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=deadline,
                    check=False,
                )
        except subprocess.TimeoutExpired as error:
            detail = f"`restic {arguments[0]}` on {self.display_address} did not finish within {deadline:g} s"
            # restic repeats failed requests. The reason is in what it printed.
            kind, reason = self._failure(0, error.stdout or b"", error.stderr or b"")
            if kind == "unknown":
                raise ResticError("unreachable", detail) from error
            raise ResticError(kind, f"{detail}: {reason}") from error
        except FileNotFoundError as error:
            raise ResticError("unknown", "restic is not installed on this host") from error
        if done.returncode != 0:
            kind, reason = self._failure(done.returncode, done.stdout, done.stderr)
            reason = reason or f"exit status {done.returncode}"
            raise ResticError(kind, f"{self.display_address}: {reason}")
        return done.stdout

    def _failure(self, status: int, stdout: bytes, stderr: bytes) -> tuple[str, str]:
        """The kind of a failure and restic's error lines without secrets."""
        text = self._redacted((stderr + b"\n" + stdout).decode(errors="replace"))
        return classify_failure(status, text, local=local_path(self.address) or ""), error_lines(text)

    def probe(self) -> None:
        """Open the repository. Raises ResticError if that fails."""
        self.run("cat", "config", deadline=PROBE_SECONDS)

    def run_with_lock(self, *arguments: str, deadline: float, wait: float, log: Callable[[str], None]) -> str:
        """Run a restic command that needs a lock.

        Waits while other processes hold a lock. Removes stale locks and logs each one.
        `deadline`: seconds for the command. `wait`: seconds to wait for locks. Raises ResticError.
        """
        end = time.monotonic() + wait
        while True:
            try:
                return self.run(*arguments, deadline=deadline, lock=True)
            except ResticError as error:
                if error.kind != "locked":
                    raise
                for removed in self.remove_stale_locks():
                    log(f"Removed a stale {removed}: its process is dead")
                if time.monotonic() >= end:
                    holders = "; ".join(str(lock) for lock in self.locks()) or error.detail
                    detail = f"{self.display_address} was still locked after {wait:g} s: {holders}"
                    raise ResticError("locked", detail) from error
            time.sleep(LOCK_POLL_SECONDS)

    def locks(self) -> list[Lock]:
        """All locks in the repository."""
        locks = []
        for name in self.run("list", "locks", deadline=PROBE_SECONDS).split():
            try:
                printed = self.run("cat", "lock", name, deadline=PROBE_SECONDS)
            except ResticError:
                # Its holder released the lock after it was listed.
                continue
            lock = shape.typed(_Lock, shape.parsed(printed), f"the lock {name} of {self.display_address}")
            locks.append(
                Lock(name, _time(lock["time"]), lock["hostname"], lock["pid"], lock.get("exclusive", False))
            )
        return locks

    def remove_stale_locks(self) -> list[Lock]:
        """Remove the locks of dead processes. Return the removed locks."""
        before = self.locks()
        now = datetime.now(UTC)
        hostname = socket.gethostname()
        if not any(is_stale(lock, hostname=hostname, alive=is_restic_process, now=now) for lock in before):
            return []
        # Without --remove-all, restic only removes stale locks.
        self.run("unlock", deadline=PROBE_SECONDS, lock=True)
        remaining = {lock.id for lock in self.locks()}
        return [lock for lock in before if lock.id not in remaining]

    def snapshots(self) -> list[Snapshot]:
        """All snapshots, oldest first."""
        printed = self.run("snapshots", "--json", deadline=PROBE_SECONDS)
        # restic prints null for an empty list.
        listed = shape.typed(list[_Snapshot], shape.parsed(printed) or [], "the list of snapshots")
        return sorted(map(_snapshot, listed), key=lambda each: each.time)

    def nodes(self, snapshot: str) -> dict[str, Node]:
        """All entries of a snapshot, by path."""
        lines = self.run("ls", "--json", snapshot, deadline=10 * PROBE_SECONDS).splitlines()
        place = f"the content of the snapshot {snapshot}"
        nodes = [
            shape.typed(_Node, entry, place)
            for entry in (shape.mapping(shape.parsed(line), place) for line in lines)
            if entry.get("struct_type") == "node"
        ]
        return {node["path"]: Node(node["path"], node["type"], node.get("size") or 0) for node in nodes}

    def dump(self, snapshot: str, path: str) -> bytes:
        """The content of a file in a snapshot. Raises ResticError."""
        return self.output("dump", snapshot, path, deadline=PROBE_SECONDS)

    def restore(self, snapshot: str, target: Path, files: Sequence[str], *, deadline: float) -> None:
        """Restore `files` below `target`; all files if `files` is empty. Raises ResticError."""
        included = [f"--include={_literal(path)}" for path in files]
        self.run("restore", snapshot, f"--target={target}", *included, deadline=deadline)

    def _file(self, name: str) -> Path | None:
        path = self._secrets / name
        return path if path.exists() else None

    @contextlib.contextmanager
    def _temporary_directory(self) -> Iterator[str]:
        """A directory for restic's temporary files; empty for restic's default if none can be created."""
        places = [self._temporary] if self._temporary else _TEMPORARY_PLACES
        directory = next((place for place in places if place.is_dir() and os.access(place, os.W_OK)), None)
        try:
            created = tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX, dir=directory) if directory else ""
        except OSError:
            # Reading needs no temporary files, also on a full or read-only disk.
            created = ""
        try:
            yield created
        finally:
            if created:
                shutil.rmtree(created, ignore_errors=True)

    def _environment(self, temporary: str) -> dict[str, str]:
        base = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        base |= {"TMPDIR": temporary} if temporary else {}
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **base, **self._settings()}

    def _settings(self) -> Mapping[str, str]:
        path = self._file(paths_module.RESTIC_ENVIRONMENT)
        lines = path.read_text().splitlines() if path else []
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def _redacted(self, text: str) -> str:
        address = self.address
        secrets = [
            (self._secrets / paths_module.RESTIC_PASSWORD).read_text().strip(),
            *self._settings().values(),
        ]
        userinfo = re.search(r"//([^/@\s]+)@", address)
        secrets += userinfo[1].split(":", 1)[1:] if userinfo else []
        for secret in secrets:
            if len(secret) > 3:
                text = text.replace(secret, "***")
        return text


def _snapshot(listed: _Snapshot) -> Snapshot:
    return Snapshot(
        id=listed["id"],
        time=_time(listed["time"]),
        host=listed["hostname"],
        tags=tuple(listed.get("tags") or ()),
        paths=tuple(listed["paths"]),
        original=listed.get("original") or "",
    )


def _time(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise shape.ShapeError(f"restic reported the time {text!r:.60}, which is not a valid time") from error


def _literal(path: str) -> str:
    return re.sub(r"([\\*?\[])", r"\\\1", path)
