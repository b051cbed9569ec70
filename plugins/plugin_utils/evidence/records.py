"""The control node's records: the evidence of hosts, and the timeline of an incident."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import files
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import bundle, signing

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

    @property
    def keys(self) -> Path:
        """The public keys by which evidence can be checked."""
        return self._root / bundle.KEYS

    def begin_evidence(
        self, host: str, at: str, expected: Sequence[str], signer: signing.Signer
    ) -> bundle.Evidence:
        """A new directory for the evidence of a host. `at`: the control node's UTC time."""
        _make_private(self.keys)
        signer.publish(self.keys)
        directory = self._new_directory(self._root / "evidence" / self._incident / host, at.replace(":", ""))
        return bundle.Evidence(
            directory, signer, host=host, incident=self._incident, at=at, expected=expected
        )

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Append an event to the timeline durably, whole or not at all. Raises OSError."""
        _make_private(self.timeline.parent)
        files.append(self.timeline, json.dumps(event).encode() + b"\n", mode=0o600)

    def _new_directory(self, parent: Path, name: str) -> Path:
        _make_private(parent)
        for number in range(1, 1000):
            directory = parent / (name if number == 1 else f"{name}-{number}")
            try:
                directory.mkdir(mode=0o700)
            except FileExistsError:
                continue
            return directory
        raise RecordError(f"{parent / name} was made a thousand times over")


def add_event(root: Path, incident: str, event: Mapping[str, Any]) -> str:
    """Append an event to a timeline; return why that was not possible, or an empty text."""
    try:
        Records(root, incident).add_event(event)
    except (RecordError, OSError) as error:
        return str(error)
    return ""


def _make_private(directory: Path) -> None:
    """Make a directory, and those above it that are missing, for their owner alone."""
    for path in (*reversed(directory.parents), directory):
        path.mkdir(exist_ok=True, mode=0o700)
