"""The control node's records: the evidence of hosts, and the timeline of an incident."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import collectors

NO_INCIDENT = "no-incident"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class RecordError(Exception):
    """A record cannot be kept; the message says why, as part of a sentence."""


class Records:
    """What is kept of one incident below a directory, readable by its owner alone."""

    def __init__(self, root: Path, incident: str) -> None:
        """`incident` is its id; empty for what belongs to none. Raises RecordError for a bad id."""
        if incident and not _NAME.fullmatch(incident):
            raise RecordError(
                f"the incident's id is {incident!r}; it must be 1 to 64 of A-Z a-z 0-9 . _ -, and begin"
                " with a letter or a digit"
            )
        self._root = root
        self._incident = incident or NO_INCIDENT

    @property
    def timeline(self) -> Path:
        """The incident's events, one JSON line each, only appended."""
        return self._root / "incidents" / self._incident / "timeline.jsonl"

    def keep_evidence(
        self, host: str, at: str, items: Sequence[collectors.Item]
    ) -> tuple[Path, dict[str, Any]]:
        """Write the items of a host and their manifest into a new directory; return both.

        `at`: the host's UTC time. The manifest is written last: evidence without it was cut short.
        """
        directory = self._new_directory(self._root / "evidence" / self._incident / host, at.replace(":", ""))
        listed = []
        for item in items:
            _write(directory / item.name, item.content)
            sha256 = hashlib.sha256(item.content).hexdigest()
            listed.append(collectors.manifest_entry(item, sha256, len(item.content)))
        manifest = {"host": host, "incident": self._incident, "at": at, "items": listed}
        _write(directory / "manifest.json", json.dumps(manifest, indent=1).encode() + b"\n")
        return directory, manifest

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Append an event to the timeline durably."""
        self.timeline.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.timeline, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps(event).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _new_directory(self, parent: Path, name: str) -> Path:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for number in range(1, 1000):
            directory = parent / (name if number == 1 else f"{name}-{number}")
            try:
                directory.mkdir(mode=0o700)
            except FileExistsError:
                continue
            return directory
        raise RecordError(f"{parent / name} was made a thousand times over")


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
