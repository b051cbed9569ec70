"""Reads the records of all drills on the control node. It names damaged and foreign ones, and skips them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.severity import SEVERITIES
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import FILE, SCHEMA, Record, Times
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import store

DIRECTORY = "drills"


class RecordError(Exception):
    """A record cannot be read. The message names the file, the reason and what to do."""


@dataclass(frozen=True)
class Archive:
    """All drills, oldest first. `unread`: a sentence for each record that cannot be read."""

    drills: tuple[Record, ...] = ()
    unread: tuple[str, ...] = ()

    def as_of(self, day: date) -> Archive:
        """The drills that were started by the end of a day. One that ended later has not ended yet."""
        return Archive(tuple(_on(each, day) for each in self.drills if day_of(each) <= day), self.unread)


def day_of(record: Record) -> date:
    """The day on which a drill was started, in UTC."""
    return timestamps.parse(record["started"]).date()


def read(path: Path) -> Record:
    """Read and check the record of a drill.

    Raises:
        RecordError: if it is damaged, or if another version wrote it.
    """
    name = "/".join(path.parts[-3:])
    try:
        content = shape.mapping(shape.parsed(path.read_bytes()))
        if content.get("schema") != SCHEMA:
            raise shape.ShapeError(f"schema is {content.get('schema')!r}; this version reads {SCHEMA}")
        record: Record = shape.typed(Record, content)
        _check(record, path.parent.name)
    except shape.ShapeError as error:
        raise RecordError(
            f"{name} is not counted: {error}. Compare it with a backup of the records; do not delete it."
        ) from error
    except OSError as error:
        raise RecordError(f"{name} is not counted: {error.strerror}. Correct its owner and mode.") from error
    return record


def read_all(root: Path) -> Archive:
    """The drills in a directory of records."""
    drills: list[Record] = []
    unread: list[str] = []
    for entry in sorted((root / DIRECTORY).glob("[!.]*")):
        if (entry / FILE).exists():
            try:
                drills.append(read(entry / FILE))
            except RecordError as error:
                unread.append(str(error))
        # Version 0.2 recorded a drill as an incident only.
        elif not (entry / store.STATE).exists():
            unread.append(f"{DIRECTORY}/{entry.name} is not counted: it has no {FILE}. Do not delete it.")
    drills.sort(key=lambda each: (each["started"], each["id"]))
    return Archive(tuple(drills), tuple(unread))


def _check(record: Record, directory: str) -> None:
    """Check what the types do not: the ID, the level, and all times."""
    if record["id"] != directory:
        raise shape.ShapeError(f"id is {record['id']!r}, but its directory is {directory}")
    if record["level"] not in SEVERITIES:
        raise shape.ShapeError(f"level is {record['level']!r}, not one of {', '.join(SEVERITIES)}")
    for name, at in _times(record):
        try:
            timestamps.parse(at)
        except ValueError:
            raise shape.ShapeError(f"{name} is {at!r}, not a time such as 2026-11-24T06:00:00Z") from None
    for kind, times in (("times", record["times"]), ("targets", record["targets"])):
        for name, seconds in _seconds(times):
            if seconds is not None and not 0 <= seconds < math.inf:
                raise shape.ShapeError(f"{kind}.{name} is {seconds}, not a number of seconds from 0")


def _seconds(times: Times) -> Iterator[tuple[str, float | None]]:
    yield "detect", times["detect"]
    yield "acknowledge", times["acknowledge"]
    yield "mitigate", times["mitigate"]
    yield "recover", times["recover"]


def _times(record: Record) -> Iterator[tuple[str, str]]:
    yield "started", record["started"]
    optional = {
        "ended": record["ended"],
        "fault.injected": record["fault"]["injected"],
        "fault.landed": record["fault"]["landed"],
        "undo.armed": record["undo"]["armed"],
        "undo.expires": record["undo"]["expires"],
        "undo.done": record["undo"]["done"],
    }
    yield from ((name, at) for name, at in optional.items() if at is not None)
    for number, action in enumerate(record["actions"]):
        yield f"actions[{number}].time", action["time"]
    for number, message in enumerate(record["messages"]):
        yield f"messages[{number}].time", message["time"]


def _on(record: Record, day: date) -> Record:
    if record["ended"] is None or timestamps.parse(record["ended"]).date() <= day:
        return record
    return {**record, "ended": None, "outcome": "running"}
