"""An invalid line of an incident's record is reported, and never applied in part."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.incident import events
from ansible_collections.katago.fleet.plugins.module_utils.incident.state import DamagedError, fold

OPENED: dict[str, Any] = {
    "at": "2026-11-24T06:00:00Z",
    "who": "ann",
    "event": "opened",
    "id": "i-1",
    "started": "2026-11-24T05:58:00Z",
    "severity": "P1",
    "severity_by": "triage",
    "worst": "P1",
    "respond_by": "2026-11-24T06:28:00Z",
    "findings": [{"host": "katago-1", "level": "P1", "rule": "unit", "measured": "failed"}],
}


def record(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def test_valid_line_opens_the_incident() -> None:
    incident = fold(record(OPENED), "state.jsonl").incident
    assert incident is not None
    assert [finding.host for finding in incident.findings.values()] == ["katago-1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"severity": "P9"}, "severity is 'P9', not one of P0, P1, P2, P3"),
        ({"at": "yesterday"}, "does not match format"),
        ({"fleet_size": "two"}, "fleet_size is 'two', not an integer"),
        ({"findings": ["katago-1"]}, "findings[0] is 'katago-1', not an object"),
        ({"findings": [{"host": "katago-1"}]}, "findings[0].level is missing"),
        ({"undecided": "katago-2"}, "undecided is 'katago-2', not a list"),
        ({"event": "exploded"}, "the event 'exploded' comes before the incident was opened"),
    ],
)
def test_invalid_opening_line_is_reported(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DamagedError) as caught:
        fold(record({**OPENED, **change}), "state.jsonl")
    assert str(caught.value).startswith("state.jsonl, line 1 of 1 is damaged: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"event": "exploded"}, "event is 'exploded', not one of opened, joined"),
        ({"event": "updated", "status": "ill"}, "status is 'ill', not one of investigating"),
        ({"event": "updated", "severity": "P2"}, "severity_by is missing"),
        ({"event": "escalated", "to": "ben"}, "why is missing"),
        ({"event": "sent"}, "key is missing"),
        ({"event": "overdue"}, "due is missing"),
        ({"event": "updated", "actions": [7]}, "actions[0] is 7, not a string"),
    ],
)
def test_invalid_later_line_is_reported(line: dict[str, Any], message: str) -> None:
    with pytest.raises(DamagedError) as caught:
        fold(record(OPENED, {"at": OPENED["at"], "who": "ann", **line}), "state.jsonl")
    assert f"line 2 of 2 is damaged: {message}" in str(caught.value)


def test_unknown_keys_of_a_later_version_are_ignored() -> None:
    assert fold(record({**OPENED, "weather": "fine"}), "state.jsonl").incident is not None


def test_required_keys_cover_the_main_events() -> None:
    assert set(events.REQUIRED) >= {"opened", "escalated", "overdue", "sent"}
