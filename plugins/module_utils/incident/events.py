"""The lines of an incident's record: the keys that each event must have, and the type of each value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.severity import Level, Severity


class FindingEntry(TypedDict):
    """A finding of triage on a host, as recorded in a line."""

    host: str
    level: Severity
    rule: str
    measured: str
    suspicious: NotRequired[bool]


class Event(TypedDict):
    """One line. Which optional keys a line must have depends on `event`; see REQUIRED."""

    at: str
    who: str
    event: str
    id: NotRequired[str]
    started: NotRequired[str]
    severity: NotRequired[Severity]
    severity_by: NotRequired[str]
    worst: NotRequired[Severity]
    respond_by: NotRequired[str]
    alert: NotRequired[str]
    fleet_size: NotRequired[int]
    load_balancers: NotRequired[list[str]]
    recurrence_of: NotRequired[str]
    status: NotRequired[str]
    without_watch: NotRequired[list[str]]
    findings: NotRequired[list[FindingEntry]]
    undecided: NotRequired[list[str]]
    levels: NotRequired[dict[str, Level]]
    errors: NotRequired[list[str]]
    bugs: NotRequired[list[str]]
    unfamiliar: NotRequired[list[str]]
    computed: NotRequired[list[str]]
    actions: NotRequired[list[str]]
    asked: NotRequired[dict[str, Any]]
    answers: NotRequired[list[str]]
    to: NotRequired[str]
    why: NotRequired[str]
    automatic: NotRequired[bool]
    kind: NotRequired[str]
    due: NotRequired[str]
    key: NotRequired[str]


REQUIRED: Mapping[str, tuple[str, ...]] = {
    "opened": ("id", "started", "severity", "severity_by", "worst", "respond_by"),
    "escalated": ("to", "why"),
    "overdue": ("due",),
    **dict.fromkeys(("sending", "sent", "failed", "unknown"), ("key",)),
}
"""The keys that an event must have in addition to those of every line."""


def parse(line: bytes) -> Mapping[str, Any]:
    """The event in a line.

    Raises:
        ValueError: if the line is not a JSON object, lacks a key, or has a value of the wrong type.
    """
    event = shape.typed(Event, json.loads(line))
    timestamps.parse(event["at"])
    if event.get("severity") and not event.get("severity_by"):
        raise shape.ShapeError("severity_by is missing")
    for key in REQUIRED.get(event["event"], ()):
        if key not in event:
            raise shape.ShapeError(f"{key} is missing")
    return event
