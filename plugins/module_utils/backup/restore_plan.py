"""Plans a restore: compares a host with a snapshot and lists the actions. Changes nothing."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup import contents, restic, survey
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import HistoryDigest
from ansible_collections.katago.fleet.plugins.module_utils.backup.survey import Finding
from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.module_utils.release import history, layout, links

ROOTS = (
    Path("/opt/katago-mcp"),
    paths.ASSETS,
    paths.STATE,
    paths.INCIDENT_STATE,
    Path("/etc/katago-mcp"),
)
_SPARE_BYTES = 64 << 20

# Findings that no backup can repair. The configuration file is restored as part of its release.
_NOT_RESTORABLE = {"schema", "journal"}
DEPLOY_FIRST = (
    "First run `ansible-playbook playbooks/deploy.yml`, then"
    " `ansible-playbook playbooks/restore.yml -e scope=state`"
)

Scope = Literal["damaged", "state", "all"]
How = Literal["put", "add", "merge", "tokens", "link", "set_aside", "judge"]
# Assets before releases, and the switch to the release last. So a killed restore never leaves an incomplete
# current release.
_ORDER: tuple[How, ...] = ("put", "add", "tokens", "merge", "set_aside", "judge", "link")


class RestoreError(Exception):
    """The restore is not possible. The message says what is wrong and what to do."""


@dataclass(frozen=True)
class Action:
    """One action on one path of the host, and the reason for it.

    `put`: replace the path by the snapshot's. `add`: restore it only if it does not exist. `merge`: merge the
    history with the snapshot's. `tokens`: restore the tokens, but keep the host's operator token. `link`:
    create a symlink. `set_aside`: move the path to the quarantine. `judge`: have the restored release check
    the cache, and quarantine it if it is damaged. `expected`: as in `Finding`. `size`: bytes to fetch.
    """

    path: str
    how: How
    why: str
    expected: str = ""
    size: int = 0


@dataclass(frozen=True)
class Plan:
    """The actions of a restore. `release`: the current release after the restore."""

    actions: Sequence[Action]
    release: str
    findings: Sequence[Finding]

    @property
    def unmended(self) -> list[Finding]:
        """The damage that no backup can repair.

        If there are actions, an invalid configuration is left out: they may repair it, and the validation
        after the restore checks it again.
        """
        ignored = {"schema"} if self.actions else set()
        return [each for each in survey.damaged(self.findings) if each.item in _NOT_RESTORABLE - ignored]


class Planner:
    """Compares a host with a snapshot and decides on the actions.

    `scope`: `damaged` restores what is damaged or missing, on a bare host everything; `state` also restores
    the state and the tokens as of the snapshot; `all` also switches to the release of the snapshot. The
    history only grows: it is always merged with the one in `newest`. `last_history`: the history at the
    host's last verified backup. `root`: the directory of the host's files.
    """

    def __init__(
        self,
        repository: restic.Repository,
        snapshot: restic.Snapshot,
        scope: Scope,
        *,
        newest: restic.Snapshot,
        last_history: HistoryDigest | None,
        root: Path,
    ) -> None:
        self.repository = repository
        self.root = root
        self._snapshot = snapshot
        self._newest = newest
        self._scope = scope
        self._nodes = repository.nodes(snapshot.id)
        self._contents: dict[str, bytes | None] = {}
        self._survey = survey.Survey(root=root, reference=self.content, last_history=last_history)

    def content(self, path: str) -> bytes | None:
        """A file's content in the snapshot; None if the snapshot does not have the file."""
        if path not in self._contents:
            node = self._nodes.get(path)
            snapshot = self._newest if path == str(paths.HISTORY) else self._snapshot
            is_file = node is not None and node.type == "file"
            self._contents[path] = self.repository.dump(snapshot.id, path) if is_file else None
        return self._contents[path]

    def plan(self, checked: Iterable[Finding]) -> Plan:
        """Plan the restore from the differences to manifests and snapshot. `checked`: findings of programs.

        Raises RestoreError if the snapshot lacks something that is needed.
        """
        findings = [*self._survey.findings(self._names()), *checked]
        actions = [action for finding in survey.damaged(findings) for action in self._repair_actions(finding)]
        if self._scope in ("state", "all") or self._is_bare():
            actions += self._state_of_snapshot()
        release = self._release()
        if self._scope == "all":
            actions += self._switch(release)
            self._require_release(release, actions)
        unique = {(action.path, action.how): action for action in actions}
        ordered = sorted(unique.values(), key=lambda action: (_ORDER.index(action.how), _rank(action.path)))
        check_room(ordered, self.root)
        return Plan(ordered, release, findings)

    def _is_bare(self) -> bool:
        """Whether the host has neither a release nor a history, and so no state worth keeping."""
        return self._layout.current_release() is None and not self._at(paths.HISTORY).exists()

    @property
    def _layout(self) -> layout.Layout:
        return self._survey.layout()

    def _at(self, path: str | Path) -> Path:
        """The location of a path of the host."""
        return self._survey.at(path)

    def _records(self) -> list[history.Record]:
        return history.read(self._at(paths.HISTORY))

    def _names(self) -> list[str]:
        """The releases to check: those that the host needs, and those that the snapshot has completely."""
        needed = contents.current_and_rollback_target(self._layout, self._records())
        if not needed or self._scope == "all":
            others = [name for name in self._complete_releases() if name not in needed]
            needed += sorted(others, key=lambda name: name != self._snapshot.release)
        if not needed:
            raise RestoreError(
                f"this host has no release, and the snapshot {self._snapshot} has no complete one: it was"
                f" made without backup_assets. {DEPLOY_FIRST}"
            )
        return needed

    def _complete_releases(self) -> list[str]:
        pattern = re.compile(rf"{paths.RELEASE_ROOT}/releases/([^/]+)/venv/pyvenv.cfg")
        return [match[1] for path in self._nodes if (match := pattern.fullmatch(path))]

    def _release(self) -> str:
        present = self._layout.current_release() or history.current(self._records())
        return self._snapshot.release if self._scope == "all" or present is None else present

    def _repair_actions(self, finding: Finding) -> Iterator[Action]:
        path, why = finding.path, finding.message
        if finding.item == "cache":
            how: How = "judge" if finding.condition == "unknown" else "set_aside"
            yield Action(path, how, why)
        elif finding.item in _NOT_RESTORABLE:
            return
        elif finding.item == "links":
            yield from self._link(finding)
        elif finding.item == "history":
            yield Action(path, "merge", why)
        elif finding.condition == "added" or (finding.item == "state" and path not in self._nodes):
            yield Action(path, "set_aside", why)
        elif finding.item == "tokens" and path in self._nodes:
            yield Action(path, "tokens", why)
        else:
            self._require(finding)
            yield Action(path, "put", why, finding.expected, self._size(path))

    def _link(self, finding: Finding) -> Iterator[Action]:
        if finding.expected:
            yield Action(finding.path, "link", finding.message, finding.expected)
        else:
            yield from self._switch(self._release())

    def _switch(self, release: str) -> Iterator[Action]:
        for path, target in links.of_host(layout.Layout(paths.RELEASE_ROOT), release).items():
            here = self._at(path)
            if not (here.is_symlink() and str(here.readlink()) == target):
                yield Action(str(path), "link", f"{path} must point to {target}", f"link:{target}")

    def _require(self, finding: Finding) -> None:
        """Raise RestoreError if the snapshot cannot repair this finding."""
        directory = Path(finding.path)
        if finding.path not in self._nodes:
            raise RestoreError(
                f"{finding.message}, and the snapshot {self._snapshot} does not contain it. Either deploy it"
                " from the control node: `ansible-playbook playbooks/deploy.yml`; or switch to the snapshot's"
                " release: -e scope=all; or select another snapshot: -e at=SNAPSHOT"
            )
        if directory.parent == paths.RELEASE_ROOT / "releases":
            content = self.content(f"{directory}/venv/pyvenv.cfg")
            if content is None:
                raise RestoreError(
                    f"{finding.message}, and the snapshot {self._snapshot} does not have all of it, because"
                    f" backup_assets was off. {DEPLOY_FIRST}"
                )
            version = python_version(content.decode(errors="replace"))
            if version != sys.version_info[:2]:
                raise RestoreError(
                    f"{directory.name} was built for Python {'.'.join(map(str, version))}, but this host has"
                    f" Python {sys.version_info[0]}.{sys.version_info[1]}, from another Debian release."
                    f" {DEPLOY_FIRST}"
                )

    def _require_release(self, release: str, actions: Sequence[Action]) -> None:
        """Raise RestoreError if the release is neither on this host nor completely in the snapshot."""
        restored = {Path(action.path).name for action in actions if action.how == "put"}
        if release not in restored and release not in self._layout.complete():
            raise RestoreError(
                f"{release} is not on this host, and the snapshot {self._snapshot} does not have all of it."
                " To restore everything else: -e scope=state"
            )

    def _state_of_snapshot(self) -> Iterator[Action]:
        for path, node in sorted(self._nodes.items()):
            if node.type != "file":
                continue
            tokens = paths.CREDENTIALS / paths.TOKENS
            if Path(path) == tokens:
                restored = tokens_with_operator(self.content(path) or b"", operator_token(self.root))
                if _content(self._at(tokens)) != restored:
                    yield Action(path, "tokens", f"{path} differs from the snapshot")
            elif Path(path) == paths.HISTORY:
                present = _content(self._at(paths.HISTORY))
                if survey.merged_history(self.content(path) or b"", present) != present:
                    yield Action(path, "merge", f"{path} lacks records of the snapshot")
            elif Path(path).is_relative_to(paths.STATE):
                sha256 = digest.of_bytes(self.content(path) or b"")
                here = self._at(path)
                if not here.is_file() or digest.of_file(here) != sha256:
                    yield Action(path, "put", f"{path} differs from the snapshot", sha256, node.size)
            elif Path(path).parent == paths.INCIDENT_STATE and not self._at(path).exists():
                # Never replace an existing one: an older record would have messages sent again.
                sha256 = digest.of_bytes(self.content(path) or b"")
                yield Action(path, "add", f"{path} is missing", sha256, node.size)

    def _size(self, path: str) -> int:
        prefix = f"{path}/"
        return sum(node.size for name, node in self._nodes.items() if name == path or name.startswith(prefix))


def check_room(actions: Sequence[Action], host: Path) -> None:
    """Raise RestoreError if a disk lacks space. Roots on the same disk share its free space."""
    needed: dict[int, int] = {}
    places: dict[int, list[Path]] = {}
    for root in ROOTS:
        size = sum(action.size for action in actions if Path(action.path).is_relative_to(root))
        if size:
            place = contents.below(host, root)
            existing = next(path for path in (place, *place.parents) if path.exists())
            device = existing.stat().st_dev
            needed[device] = needed.get(device, 0) + size
            places.setdefault(device, []).append(existing)
    for device, size in needed.items():
        free = shutil.disk_usage(places[device][0]).free
        if free < size + _SPARE_BYTES:
            where = " and ".join(dict.fromkeys(map(str, places[device])))
            raise RestoreError(
                f"{where}: {free >> 20} MB are free on that disk, and the restore needs"
                f" {size + _SPARE_BYTES >> 20} MB there, because replaced files are kept. Free space on it"
            )


def _rank(path: str) -> tuple[int, str]:
    """A sort key: engines and networks before releases, the link `current` last."""
    if Path(path).is_relative_to(paths.ASSETS):
        return 0, path
    return (2 if path == str(paths.RELEASE_ROOT / "current") else 1), path


def python_version(pyvenv: str) -> tuple[int, ...]:
    """The Python version that a pyvenv.cfg names; () if it names none."""
    match = re.search(r"^version\s*=\s*(\d+)\.(\d+)", pyvenv, re.M)
    return (int(match[1]), int(match[2])) if match else ()


def operator_token(root: Path) -> str | None:
    """The host's operator token; None if it has none."""
    path = contents.below(root, paths.CREDENTIALS / paths.OPERATOR_TOKEN)
    return path.read_text().strip() if path.exists() else None


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def tokens_with_operator(content: bytes, operator: str | None) -> bytes:
    """The snapshot's tokens.json, with the operator entry replaced by this host's operator token.

    A backup does not contain the operator token; a new host creates a new one. Raises RestoreError.
    """
    # Content without a problem is an object with a list of entries, each with name and sha256.
    if survey.token_problem(content, None):
        raise RestoreError(
            "the tokens in the snapshot are not valid. Write them again:"
            " `ansible-playbook playbooks/deploy.yml`"
        )
    value = json.loads(content)
    for entry in value["tokens"]:
        if entry["name"] == "operator" and operator is not None:
            entry["sha256"] = digest.of_text(operator)
    return json.dumps(value, indent=1).encode() + b"\n"
