"""Writes and verifies the evidence of one host at one time: its files, and their signed manifest.

`manifest.jsonl` is append-only. The first line lists the expected items, each further line describes one
stored item, and the last line lists the missing items and the reason. Every line has a link, the sha256 of
the previous link and of the line's own entry, and the signature of that link. So the manifest of a killed
run is correct up to its last line, and every later change, removal, addition or move is detected.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import signing

MANIFEST = "manifest.jsonl"
FORMAT = 1
KEYS = "evidence-keys"
"""The directory of public keys, next to the evidence directory."""
_BLOCK = 1 << 20


class Evidence:
    """A new directory of evidence. Items are written as they arrive."""

    def __init__(
        self,
        directory: Path,
        signer: signing.Signer,
        *,
        host: str,
        incident: str,
        at: str,
        expected: Sequence[str],
    ) -> None:
        """`directory`: new and empty. `at`: the control node's UTC time. `expected`: the expected items."""
        self.directory = directory
        self._signer = signer
        self._link = ""
        self._expected = list(expected)
        self.items: list[dict[str, Any]] = []
        self._append(
            {
                "format": FORMAT,
                "host": host,
                "incident": incident,
                "at": at,
                "key": signing.fingerprint(signer.public),
                "expected": self._expected,
            }
        )

    def keep(self, item: Mapping[str, Any], content: bytes | None) -> None:
        """Write an item, then list it in the manifest. `item` has its `name`. None: it was withheld."""
        entry = {**item, "sha256": None, "bytes": None}
        if content is not None:
            _write(self.directory / str(item["name"]), content)
            entry |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        self._append(entry)
        self.items.append(entry)

    def close(self, *, complete: bool, why: str = "") -> None:
        """Write the last line of the manifest: the missing items, and the reason."""
        listed = {item["name"] for item in self.items}
        absent = [name for name in self._expected if name not in listed]
        self._append({"complete": complete and not absent, "why": why or None, "absent": absent})

    def _append(self, entry: Mapping[str, Any]) -> None:
        link = next_link(self._link, entry)
        line = _line({"entry": entry, "link": link, "signature": self._signer.sign(link.encode())})
        descriptor = os.open(self.directory / MANIFEST, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            except OSError:
                # Remove the partial line, because it would damage the next one.
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        self._link = link


@dataclass
class Finding:
    """The result of `verify` for a directory: its problems, and the data in its manifest."""

    directory: Path
    problems: list[str] = field(default_factory=list)
    host: str = "?"
    incident: str = "?"
    at: str = "?"
    key: str = "?"
    items: int = 0
    withheld: int = 0
    absent: list[str] = field(default_factory=list)
    why: str = ""

    @property
    def summary(self) -> str:
        """One line: whether the evidence is intact, and which evidence it is."""
        what = f"{self.host}, {self.incident}, {self.at}: {self.items} items, {self.withheld} withheld"
        missing = f", {len(self.absent)} missing ({self.why or 'no reason given'})" if self.absent else ""
        verdict = "FAILED" if self.problems else "intact"
        return f"{verdict}  {self.directory}  {what}{missing}; key {self.key[:16]}"


def next_link(previous: str, entry: Mapping[str, Any]) -> str:
    """The link of an entry, in hexadecimal. `previous`: the previous link; empty for the first entry."""
    return hashlib.sha256(previous.encode() + b"\n" + _line(entry)).hexdigest()


def verify(directory: Path, keys: Sequence[Path]) -> Finding:
    """Verify every byte of a directory. `keys`: accepted public keys, or directories of them."""
    finding = Finding(directory)
    try:
        lines = (directory / MANIFEST).read_bytes().split(b"\n")
    except OSError as error:
        finding.problems.append(f"{MANIFEST} cannot be read: {error.strerror}")
        return finding
    if lines.pop():
        finding.problems.append(
            f"{MANIFEST} ends in the middle of a line: the run was interrupted, or the file was truncated"
        )
    entries = []
    for number, line in enumerate(lines, 1):
        parsed = _parse(line)
        if parsed is None:
            finding.problems.append(f"line {number} of {MANIFEST} was changed")
            return finding
        entries.append(parsed)
    if not entries:
        finding.problems.append(f"{MANIFEST} is empty")
        return finding
    finding.problems += _chain_problems(entries, finding, keys)
    _inspect([each["entry"] for each in entries], finding)
    return finding


def _chain_problems(
    entries: Sequence[Mapping[str, Any]], finding: Finding, keys: Sequence[Path]
) -> Iterator[str]:
    header = entries[0]["entry"]
    finding.key = str(header.get("key"))
    try:
        public = _key(finding.key, keys)
    except (signing.SigningError, OSError) as error:
        yield str(error)
        return
    link = ""
    for number, each in enumerate(entries, 1):
        link = next_link(link, each["entry"])
        if each["link"] != link:
            yield (
                f"line {number} of {MANIFEST} does not match the previous line:"
                " a line was changed, moved or removed"
            )
            return
        if not signing.is_signed(public, link.encode(), str(each["signature"])):
            yield f"line {number} of {MANIFEST} is not signed by the key {finding.key[:16]}"
            return


def _inspect(entries: Sequence[Mapping[str, Any]], finding: Finding) -> None:
    header, last = entries[0], entries[-1]
    finding.host, finding.incident, finding.at = (str(header.get(key)) for key in ("host", "incident", "at"))
    closed = len(entries) > 1 and "complete" in last
    items = entries[1 : -1 if closed else None]
    names = [str(item.get("name")) for item in items]
    finding.items, finding.withheld = len(items), sum(item.get("sha256") is None for item in items)
    expected = header.get("expected")
    finding.absent = [name for name in expected if name not in names] if isinstance(expected, list) else []
    finding.why = str((last.get("why") if closed else "the run was interrupted") or "")
    if not closed:
        finding.problems.append(
            f"{MANIFEST} has no last line: the run was interrupted, or the line was removed;"
            f" missing items: {', '.join(finding.absent) or 'none'}"
        )
    finding.problems += [f"{name} is listed twice" for name in sorted(set(names)) if names.count(name) > 1]
    listed = {name: item for name, item in zip(names, items, strict=True) if item.get("sha256") is not None}
    for name, item in listed.items():
        finding.problems += _item_problems(finding.directory / Path(name).name, item)
    files = {path.name for path in finding.directory.iterdir()}
    finding.problems += [
        f"{name} is not in the manifest" for name in sorted(files - listed.keys() - {MANIFEST})
    ]


def _item_problems(path: Path, item: Mapping[str, Any]) -> Iterator[str]:
    try:
        if path.is_symlink():
            yield f"{path.name} is a symlink"
            return
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
    except FileNotFoundError:
        yield f"{path.name} is missing"
        return
    except OSError as error:
        yield f"{path.name} cannot be read: {error.strerror}"
        return
    if size != item.get("bytes"):
        yield f"{path.name} was changed: it has {size} bytes instead of {item.get('bytes')}"
    elif digest.hexdigest() != item.get("sha256"):
        yield f"{path.name} was changed: its sha256 does not match"


def _key(name: str, keys: Sequence[Path]) -> Any:
    searched = []
    for path in keys:
        files = sorted(path.glob("*.pem")) if path.is_dir() else [path]
        for file in files:
            key = signing.load_public(file)
            if signing.fingerprint(key) == name:
                return key
            searched.append(str(file))
    where = ", ".join(searched) or ", ".join(str(path) for path in keys) or "any file"
    raise signing.SigningError(
        f"the signing key {name[:16]} was not found in {where}. Pass its public key file with --key"
    )


def _parse(line: bytes) -> dict[str, Any] | None:
    """Parse a line of the manifest; None if it is not exactly what `_line` writes."""
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    if not isinstance(parsed, dict) or parsed.keys() != {"entry", "link", "signature"}:
        return None
    if not isinstance(parsed["entry"], dict) or _line(parsed) != line + b"\n":
        return None
    return parsed


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        # Do not leave a partial item.
        path.unlink()
        raise
