"""The evidence of one host at one time: its files, and the manifest that is their signed chain.

`manifest.jsonl` is only appended to. Its first line says what is to come, each further one is an item
that was kept, and the last one says what is missing and why. Every line has a link, the sha256 of the
link before it and of its own entry, and the signature of that link. So what was kept until a run was
killed is listed truly, and nothing can be changed, left out, added or put elsewhere without a trace.
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
"""The directory of public keys, beside that of the evidence."""
_BLOCK = 1 << 20


class Evidence:
    """A new directory of evidence, written as it arrives."""

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
        """`directory` is new and empty, `at` the control node's UTC time, `expected` the items to come."""
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
        """Write an item and then list it. `item` has its `name`; None is what was withheld."""
        entry = {**item, "sha256": None, "bytes": None}
        if content is not None:
            _write(self.directory / str(item["name"]), content)
            entry |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        self._append(entry)
        self.items.append(entry)

    def close(self, *, complete: bool, why: str = "") -> None:
        """Say that this is all: what is missing, and why."""
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
                # Half a line would spoil the next one.
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        self._link = link


@dataclass
class Finding:
    """What `verify` found in a directory: what is wrong with it, and what it says of itself."""

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
        """One line: whether it is intact, and what of."""
        what = f"{self.host}, {self.incident}, {self.at}: {self.items} items, {self.withheld} withheld"
        missing = f", {len(self.absent)} absent ({self.why or 'no reason given'})" if self.absent else ""
        verdict = "WRONG" if self.problems else "intact"
        return f"{verdict}  {self.directory}  {what}{missing}; key {self.key[:16]}"


def next_link(before: str, entry: Mapping[str, Any]) -> str:
    """The link of an entry that comes after another link, in hexadecimal; before the first it is empty."""
    return hashlib.sha256(before.encode() + b"\n" + _line(entry)).hexdigest()


def verify(directory: Path, keys: Sequence[Path]) -> Finding:
    """Check a directory byte for byte. `keys`: public keys that may have signed it, or their directories."""
    finding = Finding(directory)
    try:
        lines = (directory / MANIFEST).read_bytes().split(b"\n")
    except OSError as error:
        finding.problems.append(f"{MANIFEST} cannot be read: {error.strerror}")
        return finding
    if lines.pop():
        finding.problems.append(
            f"{MANIFEST} ends within a line: the run was cut short, or its end was cut off"
        )
    entries = []
    for number, line in enumerate(lines, 1):
        parsed = _parsed(line)
        if parsed is None:
            finding.problems.append(f"line {number} of {MANIFEST} is not as it was written")
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
            yield f"line {number} of {MANIFEST} does not follow on the one before it: changed, moved or lost"
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
    finding.why = str((last.get("why") if closed else "the run was cut short") or "")
    if not closed:
        finding.problems.append(
            f"{MANIFEST} has no end: the run was cut short, or its end was removed;"
            f" absent: {', '.join(finding.absent) or 'nothing'}"
        )
    finding.problems += [f"{name} is listed twice" for name in sorted(set(names)) if names.count(name) > 1]
    listed = {name: item for name, item in zip(names, items, strict=True) if item.get("sha256") is not None}
    for name, item in listed.items():
        finding.problems += _item_problems(finding.directory / Path(name).name, item)
    there = {path.name for path in finding.directory.iterdir()}
    finding.problems += [
        f"{name} is not in the manifest" for name in sorted(there - listed.keys() - {MANIFEST})
    ]


def _item_problems(path: Path, item: Mapping[str, Any]) -> Iterator[str]:
    try:
        if path.is_symlink():
            yield f"{path.name} is a link"
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
        yield f"{path.name} was changed: it has {size} bytes, and had {item.get('bytes')}"
    elif digest.hexdigest() != item.get("sha256"):
        yield f"{path.name} was changed: its sha256 is another one"


def _key(name: str, keys: Sequence[Path]) -> Any:
    looked = []
    for path in keys:
        files = sorted(path.glob("*.pem")) if path.is_dir() else [path]
        for file in files:
            key = signing.load_public(file)
            if signing.fingerprint(key) == name:
                return key
            looked.append(str(file))
    where = ", ".join(looked) or ", ".join(str(path) for path in keys) or "no file"
    raise signing.SigningError(
        f"the key {name[:16]} that signed it is not in {where}; name its file with --key"
    )


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line of the manifest; None when it is not, byte for byte, as `_line` writes it."""
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
        # Half an item is none.
        path.unlink()
        raise
