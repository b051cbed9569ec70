"""A restore of a host: what is put back from a snapshot, fetched and checked before anything is touched."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.backup import program_checks, restic
from ansible_collections.katago.fleet.plugins.module_utils.backup import survey as backup_survey
from ansible_collections.katago.fleet.plugins.module_utils.backup.survey import Finding
from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files
from ansible_collections.katago.fleet.plugins.module_utils.release import history
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import unit

RECORD = "restore.json"
# Beside what they are renamed to, since a rename is atomic on one file system only.
STAGE = ".restore"
ROOTS = (
    Path("/opt/katago-mcp"),
    paths.ASSETS,
    paths.STATE,
    paths.INCIDENT_STATE,
    Path("/etc/katago-mcp"),
)
STAGE_SECONDS = 3600
_SPARE_BYTES = 64 << 20
# More paths than this are restored by their directory.
_MOST_PATHS = 200

# The configuration itself is a file of the release.
_IN_NO_BACKUP = {"schema", "journal"}
_DEPLOY_FIRST = "`ansible-playbook playbooks/deploy.yml` first, then playbooks/restore.yml -e scope=state"

Scope = Literal["damaged", "state", "all"]
How = Literal["put", "add", "merge", "tokens", "link", "set_aside", "judge"]
# What a release stands on comes first and the switch to it last, so that a killed restore shows nothing half.
_ORDER: tuple[How, ...] = ("put", "add", "tokens", "merge", "set_aside", "judge", "link")


class RestoreError(Exception):
    """The restore cannot be done; the message says what was seen and what to do."""


@dataclass(frozen=True)
class Action:
    """One thing to do to one path, and why.

    `put` replaces it by the snapshot's, `add` puts that where there is nothing, `merge` puts the history's
    records together, `tokens` keeps the host's own token, `link` makes a symlink, `set_aside` only takes it
    away, `judge` has the cache checked by the mended release. `expected`: as in `Finding`. `size`: bytes to
    be fetched.
    """

    path: str
    how: How
    why: str
    expected: str = ""
    size: int = 0


@dataclass(frozen=True)
class Plan:
    """What a restore will do. `release` is the current one afterwards."""

    actions: Sequence[Action]
    release: str
    findings: Sequence[Finding]

    @property
    def unmended(self) -> list[Finding]:
        """What was found that no backup mends; of a configuration that is mended, the validation tells."""
        spared = {"schema"} if self.actions else set()
        return [each for each in backup_survey.damaged(self.findings) if each.item in _IN_NO_BACKUP - spared]


class Planner:
    """Compares a host with a snapshot of it and decides what is to be done.

    `scope`: `damaged` mends what is damaged or missing, on a bare host everything; `state` also puts
    the state and the tokens back as they were; `all` also goes back to the release that was the
    current one. The history is put together with the one of `newest` in any case, since it only
    grows. `known` is what the host remembers of it.
    """

    def __init__(
        self,
        repository: restic.Repository,
        snapshot: restic.Snapshot,
        scope: Scope,
        *,
        newest: restic.Snapshot,
        known: backup_survey.Known | None = None,
    ) -> None:
        self.repository = repository
        self._snapshot = snapshot
        self._newest = newest
        self._scope = scope
        self._nodes = repository.nodes(snapshot.id)
        self._kept: dict[str, bytes | None] = {}
        self._survey = backup_survey.Survey(reference=self.kept, known=known)

    def kept(self, path: str) -> bytes | None:
        """A file's content in the snapshot, None when it has none."""
        if path not in self._kept:
            node = self._nodes.get(path)
            snapshot = self._newest if path == str(paths.HISTORY) else self._snapshot
            is_file = node is not None and node.type == "file"
            self._kept[path] = self.repository.dump(snapshot.id, path) if is_file else None
        return self._kept[path]

    def plan(self, *, told: bool = True) -> Plan:
        """The plan, with what no backup mends if that is `told`, which takes its time.

        Raises RestoreError when the snapshot does not have what is needed.
        """
        asked = program_checks.findings() if told else program_checks.of_cache()
        findings = [*self._survey.findings(self._names()), *asked]
        actions = [action for finding in backup_survey.damaged(findings) for action in self._mend(finding)]
        if self._scope in ("state", "all") or self._is_bare():
            actions += self._state_of_snapshot()
        release = self._release()
        if self._scope == "all":
            actions += self._switch(release)
            self._require_release(release, actions)
        unique = {(action.path, action.how): action for action in actions}
        ordered = sorted(unique.values(), key=lambda action: (_ORDER.index(action.how), _rank(action.path)))
        check_room(ordered)
        return Plan(ordered, release, findings)

    def _is_bare(self) -> bool:
        """Whether the host has neither a release nor a history, and so no state of its own to keep."""
        layout = release_layout.Layout(paths.RELEASE_ROOT)
        return layout.current_release() is None and not paths.HISTORY.exists()

    def _names(self) -> list[str]:
        """The releases to look at: those that the host needs, and those that the snapshot has whole."""
        layout = release_layout.Layout(paths.RELEASE_ROOT)
        needed = backup_survey.current_and_way_back(layout, history.read(paths.HISTORY))
        if not needed or self._scope == "all":
            kept = [name for name in self._whole_releases() if name not in needed]
            needed += sorted(kept, key=lambda name: name != self._snapshot.release)
        if not needed:
            raise RestoreError(
                f"this host has no release and the snapshot {self._snapshot} has none whole, since it was"
                f" made without backup_assets. {_DEPLOY_FIRST}"
            )
        return needed

    def _whole_releases(self) -> list[str]:
        pattern = re.compile(rf"{paths.RELEASE_ROOT}/releases/([^/]+)/venv/pyvenv.cfg")
        return [found[1] for path in self._nodes if (found := pattern.fullmatch(path))]

    def _release(self) -> str:
        layout = release_layout.Layout(paths.RELEASE_ROOT)
        present = layout.current_release() or history.current(history.read(paths.HISTORY))
        return self._snapshot.release if self._scope == "all" or present is None else present

    def _mend(self, finding: Finding) -> Iterator[Action]:
        path, words = finding.path, finding.words
        if finding.item == "cache":
            how: How = "judge" if finding.condition == "unknown" else "set_aside"
            yield Action(path, how, words)
        elif finding.item in _IN_NO_BACKUP:
            return
        elif finding.item == "links":
            yield from self._link(finding)
        elif finding.item == "history":
            yield Action(path, "merge", words)
        elif finding.condition == "added" or (finding.item == "state" and path not in self._nodes):
            yield Action(path, "set_aside", words)
        elif finding.item == "tokens" and path in self._nodes:
            yield Action(path, "tokens", words)
        else:
            self._require(finding)
            yield Action(path, "put", words, finding.expected, self._size(path))

    def _link(self, finding: Finding) -> Iterator[Action]:
        if finding.expected:
            yield Action(finding.path, "link", finding.words, finding.expected)
        else:
            yield from self._switch(self._release())

    def _switch(self, release: str) -> Iterator[Action]:
        for path, target in unit.links(release_layout.Layout(paths.RELEASE_ROOT), release).items():
            if not (path.is_symlink() and str(path.readlink()) == target):
                yield Action(str(path), "link", f"{path} leads to {target}", f"link:{target}")

    def _require(self, finding: Finding) -> None:
        """Refuse what the snapshot cannot mend."""
        directory = Path(finding.path)
        if finding.path not in self._nodes:
            raise RestoreError(
                f"{finding.words}, and the snapshot {self._snapshot} does not have it."
                " `ansible-playbook playbooks/deploy.yml` brings it from the control node; -e scope=all"
                " goes back to the release of the snapshot; -e at=... names another one"
            )
        if directory.parent == paths.RELEASE_ROOT / "releases":
            content = self.kept(f"{directory}/venv/pyvenv.cfg")
            if content is None:
                raise RestoreError(
                    f"{finding.words}, and the snapshot {self._snapshot} has its small parts alone, since it"
                    f" was made without backup_assets. {_DEPLOY_FIRST}"
                )
            wanted = python_of(content.decode(errors="replace"))
            if wanted != sys.version_info[:2]:
                raise RestoreError(
                    f"{directory.name} was built for Python {'.'.join(map(str, wanted))}, and this host, of"
                    f" another Debian, has {sys.version_info[0]}.{sys.version_info[1]}."
                    f" {_DEPLOY_FIRST}"
                )

    def _require_release(self, release: str, actions: Sequence[Action]) -> None:
        """Refuse to switch to what is neither here nor in the snapshot."""
        coming = {Path(action.path).name for action in actions if action.how == "put"}
        if release not in coming and release not in release_layout.Layout(paths.RELEASE_ROOT).complete():
            raise RestoreError(
                f"{release} is not on this host, and the snapshot {self._snapshot} has its small parts alone."
                " -e scope=state restores the rest"
            )

    def _state_of_snapshot(self) -> Iterator[Action]:
        for path, node in sorted(self._nodes.items()):
            if node.type != "file":
                continue
            tokens = paths.CREDENTIALS / paths.TOKENS
            if Path(path) == tokens:
                if present_tokens(tokens) != sealed_tokens(self.kept(path) or b"", operator_token()):
                    yield Action(path, "tokens", f"{path} is not the snapshot's")
            elif Path(path) == paths.HISTORY:
                present = paths.HISTORY.read_bytes() if paths.HISTORY.exists() else b""
                if backup_survey.merged_history(self.kept(path) or b"", present) != present:
                    yield Action(path, "merge", f"{path} lacks records of the snapshot")
            elif Path(path).is_relative_to(paths.STATE):
                sha256 = digest.of_bytes(self.kept(path) or b"")
                if not Path(path).is_file() or digest.of_file(path) != sha256:
                    yield Action(path, "put", f"{path} is not the snapshot's", sha256, node.size)
            elif Path(path).parent == paths.INCIDENT_STATE and not Path(path).exists():
                # An older one in the place of a newer would have messages sent again.
                sha256 = digest.of_bytes(self.kept(path) or b"")
                yield Action(path, "add", f"{path} is missing", sha256, node.size)

    def _size(self, path: str) -> int:
        below = f"{path}/"
        return sum(node.size for name, node in self._nodes.items() if name == path or name.startswith(below))


def check_room(actions: Sequence[Action]) -> None:
    """Refuse what does not fit; the roots that lie on one disk share its room. Raises RestoreError."""
    needed: dict[int, int] = {}
    places: dict[int, list[Path]] = {}
    for root in ROOTS:
        size = sum(action.size for action in actions if Path(action.path).is_relative_to(root))
        if size:
            existing = next(path for path in (root, *root.parents) if path.exists())
            device = existing.stat().st_dev
            needed[device] = needed.get(device, 0) + size
            places.setdefault(device, []).append(existing)
    for device, size in needed.items():
        free = shutil.disk_usage(places[device][0]).free
        if free < size + _SPARE_BYTES:
            where = " and ".join(dict.fromkeys(map(str, places[device])))
            raise RestoreError(
                f"{where}: {free >> 20} MB are free on that disk, and the restore needs"
                f" {size + _SPARE_BYTES >> 20} MB there, since what is damaged is kept. Make room"
            )


def python_of(pyvenv: str) -> tuple[int, ...]:
    """The version of Python that an environment was made for, by its pyvenv.cfg; () when it does not say."""
    found = re.search(r"^version\s*=\s*(\d+)\.(\d+)", pyvenv, re.M)
    return (int(found[1]), int(found[2])) if found else ()


def operator_token() -> str | None:
    """The host's own token, None when it has none."""
    path = paths.CREDENTIALS / paths.OPERATOR_TOKEN
    return path.read_text().strip() if path.exists() else None


def present_tokens(path: Path) -> bytes:
    """What lies in the place of the tokens."""
    return path.read_bytes() if path.exists() else b""


def sealed_tokens(kept: bytes, operator: str | None) -> bytes:
    """The snapshot's tokens with this host's own token in the place of the one that was.

    The host's own token is not in a backup; a new host makes a new one. Raises RestoreError.
    """
    if backup_survey.token_trouble(kept, None):
        raise RestoreError(
            "the snapshot's tokens cannot be used. `ansible-playbook playbooks/deploy.yml` writes them anew"
        )
    value = json.loads(kept)
    for entry in value["tokens"]:
        if entry["name"] == "operator" and operator is not None:
            entry["sha256"] = digest.of_text(operator)
    return json.dumps(value, indent=1).encode() + b"\n"


def stage_of(path: str | Path) -> Path:
    """Where a path is staged: below the root that it belongs to. Raises RestoreError for any other."""
    for root in ROOTS:
        if Path(path).is_relative_to(root):
            return root / STAGE / str(path).lstrip("/")
    raise RestoreError(f"{path} belongs to nothing that is restored")


def clean_stages() -> None:
    """Remove what an earlier restore fetched; it is still in the snapshot."""
    for root in ROOTS:
        shutil.rmtree(root / STAGE, ignore_errors=True)


def stage(planner: Planner, snapshot: str, actions: Sequence[Action]) -> None:
    """Fetch all that is needed, and refuse unless every piece is what it should be.

    Touches nothing but the stages, and leaves none of them when it fails. Raises RestoreError,
    ResticError, OSError.
    """
    clean_stages()
    try:
        _fetch(planner, snapshot, actions)
    except BaseException:
        clean_stages()
        raise


def _fetch(planner: Planner, snapshot: str, actions: Sequence[Action]) -> None:
    for root in ROOTS:
        files = [a.path for a in actions if a.how in ("put", "add") and Path(a.path).is_relative_to(root)]
        if not files:
            continue
        target = root / STAGE
        make_parent(target)
        target.mkdir(mode=0o700)
        planner.repository.restore(snapshot, target, _fewer(files), deadline=STAGE_SECONDS)
        common_files.sync_tree(target)
    for action in actions:
        if action.how in ("merge", "tokens"):
            target = stage_of(action.path)
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            common_files.write(target, planner.kept(action.path) or b"", mode=0o600)
        if action.how in ("put", "add") and (trouble := staged_trouble(action)):
            raise RestoreError(f"the snapshot does not give {action.path} as it should be: {trouble}")


def staged_trouble(action: Action) -> str:
    """Why a staged path cannot be put in place; empty when it can."""
    staged = stage_of(action.path)
    if not os.path.lexists(staged):
        return "it is not there"
    if Path(action.path).parent == paths.RELEASE_ROOT / "releases":
        survey = backup_survey.Survey(root=paths.RELEASE_ROOT / STAGE)
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


class Restoration:
    """One restore, from its beginning to its verdict, and the quarantine of what it replaced.

    A restore that was killed is found by its record, and gone on with in the same quarantine.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def unfinished(cls) -> Restoration | None:
        """The restore that was begun and not brought to its end; None when there is none."""
        for path in sorted(paths.QUARANTINE.glob(f"*/{RECORD}"), reverse=True):
            if not json.loads(path.read_text()).get("finished"):
                return cls(path.parent)
        return None

    @classmethod
    def begin(cls, who: str, snapshot: str, plan: Plan) -> Restoration:
        """Begin one that is staged, or go on with the one that was not finished.

        Where the record cannot be written, what was staged is removed. Raises OSError.
        """
        try:
            return cls._begin(who, snapshot, plan)
        except BaseException:
            clean_stages()
            raise

    @classmethod
    def _begin(cls, who: str, snapshot: str, plan: Plan) -> Restoration:
        found = cls.unfinished() or cls(_new_directory(paths.QUARANTINE, timestamps.now().replace(":", "")))
        order = {"at": timestamps.now(), "who": who, "snapshot": snapshot, "release": plan.release}
        record = found.record if (found.directory / RECORD).exists() else {"orders": [], "finished": None}
        record["orders"].append({**order, "actions": [asdict(action) for action in plan.actions]})
        found._write(record)
        return found

    @property
    def record(self) -> dict[str, Any]:
        """What was ordered, and whether it is finished."""
        value: dict[str, Any] = json.loads((self.directory / RECORD).read_text())
        return value

    def carry_out(self) -> list[str]:
        """Do what was ordered last, from the stages alone; return the paths that were set aside.

        The links come last, when the history knows of the switch. Raises OSError, RestoreError.
        """
        order = self.record["orders"][-1]
        actions = [Action(**action) for action in order["actions"]]
        aside = self.install([action for action in actions if action.how != "link"])
        why = f"restored from {order['snapshot'][:8]}: {len(actions)} items"
        record_switch(order["who"], order["release"], why)
        return aside + self.install([action for action in actions if action.how == "link"])

    def install(self, actions: Sequence[Action]) -> list[str]:
        """Carry out actions; return the paths that were set aside. Raises OSError, RestoreError.

        Killed anywhere, what is left is whole or missing, and the next run goes on with it.
        """
        aside: list[str] = []
        for action in actions:
            path = Path(action.path)
            if action.how == "judge" and all(f.condition == "whole" for f in program_checks.of_cache()):
                continue
            if action.how in ("set_aside", "judge"):
                aside += self._set_aside(path)
                continue
            if action.how == "add":
                _add(path)
                continue
            staged = self._prepare(action)
            aside += self._quarantine(path)
            make_parent(path)
            staged.rename(path)
            common_files.sync_directory(path.parent)
        return aside

    def finish(self, result: str) -> None:
        """Record the end."""
        self._write({**self.record, "finished": timestamps.now(), "result": result})
        clean_stages()

    def _prepare(self, action: Action) -> Path:
        path = Path(action.path)
        if action.how == "put":
            return stage_of(path)
        # Beside it, for /usr/local and /etc/systemd too.
        scratch = path.with_name(f".{path.name}.restore")
        make_parent(path)
        scratch.unlink(missing_ok=True)
        if action.how == "link":
            scratch.symlink_to(action.expected.removeprefix("link:"))
        elif action.how == "merge":
            present = path.read_bytes() if path.exists() else b""
            merged = backup_survey.merged_history(stage_of(path).read_bytes(), present)
            common_files.write(scratch, merged, mode=0o644)
        else:
            content = sealed_tokens(stage_of(path).read_bytes(), self._own_token())
            common_files.write(scratch, content, mode=unit.TOKENS_MODE, group=services_group())
        return scratch

    def _own_token(self) -> str:
        token = operator_token()
        if token is None:
            token = secrets.token_urlsafe(32)
            common_files.write(paths.CREDENTIALS / paths.OPERATOR_TOKEN, f"{token}\n".encode(), mode=0o600)
        return token

    def _set_aside(self, path: Path) -> list[str]:
        aside = self._quarantine(path)
        if path.is_symlink() or path.is_file():
            path.unlink()
            common_files.sync_directory(path.parent)
        if path == paths.ANSWERS:
            # SQLite's journal belongs to the file it was written for.
            for end in ("-wal", "-shm"):
                aside += self._set_aside(path.with_name(f"{path.name}{end}"))
        return aside

    def _quarantine(self, path: Path) -> list[str]:
        """Keep what lies at a path; a file stays there too until it is replaced, a directory is moved."""
        if not os.path.lexists(path):
            return []
        place = _free(self.directory / str(path).lstrip("/"))
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.is_dir() and not path.is_symlink():
            place = self._move(path, place)
        else:
            try:
                os.link(path, place, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                    raise
                shutil.copy2(path, place, follow_symlinks=False)
        common_files.sync_directory(place.parent)
        return [str(place)]

    def _move(self, path: Path, place: Path) -> Path:
        try:
            path.rename(place)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # Another file system: there, under the same name as the quarantine.
            root = next(root for root in ROOTS if path.is_relative_to(root))
            place = _free(root / ".quarantine" / self.directory.name / path.relative_to(root))
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.rename(place)
        common_files.sync_directory(path.parent)
        return place

    def _write(self, record: Mapping[str, Any]) -> None:
        common_files.write(self.directory / RECORD, json.dumps(record, indent=1).encode() + b"\n", mode=0o600)


def record_switch(who: str, release: str, why: str) -> bool:
    """Record the restore in the history unless it is its newest record; return whether it was not."""
    records = history.read(paths.HISTORY)
    newest = records[-1] if records else None
    if newest and newest.how == "restore" and newest.verdict is None and newest.release == release:
        return False
    previous = release_layout.Layout(paths.RELEASE_ROOT).current_release()
    history.append(
        history.Record(
            at=timestamps.now(), who=who, release=release, previous=previous, why=why, how="restore"
        ),
        paths.HISTORY,
    )
    return True


def _add(path: Path) -> None:
    """Put what is staged where there is nothing; what came there meanwhile stays."""
    make_parent(path)
    with contextlib.suppress(FileExistsError):
        os.link(stage_of(path), path)
    common_files.sync_directory(path.parent)


def make_parent(path: Path) -> None:
    """Make a path's directory: the timekeeper's for root alone, that of the credentials as it is kept."""
    of_service = path.is_relative_to(paths.CREDENTIALS)
    closed = of_service or path.is_relative_to(paths.INCIDENT_STATE)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if closed else 0o755)
    if of_service:
        unit.open_credentials(path.parent, services_group())
    elif closed:
        path.parent.chmod(0o700)


def services_group() -> int:
    """The numeric id of the service's group, made before anything is put back. Raises RestoreError."""
    group = unit.group_id()
    if group is None:
        raise RestoreError(f"there is no group {paths.SERVICE_GROUP} on this host. {_DEPLOY_FIRST}")
    return group


def _fewer(files: Sequence[str]) -> list[str]:
    """The same paths, or the directories of them where there are too many for a command line."""
    if len(files) <= _MOST_PATHS:
        return list(files)
    return sorted({str(Path(*Path(path).parts[:5])) for path in files})


def _rank(path: str) -> tuple[int, str]:
    """Engines and networks before releases, and `current` last."""
    if Path(path).is_relative_to(paths.ASSETS):
        return 0, path
    return (2 if path == str(release_layout.Layout(paths.RELEASE_ROOT).current) else 1), path


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
