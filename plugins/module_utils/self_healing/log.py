"""The log of repairs on a host: one JSON line for each event, and a line in the journal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import files, shape
from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock

WHO = host_lock.SELF_HEALING
PROCEDURE = "self_healing"
"""The name under which the host's lock and the timeline of an incident know repairs of the host itself."""

NEWEST = 50
DAY = timedelta(days=1)
"""At most so many events, and none older than that, are added to the timeline of an incident."""

Kind = Literal["started", "repaired", "failed", "interrupted", "would_repair", "escalated"]
RESULTS: Mapping[Kind, str] = {
    "started": "begun",
    "repaired": "changed",
    "failed": "partial",
    "interrupted": "partial",
    "would_repair": "ok",
    "escalated": "refused",
}
"""The result of each event in a timeline."""


@dataclass(frozen=True)
class Event:
    """What happened. `at`: UTC, by the host's clock. `id` and `repair`: empty if no repair was started.

    `evidence`: the directory of the evidence on the host. `seconds`: the duration of a finished repair.
    """

    at: str
    event: Kind
    message: str
    id: str = ""
    repair: str = ""
    evidence: str = ""
    seconds: float = 0


def append(event: Event, path: Path) -> None:
    """Append an event durably. Raises OSError; the file is then unchanged."""
    files.append(path, json.dumps(asdict(event)).encode() + b"\n", mode=0o600)


def as_event(value: object) -> Event:
    """An event in plain values. Raises shape.ShapeError."""
    return shape.record(Event, value, "the event")


def newest(path: Path, most: int = NEWEST) -> list[Event]:
    """The newest events, oldest first; [] without a log. Lines that are not events are skipped.

    Raises OSError.
    """
    return parsed(path.read_bytes())[-most:] if path.exists() else []


def parsed(content: bytes) -> list[Event]:
    """The events of a log, oldest first. Lines that are not events are skipped."""
    events = []
    for line in content.splitlines():
        try:
            events.append(as_event(shape.parsed(line)))
        except shape.ShapeError:
            continue
    return events


def fetch(path: Path) -> list[dict[str, Any]]:
    """The events of the last day as plain values, for the timeline; [] if the log cannot be read.

    An unreadable log must not keep a procedure from the host.
    """
    since = timestamps.stamp(datetime.now(timestamps.UTC) - DAY)
    try:
        return [asdict(event) for event in newest(path) if event.at >= since]
    except OSError:
        return []


def timeline(event: Event, host: str) -> dict[str, Any]:
    """The event as the timeline of an incident has it."""
    repair = f"{event.repair}: " if event.repair else ""
    evidence = f" Evidence on the host: {event.evidence}." if event.evidence else ""
    return {
        "at": event.at,
        "host": host,
        "who": WHO,
        "run": f"{WHO}:{event.id or event.at}",
        "procedure": PROCEDURE,
        "result": RESULTS[event.event],
        "message": f"{event.event}. {repair}{event.message}{evidence}",
    }
