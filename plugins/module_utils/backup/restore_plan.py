"""What a restore will do: a host compared with a snapshot of it. Changes nothing."""

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
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import Known
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

# The configuration itself is a file of the release.
_IN_NO_BACKUP = {"schema", "journal"}
DEPLOY_FIRST = "`ansible-playbook playbooks/deploy.yml` first, then playbooks/restore.yml -e scope=state"

Scope = Literal["damaged", "state", "all"]
How = Literal["put", "add", "merge", "tokens", "link", "set_aside", "judge"]
# What a release stands on comes first and the switch to it last, so that a killed restore shows nothing half.
_ORDER: tuple[How, ...] = ("put", "add", "tokens", "merge", "set_aside", "judge", "link")


class RestoreError(Exception):
    """The restore cannot be done; the message says what was seen and what to do."""


@dataclass(frozen=True)
class Action:
    """One thing to do to one path of the host, and why.

    `put` replaces it by the snapshot's, `add` puts that where there is nothing, `merge` puts the history's
    records together, `tokens` keeps the host's own token, `link` makes a symlink, `set_aside` only takes it
    away, `judge` has the cache checked by the restored release. `expected`: as in `Finding`. `size`: bytes to
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
        return [each for each in survey.damaged(self.findings) if each.item in _IN_NO_BACKUP - spared]


class Planner:
    """Compares a host with a snapshot of it and decides what is to be done.

    `scope`: `damaged` mends what is damaged or missing, on a bare host everything; `state` also puts
    the state and the tokens back as they were; `all` also goes back to the release that was the
    current one. The history is put together with the one of `newest` in any case, since it only
    grows. `known` is what the host remembers of it. The host's files lie below `root`.
    """

    def __init__(
        self,
        repository: restic.Repository,
        snapshot: restic.Snapshot,
        scope: Scope,
        *,
        newest: restic.Snapshot,
        known: Known | None,
        root: Path,
    ) -> None:
        self.repository = repository
        self.root = root
        self._snapshot = snapshot
        self._newest = newest
        self._scope = scope
        self._nodes = repository.nodes(snapshot.id)
        self._kept: dict[str, bytes | None] = {}
        self._survey = survey.Survey(root=root, reference=self.kept, known=known)

    def kept(self, path: str) -> bytes | None:
        """A file's content in the snapshot, None when it has none."""
        if path not in self._kept:
            node = self._nodes.get(path)
            snapshot = self._newest if path == str(paths.HISTORY) else self._snapshot
            is_file = node is not None and node.type == "file"
            self._kept[path] = self.repository.dump(snapshot.id, path) if is_file else None
        return self._kept[path]

    def plan(self, checked: Iterable[Finding]) -> Plan:
        """The plan, by what differs from manifests and snapshot, and by what programs found: `checked`.

        Raises RestoreError when the snapshot does not have what is needed.
        """
        findings = [*self._survey.findings(self._names()), *checked]
        actions = [action for finding in survey.damaged(findings) for action in self._mend(finding)]
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
        """Whether the host has neither a release nor a history, and so no state of its own to keep."""
        return self._layout.current_release() is None and not self._at(paths.HISTORY).exists()

    @property
    def _layout(self) -> layout.Layout:
        return self._survey.layout()

    def _at(self, path: str | Path) -> Path:
        """Where something of the host lies."""
        return self._survey.at(path)

    def _records(self) -> list[history.Record]:
        return history.read(self._at(paths.HISTORY))

    def _names(self) -> list[str]:
        """The releases to look at: those that the host needs, and those that the snapshot has whole."""
        needed = contents.current_and_way_back(self._layout, self._records())
        if not needed or self._scope == "all":
            kept = [name for name in self._whole_releases() if name not in needed]
            needed += sorted(kept, key=lambda name: name != self._snapshot.release)
        if not needed:
            raise RestoreError(
                f"this host has no release and the snapshot {self._snapshot} has none whole, since it was"
                f" made without backup_assets. {DEPLOY_FIRST}"
            )
        return needed

    def _whole_releases(self) -> list[str]:
        pattern = re.compile(rf"{paths.RELEASE_ROOT}/releases/([^/]+)/venv/pyvenv.cfg")
        return [found[1] for path in self._nodes if (found := pattern.fullmatch(path))]

    def _release(self) -> str:
        present = self._layout.current_release() or history.current(self._records())
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
        for path, target in links.of_host(layout.Layout(paths.RELEASE_ROOT), release).items():
            here = self._at(path)
            if not (here.is_symlink() and str(here.readlink()) == target):
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
                    f" was made without backup_assets. {DEPLOY_FIRST}"
                )
            wanted = python_of(content.decode(errors="replace"))
            if wanted != sys.version_info[:2]:
                raise RestoreError(
                    f"{directory.name} was built for Python {'.'.join(map(str, wanted))}, and this host, of"
                    f" another Debian, has {sys.version_info[0]}.{sys.version_info[1]}."
                    f" {DEPLOY_FIRST}"
                )

    def _require_release(self, release: str, actions: Sequence[Action]) -> None:
        """Refuse to switch to what is neither here nor in the snapshot."""
        coming = {Path(action.path).name for action in actions if action.how == "put"}
        if release not in coming and release not in self._layout.complete():
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
                sealed = sealed_tokens(self.kept(path) or b"", operator_token(self.root))
                if _content(self._at(tokens)) != sealed:
                    yield Action(path, "tokens", f"{path} is not the snapshot's")
            elif Path(path) == paths.HISTORY:
                present = _content(self._at(paths.HISTORY))
                if survey.merged_history(self.kept(path) or b"", present) != present:
                    yield Action(path, "merge", f"{path} lacks records of the snapshot")
            elif Path(path).is_relative_to(paths.STATE):
                sha256 = digest.of_bytes(self.kept(path) or b"")
                here = self._at(path)
                if not here.is_file() or digest.of_file(here) != sha256:
                    yield Action(path, "put", f"{path} is not the snapshot's", sha256, node.size)
            elif Path(path).parent == paths.INCIDENT_STATE and not self._at(path).exists():
                # An older one in the place of a newer would have messages sent again.
                sha256 = digest.of_bytes(self.kept(path) or b"")
                yield Action(path, "add", f"{path} is missing", sha256, node.size)

    def _size(self, path: str) -> int:
        below = f"{path}/"
        return sum(node.size for name, node in self._nodes.items() if name == path or name.startswith(below))


def check_room(actions: Sequence[Action], host: Path) -> None:
    """Refuse what does not fit; the roots that lie on one disk share its room. Raises RestoreError."""
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
                f" {size + _SPARE_BYTES >> 20} MB there, since what is damaged is kept. Make room"
            )


def _rank(path: str) -> tuple[int, str]:
    """Engines and networks before releases, and `current` last."""
    if Path(path).is_relative_to(paths.ASSETS):
        return 0, path
    return (2 if path == str(paths.RELEASE_ROOT / "current") else 1), path


def python_of(pyvenv: str) -> tuple[int, ...]:
    """The version of Python that an environment was made for, by its pyvenv.cfg; () when it does not say."""
    found = re.search(r"^version\s*=\s*(\d+)\.(\d+)", pyvenv, re.M)
    return (int(found[1]), int(found[2])) if found else ()


def operator_token(root: Path) -> str | None:
    """The host's own token, None when it has none."""
    path = contents.below(root, paths.CREDENTIALS / paths.OPERATOR_TOKEN)
    return path.read_text().strip() if path.exists() else None


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def sealed_tokens(kept: bytes, operator: str | None) -> bytes:
    """The snapshot's tokens with this host's own token in the place of the one that was.

    The host's own token is not in a backup; a new host makes a new one. Raises RestoreError.
    """
    # Whatever has no trouble is an object with a list of entries, each with name and sha256.
    if survey.token_trouble(kept, None):
        raise RestoreError(
            "the snapshot's tokens cannot be used. `ansible-playbook playbooks/deploy.yml` writes them anew"
        )
    value = json.loads(kept)
    for entry in value["tokens"]:
        if entry["name"] == "operator" and operator is not None:
            entry["sha256"] = digest.of_text(operator)
    return json.dumps(value, indent=1).encode() + b"\n"
