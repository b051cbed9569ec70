"""The records of drills on the control node: RECORDS/drills/<id>."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import directories, files, shape
from ansible_collections.katago.fleet.plugins.module_utils.incident import state
from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import record as drill_record
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Record

PROBER = "prober.jsonl"
"""The record of the prober in the directory of a drill."""
_RUN = "run"
_ABORT = "abort"


class DrillRecordError(Exception):
    """A record of a drill cannot be used. The message is complete for people."""


class DrillRecords:
    """The drills below a directory of records. Only the owner can read them."""

    def __init__(self, root: Path) -> None:
        self._directory = root / "drills"
        self._incidents = root / "incidents"

    def directory(self, drill: str) -> Path:
        """The directory of a drill."""
        return self._directory / drill

    def prober(self, drill: str) -> Path:
        """The record of the drill's prober."""
        return self.directory(drill) / PROBER

    def reserve(self, day: date, run: str) -> str:
        """Create the directory of a new drill for a run of Ansible; return the drill's id. Raises OSError.

        The incident of a drill has the same id. It may still be there if the drill's record was removed.
        """
        directories.make(self._directory, mode=directories.PRIVATE)
        ids = (f"{state.DRILL_PREFIX}{day.isoformat()}-{number}" for number in itertools.count(1))
        free = (each for each in ids if not (self._incidents / each).exists())
        drill = next(each for each in free if _made(self.directory(each)))
        files.write(self.directory(drill) / _RUN, run.encode(), mode=0o600)
        return drill

    def discard(self, drill: str) -> None:
        """Remove the directory of a drill that was refused. A drill that has a record is kept."""
        if not (self.directory(drill) / drill_record.FILE).exists():
            shutil.rmtree(self.directory(drill), ignore_errors=True)

    def save(self, record: Record) -> None:
        """Write a record atomically. Raises OSError."""
        path = self.directory(record["id"]) / drill_record.FILE
        files.write(path, (json.dumps(record, indent=1) + "\n").encode(), mode=0o600)

    def load(self, drill: str) -> Record:
        """Read a record.

        Raises:
            DrillRecordError: it is missing or damaged.
        """
        path = self.directory(drill) / drill_record.FILE
        try:
            return shape.typed(Record, shape.parsed(path.read_bytes()), str(path))
        except (OSError, shape.ShapeError) as error:
            raise DrillRecordError(f"The record {path} cannot be used: {error}") from error

    def load_all(self) -> tuple[list[Record], list[str]]:
        """All records, oldest first, and why others cannot be used."""
        records, problems = [], []
        for path in self._directory.glob(f"*/{drill_record.FILE}"):
            try:
                records.append(self.load(path.parent.name))
            except DrillRecordError as error:
                problems.append(str(error))
        return sorted(records, key=lambda each: (each["started"], each["id"])), problems

    def run_of(self, drill: str) -> str:
        """The run of Ansible that a drill belongs to; empty if that is not known."""
        try:
            return (self.directory(drill) / _RUN).read_text()
        except OSError:
            return ""

    def running(self, life: Callable[[str], host_lock.Life]) -> Iterator[tuple[Record, host_lock.Life]]:
        """The drills that did not end, and whether the run that each belongs to is alive."""
        for record in self.load_all()[0]:
            if record["outcome"] == "running":
                run = self.run_of(record["id"])
                yield record, life(run) if run else "unknown"

    def request_abort(self, drill: str, why: str) -> None:
        """Have a running drill end soon. Raises OSError."""
        files.write(self.directory(drill) / _ABORT, why.encode(), mode=0o600)

    def abort_requested(self, drill: str) -> str:
        """Why the drill must end; empty if it may continue."""
        try:
            return (self.directory(drill) / _ABORT).read_text()
        except OSError:
            return ""

    def close_orphan(self, record: Record, now: str, why: str) -> Record:
        """Close the record of a drill whose run is gone. Raises OSError."""
        closed: Record = {**record, "outcome": "aborted", "ended": now, "reason": why}
        self.save(closed)
        return closed


def _made(directory: Path) -> bool:
    """Whether a new directory was created; only one process can create it."""
    try:
        directory.mkdir()
    except FileExistsError:
        return False
    directories.make(directory, own=directory, mode=directories.PRIVATE)
    return True
