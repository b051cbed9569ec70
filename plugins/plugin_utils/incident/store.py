"""The incidents on the control node: one directory each, their state in one file, one writer at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import files
from ansible_collections.katago.fleet.plugins.module_utils.incident import state as incident_state
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records
from ansible_collections.katago.fleet.plugins.plugin_utils.run import file_lock

STATE = "state.jsonl"


class IncidentRecords:
    """All incidents below a directory of records."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._directory = root / "incidents"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who decides and appends."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with file_lock.locked(self._directory / ".lock"):
            yield

    @contextmanager
    def sending(self, incident: str) -> Iterator[None]:
        """Be the only one who sends the messages of an incident: what another run had begun, it died in."""
        with file_lock.locked(self._directory / incident / ".sending"):
            yield

    def state(self, incident: str) -> Path:
        """The file with an incident's state. Raises RecordError for a bad id."""
        return self.timeline(incident).with_name(STATE)

    def timeline(self, incident: str) -> Path:
        """The file with an incident's timeline. Raises RecordError for a bad id."""
        return records.Records(self._root, incident).timeline

    def taken(self) -> set[str]:
        """The ids that have a directory, of incidents that were opened or not."""
        return {path.name for path in self._directory.glob("*") if path.is_dir()}

    def load(self, incident: str) -> incident_state.Folded:
        """An incident as its record tells it.

        Raises:
            RecordError: for a bad id.
            DamagedError: if a line cannot be understood.
        """
        path = self.state(incident)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return incident_state.Folded(None, False)
        return incident_state.fold(content, str(path))

    def load_all(self) -> tuple[dict[str, incident_state.Incident], list[str]]:
        """Every incident that can be read, by id; a sentence for each that cannot, or was cut short."""
        found, problems = {}, []
        for path in sorted(self._directory.glob(f"*/{STATE}")):
            name = path.parent.name
            try:
                folded = self.load(name)
            except (incident_state.DamagedError, OSError) as error:
                problems.append(str(error))
                continue
            if folded.torn:
                problems.append(
                    f"{path}: its last line was cut short, by a run that was killed; it is left out."
                )
            if folded.incident:
                found[name] = folded.incident
        return found, problems

    def append(self, incident: str, *events: Mapping[str, Any], at: str, who: str) -> None:
        """Add events to an incident's state, all or none; hold `locked` meanwhile."""
        path = self.state(incident)
        if not path.parent.exists():
            path.parent.mkdir(parents=True, mode=0o700)
            files.sync_directory(self._directory)
        files.append_events(path, *events, at=at, who=who)

    def predict(
        self, incident: str, *events: Mapping[str, Any], at: str, who: str
    ) -> incident_state.Incident:
        """What `append` would make of an incident."""
        path = self.state(incident)
        content = path.read_bytes() if path.exists() else b""
        lines = "".join(json.dumps({"at": at, "who": who, **event}) + "\n" for event in events)
        whole = content[: content.rfind(b"\n") + 1]
        folded = incident_state.fold(whole + lines.encode(), str(path))
        if folded.incident is None:
            raise records.RecordError(f"{path} tells of no incident")
        return folded.incident


def open_incidents(root: Path) -> list[str]:
    """The incidents that are open, and those of which that cannot be told: what is unknown is not closed."""
    store = IncidentRecords(root)
    found = []
    for path in sorted((root / "incidents").glob(f"*/{STATE}")):
        try:
            incident = store.load(path.parent.name).incident
        except (incident_state.DamagedError, records.RecordError, OSError):
            found.append(path.parent.name)
            continue
        if incident and incident.is_open:
            found.append(path.parent.name)
    return found


def current(root: Path, given: str) -> str:
    """The incident that a run belongs to: the one that is given, or else the only one that is open.

    Empty for none. Raises RecordError when several are open.
    """
    if given:
        return given
    found = open_incidents(root)
    if len(found) > 1:
        raise records.RecordError(
            f"{len(found)} incidents are open ({', '.join(found)}): -e incident=ID says to which this belongs"
        )
    return found[0] if found else ""
