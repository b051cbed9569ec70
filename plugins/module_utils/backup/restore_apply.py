"""Carries a planned restore out: fetches, checks, keeps what is replaced, puts in place, records.

Fetches nothing once it has begun to replace, and can be killed anywhere.
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
    sealed_tokens,
)
from ansible_collections.katago.fleet.plugins.module_utils.backup.survey import Finding
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, shape
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files
from ansible_collections.katago.fleet.plugins.module_utils.release import history, layout
from ansible_collections.katago.fleet.plugins.module_utils.service import credentials

# A restore's record, in its quarantine.
RECORD = "restore.json"
# Beside what they are renamed to, since a rename is atomic on one file system only.
STAGE = ".restore"
STAGE_SECONDS = 3600
# More paths than this are restored by their directory.
_MOST_PATHS = 200


def stage_of(host: Path, path: str | Path) -> Path:
    """Where a path is staged: below the root that it belongs to. Raises RestoreError for any other.

    Here and below `host` is where the host's files lie; paths of actions are those that it knows itself.
    """
    for root in ROOTS:
        if Path(path).is_relative_to(root):
            return below(below(host, root) / STAGE, path)
    raise RestoreError(f"{path} belongs to nothing that is restored")


def clean_stages(host: Path) -> None:
    """Remove what an earlier restore fetched; it is still in the snapshot."""
    for root in ROOTS:
        shutil.rmtree(below(host, root) / STAGE, ignore_errors=True)


def stage(planner: Planner, snapshot: str, actions: Sequence[Action]) -> None:
    """Fetch all that is needed, and refuse unless every piece is what it should be.

    Touches nothing but the stages, and leaves none of them when it fails. Raises RestoreError,
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
        target.mkdir(mode=0o700)
        planner.repository.restore(snapshot, target, _fewer(files), deadline=STAGE_SECONDS)
        common_files.sync_tree(target)
    for action in actions:
        if action.how in ("merge", "tokens"):
            target = stage_of(planner.root, action.path)
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            common_files.write(target, planner.kept(action.path) or b"", mode=0o600)
        if action.how in ("put", "add") and (trouble := staged_trouble(planner.root, action)):
            raise RestoreError(f"the snapshot does not give {action.path} as it should be: {trouble}")


def staged_trouble(host: Path, action: Action) -> str:
    """Why a staged path cannot be put in place; empty when it can."""
    staged = stage_of(host, action.path)
    if not os.path.lexists(staged):
        return "it is not there"
    if Path(action.path).parent == paths.RELEASE_ROOT / "releases":
        survey = backup_survey.Survey(root=below(host, paths.RELEASE_ROOT) / STAGE)
        found = backup_survey.damaged([f for f in survey.release(staged.name) if f.item == "release"])
        return found[0].words if found else ""
    if not action.expected:
        return ""
    actual = entry(staged)
    return "" if actual == action.expected else f"its digest is {actual}, not {action.expected}"


def entry(path: Path) -> str:
    """A path as `digest.of_tree` has it, or the digest of a directory."""
    if path.is_symlink():
        return f"link:{path.readlink()}"
    if path.is_dir():
        return digest.of_path(path)
    return digest.of_file(path) + ("+x" if path.stat().st_mode & 0o100 else "")


@dataclass(frozen=True)
class Order:
    """What a run of a restore was to do, planned at `at`; `release` is the current one afterwards."""

    at: str
    who: str
    snapshot: str
    release: str
    actions: tuple[Action, ...]


@dataclass(frozen=True)
class Record:
    """A restore: the orders of the runs that it took, the last one last, and when and how it ended."""

    orders: tuple[Order, ...]
    finished: str | None = None
    result: str = ""

    @classmethod
    def read(cls, path: Path) -> Record:
        """The one that a file holds. Raises OSError; RestoreError when it cannot be used."""
        try:
            found = shape.record(cls, shape.parsed(path.read_bytes()))
            if not found.orders:
                raise shape.ShapeError("orders is empty")
            return found
        except shape.ShapeError as error:
            raise _unusable(path, error) from error


def _is_finished(path: Path) -> bool:
    """Whether the record in a file is that of a restore that ended, whatever else it holds."""
    try:
        return bool(shape.mapping(shape.parsed(path.read_bytes())).get("finished"))
    except shape.ShapeError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: shape.ShapeError) -> RestoreError:
    return RestoreError(
        f"the record of a restore cannot be used: {path}: {error}. Move {path.parent} elsewhere and run the"
        " restore again"
    )


class Restoration:
    """One restore, from its beginning to its verdict, and the quarantine of what it replaced.

    A restore that was killed is found by its record, and gone on with in the same quarantine. `host`: as for
    `stage_of`.
    """

    def __init__(self, host: Path, directory: Path) -> None:
        self.directory = directory
        self._host = host

    @classmethod
    def unfinished(cls, host: Path) -> Restoration | None:
        """The restore that was begun and not brought to its end; None when there is none.

        Raises OSError, RestoreError.
        """
        for path in sorted(below(host, paths.QUARANTINE).glob(f"*/{RECORD}"), reverse=True):
            if not _is_finished(path):
                return cls(host, path.parent)
        return None

    @classmethod
    def begin(cls, host: Path, who: str, snapshot: str, plan: Plan) -> Restoration:
        """Begin one that is staged, or go on with the one that was not finished.

        Where the record cannot be written, what was staged is removed. Raises OSError, RestoreError.
        """
        try:
            return cls._begin(host, who, snapshot, plan)
        except BaseException:
            clean_stages(host)
            raise

    @classmethod
    def _begin(cls, host: Path, who: str, snapshot: str, plan: Plan) -> Restoration:
        order = Order(timestamps.now(), who, snapshot, plan.release, tuple(plan.actions))
        found = cls.unfinished(host)
        if found:
            found._write(replace(found.record, orders=(*found.record.orders, order)))
            return found
        name = timestamps.now().replace(":", "")
        new = cls(host, _new_directory(below(host, paths.QUARANTINE), name))
        new._write(Record((order,)))
        return new

    @property
    def record(self) -> Record:
        """What was ordered, and whether it is finished. Raises OSError, RestoreError."""
        return Record.read(self.directory / RECORD)

    def carry_out(self, of_cache: Callable[[], Iterable[Finding]]) -> list[str]:
        """Do what was ordered last, from the stages alone; return the paths that were set aside.

        The links come last, when the history knows of the switch. `of_cache` judges the cache by the
        restored release. Raises OSError, RestoreError.
        """
        order = self.record.orders[-1]
        aside = self.install([action for action in order.actions if action.how != "link"], of_cache)
        why = f"restored from {order.snapshot[:8]}: {len(order.actions)} items"
        record_switch(self._host, order.who, order.release, why)
        return aside + self.install([action for action in order.actions if action.how == "link"], of_cache)

    def install(self, actions: Sequence[Action], of_cache: Callable[[], Iterable[Finding]]) -> list[str]:
        """Carry out actions; return the paths that were set aside. Raises OSError, RestoreError.

        Killed anywhere, what is left is whole or missing, and the next run goes on with it.
        """
        aside: list[str] = []
        for action in actions:
            path = Path(action.path)
            if action.how == "judge" and not backup_survey.damaged(list(of_cache())):
                continue
            if action.how in ("set_aside", "judge"):
                aside += self._set_aside(path)
                continue
            if action.how == "add":
                self._add(path)
                continue
            staged = self._prepare(action)
            aside += self._quarantine(path)
            make_parent(self._host, path)
            here = self._at(path)
            staged.rename(here)
            common_files.sync_directory(here.parent)
        return aside

    def finish(self, result: str) -> None:
        """Record the end."""
        self._write(replace(self.record, finished=timestamps.now(), result=result))
        clean_stages(self._host)

    def _at(self, path: Path) -> Path:
        return below(self._host, path)

    def _prepare(self, action: Action) -> Path:
        path = Path(action.path)
        if action.how == "put":
            return stage_of(self._host, path)
        # Beside it, for /usr/local and /etc/systemd too.
        here = self._at(path)
        scratch = here.with_name(f".{path.name}.restore")
        make_parent(self._host, path)
        scratch.unlink(missing_ok=True)
        if action.how == "link":
            scratch.symlink_to(action.expected.removeprefix("link:"))
        elif action.how == "merge":
            present = here.read_bytes() if here.exists() else b""
            merged = backup_survey.merged_history(stage_of(self._host, path).read_bytes(), present)
            common_files.write(scratch, merged, mode=0o644)
        else:
            content = sealed_tokens(stage_of(self._host, path).read_bytes(), self._own_token())
            common_files.write(scratch, content, mode=credentials.TOKENS_MODE, group=services_group())
        return scratch

    def _own_token(self) -> str:
        token = operator_token(self._host)
        if token is None:
            token = secrets.token_urlsafe(32)
            path = self._at(paths.CREDENTIALS / paths.OPERATOR_TOKEN)
            common_files.write(path, f"{token}\n".encode(), mode=0o600)
        return token

    def _set_aside(self, path: Path) -> list[str]:
        aside = self._quarantine(path)
        here = self._at(path)
        if here.is_symlink() or here.is_file():
            here.unlink()
            common_files.sync_directory(here.parent)
        if path == paths.ANSWERS:
            # SQLite's journal belongs to the file it was written for.
            for end in ("-wal", "-shm"):
                aside += self._set_aside(path.with_name(f"{path.name}{end}"))
        return aside

    def _quarantine(self, path: Path) -> list[str]:
        """Keep what lies at a path; a file stays there too until it is replaced, a directory is moved."""
        here = self._at(path)
        if not os.path.lexists(here):
            return []
        place = _free(below(self.directory, path))
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
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
            # Another file system: there, under the same name as the quarantine.
            root = next(root for root in ROOTS if path.is_relative_to(root))
            beside = self._at(root) / ".quarantine" / self.directory.name
            place = _free(beside / path.relative_to(root))
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            here.rename(place)
        common_files.sync_directory(here.parent)
        return place

    def _add(self, path: Path) -> None:
        """Put what is staged where there is nothing; what came there meanwhile stays."""
        make_parent(self._host, path)
        here = self._at(path)
        with contextlib.suppress(FileExistsError):
            os.link(stage_of(self._host, path), here)
        common_files.sync_directory(here.parent)

    def _write(self, record: Record) -> None:
        content = json.dumps(asdict(record), indent=1).encode() + b"\n"
        common_files.write(self.directory / RECORD, content, mode=0o600)


def record_switch(host: Path, who: str, release: str, why: str) -> bool:
    """Record the restore in the history unless it is its newest record; return whether it was not."""
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
    """Make a path's directory: the reminders' for root alone, that of the credentials as it is kept."""
    of_service = path.is_relative_to(paths.CREDENTIALS)
    closed = of_service or path.is_relative_to(paths.INCIDENT_STATE)
    directory = below(host, path).parent
    directory.mkdir(parents=True, exist_ok=True, mode=0o700 if closed else 0o755)
    if of_service:
        credentials.open_directory(directory, services_group())
    elif closed:
        directory.chmod(0o700)


def services_group() -> int:
    """The numeric id of the service's group, made before anything is put back. Raises RestoreError."""
    group = credentials.group_id()
    if group is None:
        raise RestoreError(f"there is no group {paths.SERVICE_GROUP} on this host. {DEPLOY_FIRST}")
    return group


def _fewer(files: Sequence[str]) -> list[str]:
    """The same paths, or the directories of them where there are too many for a command line."""
    if len(files) <= _MOST_PATHS:
        return list(files)
    return sorted({str(Path(*Path(path).parts[:5])) for path in files})


def _free(path: Path) -> Path:
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free


def _new_directory(parent: Path, name: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    parent.chmod(0o700)
    directory = _free(parent / name)
    directory.mkdir(mode=0o700)
    common_files.sync_directory(parent)
    return directory
