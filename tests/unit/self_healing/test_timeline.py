"""What a host repaired automatically gets into the timeline of an incident, once, with the next procedure."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.action import procedure_event
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.log import Event
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import closing
from tests.unit.incident.test_closing import action_of

AT = "2026-11-29T17:00:00Z"
REPAIR = [
    asdict(Event(AT, "started", "it failed", "a1", "restart", "/e")),
    asdict(Event("2026-11-29T17:00:09Z", "repaired", "done.", "a1", "restart", "/e", 9.0)),
]
ESCALATED = asdict(Event(AT, "escalated", "the budget is used up"))


def recorded(directory: Path) -> list[dict[str, Any]]:
    lines = (directory / "incidents" / "i-1" / "timeline.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def begin(directory: Path, events: list[Any], **arguments: Any) -> None:
    """Record the start of a procedure, with what the host says about its own repairs."""
    action = action_of(procedure_event, directory, result="begun", self_healing=events, **arguments)
    action.run(None, {"inventory_hostname": "katago-1"})


def test_repairs_of_the_host_are_recorded_once_and_before_the_procedure(tmp_path: Path) -> None:
    for _ in range(2):
        begin(tmp_path, REPAIR)
    events = recorded(tmp_path)
    assert [each["who"] for each in events] == ["self-healing", "self-healing", "a", "a"]
    assert [each["result"] for each in events[:2]] == ["begun", "changed"]
    assert {each["host"] for each in events} == {"katago-1"}


def test_repair_changes_the_host_and_an_escalation_does_not(tmp_path: Path) -> None:
    begin(tmp_path, [ESCALATED])
    own = [each for each in recorded(tmp_path) if each["who"] == "self-healing"]
    assert closing.changes(own) == {}
    begin(tmp_path, REPAIR)
    own = [each for each in recorded(tmp_path) if each["who"] == "self-healing"]
    assert closing.changes(own) == {"katago-1": (AT, "self_healing")}


def test_malformed_event_of_a_host_is_a_warning(tmp_path: Path, capsys: Any) -> None:
    begin(tmp_path, [{"at": AT, "event": "rm -rf"}])
    assert "The incident's timeline lacks this result" in capsys.readouterr().err
