"""Stores records on the control node: the evidence of hosts, and the timeline of an incident."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import directories, files
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import bundle, signing

NO_INCIDENT = "no-incident"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class RecordError(Exception):
    """A record cannot be stored. The message says why, as part of a sentence."""


class Records:
    """The records of one incident, in a directory that only its owner can read."""

    def __init__(self, root: Path, incident: str) -> None:
        """`incident`: its id; empty for records without an incident. Raises RecordError for a bad id."""
        if incident and not _NAME.fullmatch(incident):
            raise RecordError(
                f"the incident's id is {incident!r}, which is not valid. Use 1 to 64 of the characters"
                " A-Z a-z 0-9 . _ - and start with a letter or a digit"
            )
        self._root = root
        self._incident = incident or NO_INCIDENT

    @property
    def timeline(self) -> Path:
        """The file with the incident's events, one JSON object a line. It is append-only."""
        return self._root / "incidents" / self._incident / "timeline.jsonl"

    @property
    def keys(self) -> Path:
        """The directory of the public keys that verify evidence."""
        return self._root / bundle.KEYS

    def begin_evidence(
        self, host: str, at: str, expected: Sequence[str], signer: signing.Signer
    ) -> bundle.Evidence:
        """Create a directory for the evidence of a host. `at`: the control node's UTC time."""
        directories.make(self.keys, mode=directories.PRIVATE)
        signer.publish(self.keys)
        directory = self._new_directory(self._root / "evidence" / self._incident / host, at.replace(":", ""))
        return bundle.Evidence(
            directory, signer, host=host, incident=self._incident, at=at, expected=expected
        )

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Append an event to the timeline, durably and atomically. Raises OSError."""
        directories.make(self.timeline.parent, mode=directories.PRIVATE)
        files.append(self.timeline, json.dumps(event).encode() + b"\n", mode=0o600)

    def _new_directory(self, parent: Path, name: str) -> Path:
        for number in range(1, 1000):
            directory = parent / (name if number == 1 else f"{name}-{number}")
            if directories.make(directory, mode=directories.PRIVATE):
                return directory
        raise RecordError(
            f"no directory for new evidence is left: {parent / name} and its suffixes -2 to -999 exist."
            " Move the old directories away"
        )


def add_event(root: Path, incident: str, event: Mapping[str, Any]) -> str:
    """Append an event to a timeline. Returns an empty text, or the reason if that failed."""
    try:
        Records(root, incident).add_event(event)
    except (RecordError, OSError) as error:
        return str(error)
    return ""
