"""Stores incidents on the control node: a directory for each, with its state in one file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import directories, file_lock, files
from ansible_collections.katago.fleet.plugins.module_utils.incident import state as incident_state
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records

STATE = "state.jsonl"


class IncidentRecords:
    """All incidents in a records directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._directory = root / "incidents"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock for planning and appending."""
        directories.make(self._directory, mode=directories.PRIVATE)
        with file_lock.locked(self._directory / ".lock"):
            yield

    @contextmanager
    def sending(self, incident: str) -> Iterator[None]:
        """Hold the lock for sending an incident's messages. Unfinished attempts are then of killed runs."""
        directories.make(self._directory / incident, mode=directories.PRIVATE)
        with file_lock.locked(self._directory / incident / ".sending"):
            yield

    def state(self, incident: str) -> Path:
        """The file with an incident's state. Raises RecordError for a bad id."""
        return self.timeline(incident).with_name(STATE)

    def timeline(self, incident: str) -> Path:
        """The file with an incident's timeline. Raises RecordError for a bad id."""
        return records.Records(self._root, incident).timeline

    def taken(self) -> set[str]:
        """The ids in use: those of all directories, with an opened incident or without."""
        return {path.name for path in self._directory.glob("*") if path.is_dir()}

    def load(self, incident: str) -> incident_state.Folded:
        """Replay an incident's record.

        Raises:
            RecordError: if the id is not valid.
            DamagedError: if a line is not valid.
        """
        path = self.state(incident)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return incident_state.Folded(None, False)
        return incident_state.fold(content, str(path))

    def load_all(self) -> tuple[dict[str, incident_state.Incident], list[str]]:
        """Every readable incident by id, and a sentence for each record that is damaged or incomplete."""
        incidents, problems = {}, []
        for path in sorted(self._directory.glob(f"*/{STATE}")):
            name = path.parent.name
            try:
                folded = self.load(name)
            except (incident_state.DamagedError, OSError) as error:
                problems.append(str(error))
                continue
            if folded.torn:
                problems.append(f"{path}: the last line is incomplete (its run was killed). It is ignored.")
            if folded.incident:
                incidents[name] = folded.incident
        return incidents, problems

    def append(self, incident: str, *events: Mapping[str, Any], at: str, who: str) -> None:
        """Append events to an incident's state, all or none. The caller must hold `locked`."""
        path = self.state(incident)
        if not path.parent.exists():
            directories.make(path.parent, mode=directories.PRIVATE)
            files.sync_directory(self._directory)
        files.append_events(path, *events, at=at, who=who)

    def predict(
        self, incident: str, *events: Mapping[str, Any], at: str, who: str
    ) -> incident_state.Incident:
        """The incident's state after `append`, without writing."""
        path = self.state(incident)
        content = path.read_bytes() if path.exists() else b""
        lines = "".join(json.dumps({"at": at, "who": who, **event}) + "\n" for event in events)
        whole = content[: content.rfind(b"\n") + 1]
        folded = incident_state.fold(whole + lines.encode(), str(path))
        if folded.incident is None:
            raise records.RecordError(f"{path} contains no incident")
        return folded.incident


def open_incidents(root: Path) -> list[str]:
    """The ids of the open incidents. An incident whose record cannot be read counts as open."""
    store = IncidentRecords(root)
    names = []
    for path in sorted((root / "incidents").glob(f"*/{STATE}")):
        try:
            incident = store.load(path.parent.name).incident
        except (incident_state.DamagedError, records.RecordError, OSError):
            names.append(path.parent.name)
            continue
        if incident and incident.is_open:
            names.append(path.parent.name)
    return names


def current(root: Path, requested: str) -> str:
    """The incident that a run belongs to: the requested one or, without one, the only open incident.

    Empty if none is open. Raises RecordError if several are open.
    """
    if requested:
        return requested
    names = open_incidents(root)
    if len(names) > 1:
        raise records.RecordError(
            f"{len(names)} incidents are open ({', '.join(names)}). Give -e incident=ID to choose one"
        )
    return names[0] if names else ""
