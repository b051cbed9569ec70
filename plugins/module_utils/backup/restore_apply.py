"""Carries out a planned restore: fetches and checks files, quarantines the old ones, records the result.

Everything is fetched before the first file is replaced. A restore can be killed at any point and run again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.backup import survey as backup_survey
from ansible_collections.katago.fleet.plugins.module_utils.backup.contents import below
from ansible_collections.katago.fleet.plugins.module_utils.backup.restore_plan import (
    DEPLOY_FIRST,
    ROOTS,
    Action,
    Plan,
    Planner,
    RestoreError,
    operator_token,
    tokens_with_operator,
)
from ansible_collections.katago.fleet.plugins.module_utils.backup.survey import Finding
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, directories, shape
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files
from ansible_collections.katago.fleet.plugins.module_utils.release import history, layout
from ansible_collections.katago.fleet.plugins.module_utils.service import credentials

# The file name of a restore's record, in its quarantine.
RECORD = "restore.json"
# Fetched files are staged on the file system of their destination: only there is a rename atomic.
STAGE = ".restore"
STAGE_SECONDS = 3600
# If there are more paths than this, their directories are restored instead.
_MOST_PATHS = 200


def staged_path(host: Path, path: str | Path) -> Path:
    """The location at which a path is staged, below its root. Raises RestoreError for a path without a root.

    Here and in the following, `host` is the directory of the host's files, and the paths of actions are as
    on the host itself.
    """
    return below(below(host, _root(path)) / STAGE, path)


def _root(path: str | Path) -> Path:
    """The directory of ROOTS that has a path. Raises RestoreError if none has it."""
    for root in ROOTS:
        if Path(path).is_relative_to(root):
            return root
    raise RestoreError(f"{path} is not below a directory that can be restored")


def clean_stages(host: Path) -> None:
    """Remove the files that an earlier restore staged. The snapshot still has them."""
    for root in ROOTS:
        shutil.rmtree(below(host, root) / STAGE, ignore_errors=True)


def stage(planner: Planner, snapshot: str, actions: Sequence[Action]) -> None:
    """Fetch all files that the actions need, and check each of them.

    Changes nothing but the staging directories, and removes them if it fails. Raises RestoreError,
    ResticError, OSError.
    """
    clean_stages(planner.root)
    try:
        _fetch(planner, snapshot, actions)
    except BaseException:
        clean_stages(planner.root)
        raise


def _fetch(planner: Planner, snapshot: str, actions: Sequence[Action]) -> None:
    for root in ROOTS:
        files = [a.path for a in actions if a.how in ("put", "add") and Path(a.path).is_relative_to(root)]
        if not files:
            continue
        make_parent(planner.root, root / STAGE)
        target = below(planner.root, root) / STAGE
        directories.make(target, own=target, mode=directories.PRIVATE)
        planner.repository.restore(snapshot, target, _limit_paths(files), deadline=STAGE_SECONDS)
        common_files.sync_tree(target)
    for action in actions:
        if action.how in ("merge", "tokens"):
            target = staged_path(planner.root, action.path)
            stage = below(planner.root, _root(action.path)) / STAGE
            directories.make(target.parent, own=stage, mode=directories.PRIVATE)
            common_files.write(target, planner.content(action.path) or b"", mode=0o600)
        if action.how in ("put", "add") and (problem := staging_problem(planner.root, action)):
            raise RestoreError(f"{action.path} from the snapshot is not as expected: {problem}")


def staging_problem(host: Path, action: Action) -> str:
    """Why a staged path cannot be installed; empty if it can."""
    staged = staged_path(host, action.path)
    if not os.path.lexists(staged):
        return "it is missing"
    if Path(action.path).parent == paths.RELEASE_ROOT / "releases":
        survey = backup_survey.Survey(root=below(host, paths.RELEASE_ROOT) / STAGE)
        damaged = backup_survey.damaged([f for f in survey.release(staged.name) if f.item == "release"])
        return damaged[0].message if damaged else ""
    if not action.expected:
        return ""
    actual = entry(staged)
    return "" if actual == action.expected else f"its checksum is {actual}, not {action.expected}"


def entry(path: Path) -> str:
    """The entry that `digest.of_tree` gives for a path; the digest for a directory."""
    if path.is_symlink():
        return f"link:{path.readlink()}"
    if path.is_dir():
        return digest.of_path(path)
    return digest.of_file(path) + ("+x" if path.stat().st_mode & 0o100 else "")


@dataclass(frozen=True)
class Order:
    """The plan of one run of a restore, made at `at`. `release`: the current release after it."""

    at: str
    who: str
    snapshot: str
    release: str
    actions: tuple[Action, ...]


@dataclass(frozen=True)
class Record:
    """The record of a restore: the orders of all its runs, oldest first, and its end and result."""

    orders: tuple[Order, ...]
    finished: str | None = None
    result: str = ""

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read a record from a file. Raises OSError; RestoreError if it is not valid."""
        try:
            record = shape.record(cls, shape.parsed(path.read_bytes()))
            if not record.orders:
                raise shape.ShapeError("orders is empty")
            return record
        except shape.ShapeError as error:
            raise _unusable(path, error) from error


def _is_finished(path: Path) -> bool:
    """Whether a file records a finished restore. The rest of the record is not checked."""
    try:
        return bool(shape.mapping(shape.parsed(path.read_bytes())).get("finished"))
    except shape.ShapeError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: shape.ShapeError) -> RestoreError:
    return RestoreError(
        f"the record of an earlier restore is not valid: {path}: {error}. Move {path.parent} elsewhere and"
        " run the restore again"
    )


class Restoration:
    """One restore and its quarantine, the directory that keeps the replaced files.

    A killed restore is found by its record and resumed in the same quarantine. `host`: as for `staged_path`.
    """

    def __init__(self, host: Path, directory: Path) -> None:
        self.directory = directory
        self._host = host

    @classmethod
    def unfinished(cls, host: Path) -> Restoration | None:
        """The restore that did not finish; None if there is none. Raises OSError, RestoreError."""
        for path in sorted(below(host, paths.QUARANTINE).glob(f"*/{RECORD}"), reverse=True):
            if not _is_finished(path):
                return cls(host, path.parent)
        return None

    @classmethod
    def begin(cls, host: Path, who: str, snapshot: str, plan: Plan) -> Restoration:
        """Start a staged restore, or resume the unfinished one.

        If the record cannot be written, the staged files are removed. Raises OSError, RestoreError.
        """
        try:
            return cls._begin(host, who, snapshot, plan)
        except BaseException:
            clean_stages(host)
            raise

    @classmethod
    def _begin(cls, host: Path, who: str, snapshot: str, plan: Plan) -> Restoration:
        order = Order(timestamps.now(), who, snapshot, plan.release, tuple(plan.actions))
        unfinished = cls.unfinished(host)
        if unfinished:
            unfinished._write(replace(unfinished.record, orders=(*unfinished.record.orders, order)))
            return unfinished
        name = timestamps.now().replace(":", "")
        new = cls(host, _new_directory(below(host, paths.QUARANTINE), name))
        new._write(Record((order,)))
        return new

    @property
    def record(self) -> Record:
        """The orders of this restore, and whether it is finished. Raises OSError, RestoreError."""
        return Record.read(self.directory / RECORD)

    def carry_out(self, check_cache: Callable[[], Iterable[Finding]]) -> list[str]:
        """Carry out the last order, from the staged files alone. Return the quarantined paths.

        The links are created last, after the switch is recorded in the history. `check_cache` checks the
        cache by the restored release. Raises OSError, RestoreError.
        """
        order = self.record.orders[-1]
        self._correct_directories()
        quarantined = self.install([action for action in order.actions if action.how != "link"], check_cache)
        why = f"restored from {order.snapshot[:8]}: {len(order.actions)} items"
        record_switch(self._host, order.who, order.release, why)
        links = [action for action in order.actions if action.how == "link"]
        return quarantined + self.install(links, check_cache)

    def install(self, actions: Sequence[Action], check_cache: Callable[[], Iterable[Finding]]) -> list[str]:
        """Carry out actions. Return the quarantined paths. Raises OSError, RestoreError.

        If it is killed, every path is complete or missing, and the next run continues from there.
        """
        quarantined: list[str] = []
        for action in actions:
            path = Path(action.path)
            if action.how == "judge" and not backup_survey.damaged(list(check_cache())):
                continue
            if action.how in ("set_aside", "judge"):
                quarantined += self._quarantine_and_remove(path)
                continue
            if action.how == "add":
                self._add(path)
                continue
            staged = self._prepare(action)
            quarantined += self._quarantine(path)
            make_parent(self._host, path)
            here = self._at(path)
            if path.is_relative_to(paths.RELEASE_ROOT) or path.is_relative_to(paths.ASSETS):
                # The snapshot may be of a host with a stricter umask, and the service must read these files.
                directories.seal(staged)
            staged.rename(here)
            common_files.sync_directory(here.parent)
        return quarantined

    def finish(self, result: str) -> None:
        """Record the restore as finished."""
        self._write(replace(self.record, finished=timestamps.now(), result=result))
        clean_stages(self._host)

    def _correct_directories(self) -> None:
        """Correct the owners and modes of the directories that the service passes through."""
        for root in ROOTS:
            if paths.own(root) and self._at(root).is_dir():
                directories.make(self._at(root), own=self._at(root))

    def _at(self, path: Path) -> Path:
        return below(self._host, path)

    def _prepare(self, action: Action) -> Path:
        path = Path(action.path)
        if action.how == "put":
            return staged_path(self._host, path)
        # In the destination's directory, because /usr/local and /etc/systemd have no staging directory.
        here = self._at(path)
        scratch = here.with_name(f".{path.name}.restore")
        make_parent(self._host, path)
        scratch.unlink(missing_ok=True)
        if action.how == "link":
            scratch.symlink_to(action.expected.removeprefix("link:"))
        elif action.how == "merge":
            present = here.read_bytes() if here.exists() else b""
            merged = backup_survey.merged_history(staged_path(self._host, path).read_bytes(), present)
            common_files.write(scratch, merged, mode=0o644)
        else:
            content = tokens_with_operator(staged_path(self._host, path).read_bytes(), self._operator_token())
            common_files.write(scratch, content, mode=credentials.TOKENS_MODE, group=service_group_id())
        return scratch

    def _operator_token(self) -> str:
        token = operator_token(self._host)
        if token is None:
            token = secrets.token_urlsafe(32)
            path = self._at(paths.CREDENTIALS / paths.OPERATOR_TOKEN)
            common_files.write(path, f"{token}\n".encode(), mode=0o600)
        return token

    def _quarantine_and_remove(self, path: Path) -> list[str]:
        quarantined = self._quarantine(path)
        here = self._at(path)
        if here.is_symlink() or here.is_file():
            here.unlink()
            common_files.sync_directory(here.parent)
        if path == paths.ANSWERS:
            # SQLite's journal files belong to this database file only.
            for suffix in ("-wal", "-shm"):
                quarantined += self._quarantine_and_remove(path.with_name(f"{path.name}{suffix}"))
        return quarantined

    def _quarantine(self, path: Path) -> list[str]:
        """Keep a path's present content. A directory is moved; a file also stays until it is replaced."""
        here = self._at(path)
        if not os.path.lexists(here):
            return []
        place = _unused_name(below(self.directory, path))
        directories.make(place.parent, own=self.directory, mode=directories.PRIVATE)
        if here.is_dir() and not here.is_symlink():
            place = self._move(path, place)
        else:
            try:
                os.link(here, place, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                    raise
                shutil.copy2(here, place, follow_symlinks=False)
        common_files.sync_directory(place.parent)
        return [str(place)]

    def _move(self, path: Path, place: Path) -> Path:
        here = self._at(path)
        try:
            here.rename(place)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # On another file system: move it to a quarantine there, with the same name.
            root = _root(path)
            quarantine = self._at(root) / ".quarantine"
            place = _unused_name(quarantine / self.directory.name / path.relative_to(root))
            directories.make(place.parent, own=quarantine, mode=directories.PRIVATE)
            here.rename(place)
        common_files.sync_directory(here.parent)
        return place

    def _add(self, path: Path) -> None:
        """Install a staged file unless its destination exists by now; an existing file is never replaced."""
        make_parent(self._host, path)
        here = self._at(path)
        with contextlib.suppress(FileExistsError):
            os.link(staged_path(self._host, path), here)
        common_files.sync_directory(here.parent)

    def _write(self, record: Record) -> None:
        content = json.dumps(asdict(record), indent=1).encode() + b"\n"
        common_files.write(self.directory / RECORD, content, mode=0o600)


def record_switch(host: Path, who: str, release: str, why: str) -> bool:
    """Record the restore in the history, unless the newest record is this restore. Return whether it did."""
    file = below(host, paths.HISTORY)
    records = history.read(file)
    newest = records[-1] if records else None
    if newest and newest.how == "restore" and newest.verdict is None and newest.release == release:
        return False
    previous = layout.Layout(below(host, paths.RELEASE_ROOT)).current_release()
    history.append(
        history.Record(
            at=timestamps.now(), who=who, release=release, previous=previous, why=why, how="restore"
        ),
        file,
    )
    return True


def make_parent(host: Path, path: Path) -> None:
    """Create a path's directory. Corrects the owners and modes of our own directories that lead to it."""
    directory = below(host, path).parent
    if path.is_relative_to(paths.CREDENTIALS):
        credentials.open_directory(directory, service_group_id())
    elif path.is_relative_to(paths.INCIDENT_STATE):
        directories.make(directory, own=below(host, paths.INCIDENT_STATE), mode=directories.PRIVATE)
    else:
        own = paths.own(path.parent)
        directories.make(directory, own=below(host, own) if own else None)


def service_group_id() -> int:
    """The numeric id of the service's group, which must exist before a restore. Raises RestoreError."""
    group = credentials.group_id()
    if group is None:
        raise RestoreError(f"this host has no group {paths.SERVICE_GROUP}. {DEPLOY_FIRST}")
    return group


def _limit_paths(files: Sequence[str]) -> list[str]:
    """The same paths; if they are too many for a command line, their directories."""
    if len(files) <= _MOST_PATHS:
        return list(files)
    return sorted({str(Path(*Path(path).parts[:5])) for path in files})


def _unused_name(path: Path) -> Path:
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free


def _new_directory(parent: Path, name: str) -> Path:
    directory = _unused_name(parent / name)
    directories.make(directory, own=parent, mode=directories.PRIVATE)
    common_files.sync_directory(parent)
    return directory
