"""Finds damage on a host: in releases, their assets, links, credentials, history and state.

The same survey checks a host and a backup that was restored into a directory.
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
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import HistoryDigest
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, shape
from ansible_collections.katago.fleet.plugins.module_utils.release import history as release_history
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.release import links as release_links
from ansible_collections.katago.fleet.plugins.module_utils.service import credentials

KINDS = {"engines": "engine", "networks": "network", "tuning": "tuning"}

Condition = Literal["whole", "damaged", "missing", "added", "unknown"]
# Returns a file's content in the snapshot; None if the snapshot does not have the file.
Reference = Callable[[str], bytes | None]

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Finding:
    """The condition of one path.

    `path`: its place on a host, whatever `root` the survey used. `message`: a description for people.
    `expected`: the entry that `digest.of_tree` gives for the correct file, or the digest of the correct
    directory; empty if it is not known, or if nothing should be there.
    """

    item: str
    path: str
    condition: Condition
    message: str
    expected: str = ""

    def __str__(self) -> str:
        return f"{self.item}: {self.message}"


def no_reference(_path: str) -> bytes | None:
    """The reference of a survey without a snapshot."""
    return None


@dataclass(frozen=True)
class Survey:
    """Checks a host whose files are below `root`.

    `reference`: gives the content of files that are missing or damaged here. `assets`: whether to check
    engines, networks and Python environments; false for a backup without them. `last_history`: the history
    at the last verified backup.
    """

    root: Path
    reference: Reference = no_reference
    assets: bool = True
    last_history: HistoryDigest | None = None

    def layout(self) -> release_layout.Layout:
        """The releases below the root."""
        return release_layout.Layout(self.at(paths.RELEASE_ROOT))

    def at(self, path: str | Path) -> Path:
        """The location of a path of the host."""
        return below(self.root, path)

    def findings(self, names: Sequence[str]) -> list[Finding]:
        """Check the releases `names` and the host's state."""
        findings = [*self.links(), *self.tokens(), *self.certificate(), *self.history(), *self.state()]
        for name in names:
            findings += self.release(name)
        return list(dict.fromkeys(findings))

    def release(self, name: str) -> Iterator[Finding]:
        """Compare a release with its manifest, and check every asset that it depends on."""
        directory = paths.RELEASE_ROOT / "releases" / name
        here = self.at(directory)
        path = directory / release_layout.MANIFEST
        if not here.is_dir():
            yield Finding("release", str(directory), "missing", f"{directory} is missing")
            backed_up = _manifest(self.reference(str(path)))
            yield from self._check_dependencies(backed_up["stands_on"] if backed_up else {})
            return
        manifest = release_layout.own_manifest(here)
        trusted = manifest is not None
        if manifest is None:
            content = self.reference(str(path))
            manifest = _manifest(content)
            if manifest is None or not release_layout.fits_name(manifest):
                message = f"{path} is not valid, and the release cannot be checked without it"
                yield Finding("release", str(directory), "damaged", message)
                return
            expected_manifest = digest.of_text(_text(content))
            yield Finding("release", str(path), "damaged", f"{path} was changed", expected_manifest)
        expected = manifest["files"]
        if self.assets:
            actual = digest.of_tree(here, skip=frozenset({release_layout.MANIFEST}))
        else:
            expected = {name: value for name, value in expected.items() if "/" not in name}
            actual = {name: digest.of_file(here / name) for name in expected if (here / name).is_file()}
        differing = list(_differing("release", directory, expected, actual))
        yield from differing
        if trusted and not differing:
            yield Finding("release", str(directory), "whole", f"{directory} matches its manifest")
        yield from self._check_dependencies(manifest["stands_on"])

    def links(self) -> Iterator[Finding]:
        """Check the links to the current release. If `current` is broken, the history names the release."""
        layout = self.layout()
        name = layout.current_release() or self.recorded_release()
        if name is None:
            yield Finding(
                "links", str(paths.RELEASE_ROOT / "current"), "missing", "this host has no current release"
            )
            return
        whole = True
        for path, target in release_links.of_host(release_layout.Layout(paths.RELEASE_ROOT), name).items():
            here = self.at(path)
            if here.is_symlink() and str(here.readlink()) == target:
                continue
            whole = False
            condition: Condition = "damaged" if here.is_symlink() or here.exists() else "missing"
            problem = "missing" if condition == "missing" else f"not a link to {target}"
            yield Finding("links", str(path), condition, f"{path} is {problem}", f"link:{target}")
        if whole:
            yield Finding("links", str(paths.RELEASE_ROOT / "current"), "whole", f"all point to {name}")

    def recorded_release(self) -> str | None:
        """The release of the newest switch in the history."""
        return release_history.current(release_history.read(self.at(paths.HISTORY)))

    def tokens(self) -> Iterator[Finding]:
        """Check the hashed tokens, if the unit or the configuration uses them."""
        path = paths.CREDENTIALS / paths.TOKENS
        here = self.at(path)
        if not here.exists():
            if self._is_passed_by_systemd(paths.TOKENS, path) or self._reads_tokens_file(path):
                yield Finding("tokens", str(path), "missing", f"{path} is missing")
            return
        operator = self.at(paths.CREDENTIALS / paths.OPERATOR_TOKEN)
        problem = token_problem(here.read_bytes(), operator.read_text() if operator.exists() else None)
        if problem:
            yield Finding("tokens", str(path), "damaged", f"{path} {problem}")
        else:
            yield Finding("tokens", str(path), "whole", f"{path} is valid")

    def certificate(self) -> Iterator[Finding]:
        """Check the certificate and its key. They are checked and restored as a pair."""
        pair = (paths.PINNED_CERTIFICATE, paths.CREDENTIALS / paths.KEY)
        if not self._is_passed_by_systemd(paths.KEY, pair[1]):
            return
        missing = [path for path in pair if not self.at(path).exists()]
        problem = "" if missing else certificate_problem(*(self.at(path) for path in pair))
        if not missing and not problem:
            yield Finding("certificate", str(pair[0]), "whole", f"{pair[0]} matches its key")
            return
        for path in pair:
            backed_up = self.reference(str(path))
            condition: Condition = "missing" if path in missing else "damaged"
            message = "is missing" if path in missing else problem or "may not match the restored counterpart"
            expected = "" if backed_up is None else digest.of_bytes(backed_up)
            yield Finding("certificate", str(path), condition, f"{path} {message}", expected)

    def _is_passed_by_systemd(self, name: str, path: Path) -> bool:
        """Whether systemd passes this credential to the service; on a bare host, whether a backup has it."""
        unit = self.layout().current / paths.SERVICE_UNIT
        if not unit.is_file():
            return self.reference(str(path)) is not None
        return f"LoadCredential={name}:" in unit.read_text(errors="replace")

    def _reads_tokens_file(self, path: Path) -> bool:
        """Whether the configuration names this file as the server's tokens file."""
        config = self.layout().current / "config.json"
        return config.is_file() and credentials.tokens_file(_object(config.read_bytes()) or {}) == path

    def history(self) -> Iterator[Finding]:
        """Check the history: every line is a record, and it still starts with the backed-up records."""
        path = str(paths.HISTORY)
        here = self.at(path)
        if not here.exists():
            yield Finding("history", path, "missing", f"{path} is missing")
            return
        content = here.read_bytes()
        backed_up = self.reference(path)
        bad = [number for number, line in enumerate(_lines(content), 1) if not is_record(line)]
        last = self.last_history
        problem = ""
        if bad:
            problem = f"line {bad[0]} is not a record"
        elif backed_up is not None and not content.startswith(backed_up) and _same_file(backed_up, content):
            problem = "it no longer starts with the records of the snapshot"
        elif last and digest.of_bytes(content[: last.size]) != last.sha256:
            problem = "it no longer starts with the records of the last verified backup"
        if problem:
            yield Finding("history", path, "damaged", f"{path}: {problem}")
        else:
            yield Finding("history", path, "whole", f"{path} has {len(_lines(content))} records")

    def state(self) -> Iterator[Finding]:
        """Check every other state file: a file named as JSON must be valid JSON."""
        for path in state_files(self.at(paths.STATE)):
            name = str(paths.STATE / path.relative_to(self.at(paths.STATE)))
            if problem := json_problem(path):
                yield Finding("state", name, "damaged", f"{name} {problem}")

    def _check_dependencies(self, stands_on: Mapping[str, str]) -> Iterator[Finding]:
        for path, sha256 in sorted(stands_on.items()):
            yield from self._check_dependency(Path(path), sha256)

    def _check_dependency(self, path: Path, sha256: str) -> Iterator[Finding]:
        item = KINDS.get(path.parts[3], "release") if path.is_relative_to(paths.ASSETS) else "release"
        if item != "tuning" and not self.assets:
            return
        here = self.at(path)
        if not here.exists():
            yield Finding(item, str(path), "missing", f"{path} is missing", sha256)
            return
        if here.is_file():
            if digest.of_file(here) == sha256:
                yield Finding(item, str(path), "whole", f"{path} matches its sha256")
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
        yield from differing or [Finding(item, str(path), "whole", f"{path} matches its sha256")]

    def _record(self, directory: Path, sha256: str) -> tuple[dict[str, str] | None, bool]:
        """The checksum record of a directory, and whether it comes from the directory itself."""
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
    """The findings that are not `whole`."""
    return [finding for finding in findings if finding.condition != "whole"]


def json_problem(path: Path) -> str:
    """Why a .json or .jsonl file is not valid; empty if it is valid."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".jsonl":
            for line in _lines(path.read_bytes()):
                json.loads(line)
    except ValueError as error:
        return f"is not valid JSON ({error})"
    return ""


def token_problem(content: bytes, operator: str | None) -> str:
    """Why a tokens.json is not valid; empty if it is. The text contains nothing of the file."""
    value = _object(content)
    entries = value.get("tokens") if value else None
    if not isinstance(entries, list) or not entries:
        return "contains no tokens"
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
            return "does not contain the host's operator token"
    return ""


def certificate_problem(certificate: Path, key: Path) -> str:
    """Why a certificate and its key cannot be used; empty if they can. Contains nothing of the key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # With no password given, OpenSSL would ask for an encrypted key's password at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError):
        return "cannot be used: the certificate or its key is damaged, or they do not match"
    return ""


def is_record(line: bytes) -> bool:
    """Whether a line is a history record. Fields that a later version adds are accepted."""
    try:
        release_history.parse(line)
    except shape.ShapeError:
        return False
    return True


def merged_history(backed_up: bytes, present: bytes) -> bytes:
    """Merge the backed-up history with the present one. No readable record is lost.

    A present line in the place of a backed-up line is a damaged copy of it and is dropped. Histories without
    a common line belong to two hosts; the present one is appended.
    """
    ours, theirs = _lines(backed_up), _lines(present)
    if not _same_file(backed_up, present):
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
    """Parse a manifest from a snapshot; None if it is missing or not valid."""
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
