"""Records of drills for tests: a drill in which everything went well, and the same with some keys changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Action, Message, Record
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import Question, Scenario

INJECTED = "2026-11-24T06:01:00Z"
SCENARIO = Scenario(
    name="bad_release",
    title="A bad release was rolled out to a host",
    level="P1",
    symptoms=("the service of one host fails",),
    faults=(),
    targets={"detect": 10.0, "acknowledge": 300.0, "mitigate": 20.0, "recover": 60.0},
    response=(),
    right_procedures=(("rollback", "watch"), ("deploy",)),
    harmful_procedures=("remove_host",),
    evidence_first=True,
    audience=("team", "status page"),
    lossless=True,
    external=False,
    questions=(
        Question("cause", "What was the cause?", "The release."),
        Question("avoid", "What must you not do?", "Restart again and again."),
    ),
)


def at(seconds: float) -> str:
    """A time in the format of records, this many seconds after the injection."""
    return timestamps.stamp(timestamps.parse(INJECTED).timestamp() + seconds)


def action(seconds: float, procedure: str, **changes: Any) -> Action:
    """A procedure that succeeded."""
    whole = {"time": at(seconds), "procedure": procedure, "hosts": ["katago-1"], "arguments": {}}
    return shape.typed(Action, {**whole, "by": "anna@control", "outcome": "done", **changes})


def message(seconds: float, kind: str, *audience: str) -> Message:
    """A step of communication."""
    whole = {"time": at(seconds), "kind": kind, "audience": list(audience), "by": "anna@control"}
    return shape.typed(Message, whole)


def record(**changes: Any) -> Record:
    """A drill with people that has all points, with some keys changed. Mappings are merged."""
    whole: dict[str, Any] = {
        "schema": 1,
        "id": "drill-2026-11-24-1",
        "scenario": SCENARIO.name,
        "sealed": False,
        "mode": "person",
        "fleet": "katago",
        "hosts": ["katago-1"],
        "participants": ["Anna", "Bo"],
        "incident": "drill-2026-11-24-1",
        "level": SCENARIO.level,
        "started": "2026-11-24T06:00:00Z",
        "ended": at(400),
        "outcome": "passed",
        "reason": "",
        "steady_state": {"healthy": True, "problems": []},
        "fault": {"injected": INJECTED, "landed": at(2), "seen": "/health does not answer"},
        "times": {"detect": 4.0, "acknowledge": 60.0, "mitigate": 5.0, "recover": 50.0},
        "targets": dict(SCENARIO.targets),
        "traffic": {"interval": 0.1, "requests": 4000, "failed": 12, "sessions": 4, "sessions_lost": 0},
        "data": {"writes": 20, "lost": 0, "rpo_seconds": None},
        "actions": [action(20, "triage"), action(30, "rollback"), action(45, "watch")],
        "messages": [
            message(60, "opened", "team"),
            message(60, "status", "status page"),
            message(200, "update", "team"),
            message(300, "closed", "team"),
            message(300, "status", "status page"),
        ],
        "undo": {"armed": at(-5), "expires": at(900), "done": at(350), "by": "drill"},
        "differences": [],
        "answers": {},
    }
    for name, change in changes.items():
        merges = isinstance(change, Mapping) and name != "answers"
        whole[name] = {**whole[name], **change} if merges else change
    return shape.typed(Record, whole)


def saved(root: Path, drill: Record) -> Path:
    """Save a drill in a directory of records. Return its directory."""
    directory = root / "drills" / drill["id"]
    directory.mkdir(parents=True)
    (directory / "drill.json").write_text(json.dumps(drill))
    return directory
