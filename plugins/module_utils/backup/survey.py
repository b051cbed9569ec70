"""What is damaged on a host: releases, what they stand on, links, credentials, history and state.

The same survey judges a host and a backup of it that was restored below a directory.
"""

from __future__ import annotations

import difflib
import json
import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup.contents import below, state_files
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import Known
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, shape
from ansible_collections.katago.fleet.plugins.module_utils.release import history as release_history
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.release import links as release_links
from ansible_collections.katago.fleet.plugins.module_utils.service import credentials

KINDS = {"engines": "engine", "networks": "network", "tuning": "tuning"}

Condition = Literal["whole", "damaged", "missing", "added", "unknown"]
# A file's content in the snapshot, None when it is not there.
Reference = Callable[[str], bytes | None]

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Finding:
    """What was seen of one thing.

    `path`: where it is on a host, whatever directory the survey looked below. `expected`: what a
    right one has as its entry of `digest.of_tree`, or its digest when it is a directory; empty when
    that is not known, or when nothing should be there.
    """

    item: str
    path: str
    condition: Condition
    words: str
    expected: str = ""

    def __str__(self) -> str:
        return f"{self.item}: {self.words}"


def nothing(_path: str) -> bytes | None:
    """The reference of a survey that has no snapshot."""
    return None


@dataclass(frozen=True)
class Survey:
    """A look at a host, or at one restored below `root`.

    `reference` is asked for what is no longer readable here. Without `assets` engines, networks
    and environments are left out, as a backup without them does.
    """

    root: Path
    reference: Reference = nothing
    assets: bool = True
    known: Known | None = None

    def layout(self) -> release_layout.Layout:
        """The releases below the root."""
        return release_layout.Layout(self.at(paths.RELEASE_ROOT))

    def at(self, path: str | Path) -> Path:
        """Where something of the host lies."""
        return below(self.root, path)

    def findings(self, names: Sequence[str]) -> list[Finding]:
        """Everything that was found of the releases `names` and of the host's state."""
        found = [*self.links(), *self.tokens(), *self.certificate(), *self.history(), *self.state()]
        for name in names:
            found += self.release(name)
        return list(dict.fromkeys(found))

    def release(self, name: str) -> Iterator[Finding]:
        """A release, compared with its manifest, and all that it stands on."""
        directory = paths.RELEASE_ROOT / "releases" / name
        here = self.at(directory)
        path = directory / release_layout.MANIFEST
        if not here.is_dir():
            yield Finding("release", str(directory), "missing", f"{directory} is missing")
            lost = _manifest(self.reference(str(path)))
            yield from self._all_needed(lost["stands_on"] if lost else {})
            return
        manifest = release_layout.own_manifest(here)
        trusted = manifest is not None
        if manifest is None:
            kept = self.reference(str(path))
            manifest = _manifest(kept)
            if manifest is None or not release_layout.fits_name(manifest):
                words = f"{path} cannot be used, and the release without it cannot be judged"
                yield Finding("release", str(directory), "damaged", words)
                return
            yield Finding("release", str(path), "damaged", f"{path} was changed", digest.of_text(_text(kept)))
        expected = manifest["files"]
        if self.assets:
            actual = digest.of_tree(here, skip=frozenset({release_layout.MANIFEST}))
        else:
            expected = {name: value for name, value in expected.items() if "/" not in name}
            actual = {name: digest.of_file(here / name) for name in expected if (here / name).is_file()}
        differing = list(_differing("release", directory, expected, actual))
        yield from differing
        if trusted and not differing:
            yield Finding("release", str(directory), "whole", f"{directory} is what was built")
        yield from self._all_needed(manifest["stands_on"])

    def links(self) -> Iterator[Finding]:
        """The symlinks of a switched host; where `current` leads to nothing, the history tells."""
        layout = self.layout()
        name = layout.current_release() or self.recorded_release()
        if name is None:
            yield Finding(
                "links", str(paths.RELEASE_ROOT / "current"), "missing", "no release is the current one"
            )
            return
        whole = True
        for path, target in release_links.of_host(release_layout.Layout(paths.RELEASE_ROOT), name).items():
            here = self.at(path)
            if here.is_symlink() and str(here.readlink()) == target:
                continue
            whole = False
            condition: Condition = "damaged" if here.is_symlink() or here.exists() else "missing"
            words = f"{path} is {'missing' if condition == 'missing' else 'no link to ' + target}"
            yield Finding("links", str(path), condition, words, f"link:{target}")
        if whole:
            yield Finding("links", str(paths.RELEASE_ROOT / "current"), "whole", f"all lead to {name}")

    def recorded_release(self) -> str | None:
        """The release of the newest switch that the history has."""
        return release_history.current(release_history.read(self.at(paths.HISTORY)))

    def tokens(self) -> Iterator[Finding]:
        """The hashed tokens, which unit and configuration say whether the service needs."""
        path = paths.CREDENTIALS / paths.TOKENS
        here = self.at(path)
        if not here.exists():
            if self._is_handed_over(paths.TOKENS, path) or self._is_read(path):
                yield Finding("tokens", str(path), "missing", f"{path} is missing")
            return
        operator = self.at(paths.CREDENTIALS / paths.OPERATOR_TOKEN)
        trouble = token_trouble(here.read_bytes(), operator.read_text() if operator.exists() else None)
        if trouble:
            yield Finding("tokens", str(path), "damaged", f"{path} {trouble}")
        else:
            yield Finding("tokens", str(path), "whole", f"{path} can be used")

    def certificate(self) -> Iterator[Finding]:
        """The certificate and its key, which are judged, and mended, as the pair they are."""
        pair = (paths.PINNED_CERTIFICATE, paths.CREDENTIALS / paths.KEY)
        if not self._is_handed_over(paths.KEY, pair[1]):
            return
        missing = [path for path in pair if not self.at(path).exists()]
        trouble = "" if missing else pair_trouble(*(self.at(path) for path in pair))
        if not missing and not trouble:
            yield Finding("certificate", str(pair[0]), "whole", f"{pair[0]} and its key belong together")
            return
        for path in pair:
            kept = self.reference(str(path))
            condition: Condition = "missing" if path in missing else "damaged"
            words = "is missing" if path in missing else trouble or "may not belong to what is put back"
            expected = "" if kept is None else digest.of_bytes(kept)
            yield Finding("certificate", str(path), condition, f"{path} {words}", expected)

    def _is_handed_over(self, name: str, path: Path) -> bool:
        """Whether the unit has systemd hand over a credential; on a bare host the backup tells."""
        unit = self.layout().current / paths.SERVICE_UNIT
        if not unit.is_file():
            return self.reference(str(path)) is not None
        return f"LoadCredential={name}:" in unit.read_text(errors="replace")

    def _is_read(self, path: Path) -> bool:
        """Whether the configuration has the server read a file of tokens by itself."""
        config = self.layout().current / "config.json"
        return config.is_file() and credentials.tokens_file(_object(config.read_bytes()) or {}) == path

    def history(self) -> Iterator[Finding]:
        """The history: every line a record, and what was backed up still its beginning."""
        path = str(paths.HISTORY)
        here = self.at(path)
        if not here.exists():
            yield Finding("history", path, "missing", f"{path} is missing")
            return
        content = here.read_bytes()
        kept = self.reference(path)
        bad = [number for number, line in enumerate(_lines(content), 1) if not is_record(line)]
        words = ""
        if bad:
            words = f"line {bad[0]} is no record"
        elif kept is not None and not content.startswith(kept) and _same_file(kept, content):
            words = "what was backed up is no longer its beginning"
        elif self.known and digest.of_bytes(content[: self.known.size]) != self.known.sha256:
            words = "what the last good backup held is no longer its beginning"
        if words:
            yield Finding("history", path, "damaged", f"{path}: {words}")
        else:
            yield Finding("history", path, "whole", f"{path} has {len(_lines(content))} records")

    def state(self) -> Iterator[Finding]:
        """Every other file of the state; what is JSON by its name must be JSON."""
        for path in state_files(self.at(paths.STATE)):
            name = str(paths.STATE / path.relative_to(self.at(paths.STATE)))
            if trouble := json_trouble(path):
                yield Finding("state", name, "damaged", f"{name} {trouble}")

    def _all_needed(self, stands_on: Mapping[str, str]) -> Iterator[Finding]:
        for path, sha256 in sorted(stands_on.items()):
            yield from self._needed(Path(path), sha256)

    def _needed(self, path: Path, sha256: str) -> Iterator[Finding]:
        item = KINDS.get(path.parts[3], "release") if path.is_relative_to(paths.ASSETS) else "release"
        if item != "tuning" and not self.assets:
            return
        here = self.at(path)
        if not here.exists():
            yield Finding(item, str(path), "missing", f"{path} is missing", sha256)
            return
        if here.is_file():
            if digest.of_file(here) == sha256:
                yield Finding(item, str(path), "whole", f"{path} has its sha256")
            else:
                yield Finding(item, str(path), "damaged", f"{path} was changed", sha256)
            return
        record, trusted = self._record(path, sha256)
        if record is None:
            yield Finding(item, str(path), "damaged", f"{path} was changed", sha256)
            return
        differing = list(
            _differing(item, path, record, digest.of_tree(here, skip=frozenset({digest.RECORD})))
        )
        if not trusted:
            name = path / digest.RECORD
            differing.append(
                Finding(
                    item, str(name), "damaged", f"{name} was changed", digest.of_text(_record_text(record))
                )
            )
        yield from differing or [Finding(item, str(path), "whole", f"{path} has its sha256")]

    def _record(self, directory: Path, sha256: str) -> tuple[dict[str, str] | None, bool]:
        """The record of a directory's files, and whether it is the one that lies there."""
        here = self.at(directory / digest.RECORD)
        for content, trusted in (
            (here.read_bytes() if here.is_file() else None, True),
            (self.reference(str(directory / digest.RECORD)), False),
        ):
            record = _object(content)
            if record is not None and digest.of_json(record) == sha256:
                return record, trusted
        return None, False


def damaged(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that call for something to be done."""
    return [finding for finding in findings if finding.condition != "whole"]


def json_trouble(path: Path) -> str:
    """Why a file that is JSON or JSON lines by its name is not; empty when it is."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".jsonl":
            for line in _lines(path.read_bytes()):
                json.loads(line)
    except ValueError as error:
        return f"is no JSON ({error})"
    return ""


def token_trouble(content: bytes, operator: str | None) -> str:
    """Why a tokens.json cannot be used; empty when it can. Tells nothing of its content."""
    value = _object(content)
    entries = value.get("tokens") if value else None
    if not isinstance(entries, list) or not entries:
        return "holds no tokens"
    for entry in entries:
        if not (
            isinstance(entry, dict)
            and isinstance(entry.get("name"), str)
            and isinstance(entry.get("scopes"), list)
            and _SHA256.fullmatch(str(entry.get("sha256")))
        ):
            return "has an entry without name, scopes and sha256"
    if operator is not None:
        own = {entry["sha256"] for entry in entries}
        if digest.of_text(operator.strip()) not in own:
            return "does not know the host's own token"
    return ""


def pair_trouble(certificate: Path, key: Path) -> str:
    """Why a certificate and a key cannot be served with; empty when they can. Tells nothing of the key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty password, since a key with one would be asked for at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError):
        return "cannot be served with: the certificate and its key are damaged, or not of each other"
    return ""


def is_record(line: bytes) -> bool:
    """Whether a line is one of the history's; what a later version adds to one is no trouble."""
    try:
        release_history.parse(line)
    except shape.ShapeError:
        return False
    return True


def merged_history(kept: bytes, present: bytes) -> bytes:
    """The history of a backup with all that was recorded since: nothing that can be read is lost.

    A present line that stands in the place of a kept one is a damaged copy of it. Histories
    without a common line are those of two hosts and follow each other.
    """
    ours, theirs = _lines(kept), _lines(present)
    if not _same_file(kept, present):
        return _joined([*ours, *(line for line in theirs if is_record(line))])
    lines: list[bytes] = []
    matcher = difflib.SequenceMatcher(None, ours, theirs, autojunk=False)
    for _, ours_from, ours_to, theirs_from, theirs_to in matcher.get_opcodes():
        lines += ours[ours_from:ours_to]
        if ours[ours_from:ours_to] != theirs[theirs_from:theirs_to]:
            added = theirs[min(theirs_to, theirs_from + ours_to - ours_from) : theirs_to]
            lines += [line for line in added if is_record(line)]
    return _joined(lines)


def _same_file(one: bytes, other: bytes) -> bool:
    return not one or not other or bool(set(_lines(one)) & set(_lines(other)))


def _lines(content: bytes) -> list[bytes]:
    return [line for line in content.split(b"\n") if line]


def _joined(lines: Sequence[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _differing(
    item: str, directory: Path, expected: Mapping[str, str], actual: Mapping[str, str]
) -> Iterator[Finding]:
    for name in sorted(expected.keys() | actual.keys()):
        path = str(directory / name)
        if name not in actual:
            yield Finding(item, path, "missing", f"{path} is missing", expected[name])
        elif name not in expected:
            yield Finding(item, path, "added", f"{path} was added")
        elif actual[name] != expected[name]:
            yield Finding(item, path, "damaged", f"{path} was changed", expected[name])


def _manifest(content: bytes | None) -> release_layout.Manifest | None:
    """The manifest that a snapshot has; None when it has none that can be used."""
    try:
        return None if content is None else release_layout.parse(content)
    except shape.ShapeError:
        return None


def _object(content: bytes | None) -> dict[str, Any] | None:
    try:
        value = json.loads(content or b"")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _text(content: bytes | None) -> str:
    return (content or b"").decode(errors="replace")


def _record_text(record: Mapping[str, str]) -> str:
    return json.dumps(record, indent=1)
