"""Reading the records of drills: nothing that is damaged or foreign is counted, and all of it is named."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.drill import archive
from tests.unit.drill.recorded_drills import action, message, record, saved


def test_drills_are_read_in_the_order_of_their_start(tmp_path: Path) -> None:
    saved(tmp_path, record(id="drill-b", started="2026-11-25T06:00:00Z"))
    saved(tmp_path, record(id="drill-c", started="2026-11-24T06:00:00Z"))
    saved(tmp_path, record(id="drill-a", started="2026-11-25T06:00:00Z"))
    found = archive.read_all(tmp_path)
    assert ([each["id"] for each in found.drills], found.unread) == (["drill-c", "drill-a", "drill-b"], ())


def test_records_without_drills_are_empty(tmp_path: Path) -> None:
    assert archive.read_all(tmp_path) == archive.Archive()


DAMAGED: list[tuple[Any, str]] = [
    ("", "it is not JSON"),
    ("[]", "is a list, not an object"),
    ('{"schema": 2}', "schema is 2; this version reads 1"),
    ("{}", "schema is None; this version reads 1"),
    ({"id": "another"}, "id is 'another', but its directory is drill-x"),
    ({"level": "P9"}, "level is 'P9', not one of P0, P1, P2, P3"),
    ({"outcome": "won"}, "outcome is 'won', not one of running, passed, failed, invalid, aborted"),
    ({"mode": "robot"}, "mode is 'robot'"),
    ({"started": "yesterday"}, "started is 'yesterday', not a time such as"),
    ({"ended": "2026-11-24"}, "ended is '2026-11-24', not a time"),
    ({"fault": {"injected": "now"}}, "fault.injected is 'now'"),
    ({"undo": {"expires": ""}}, "undo.expires is ''"),
    ({"actions": [action(1, "x") | {"time": "soon"}]}, r"actions\[0\].time is 'soon'"),
    ({"messages": [message(1, "opened") | {"time": "soon"}]}, r"messages\[0\].time is 'soon'"),
    ({"times": {"recover": -1.0}}, "times.recover is -1.0, not a number of seconds from 0"),
    ({"times": {"recover": float("nan")}}, "times.recover is nan"),
    ({"targets": {"detect": float("inf")}}, "targets.detect is inf"),
    ({"traffic": {"failed": "12"}}, "traffic.failed is '12', not an integer"),
]


@pytest.mark.parametrize(("content", "why"), DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_record_is_named_and_the_others_are_read(tmp_path: Path, content: Any, why: str) -> None:
    saved(tmp_path, record())
    directory = tmp_path / "drills" / "drill-x"
    directory.mkdir()
    text = content if isinstance(content, str) else json.dumps({**record(id="drill-x"), **merged(content)})
    (directory / "drill.json").write_text(text)
    found = archive.read_all(tmp_path)
    assert [each["id"] for each in found.drills] == ["drill-2026-11-24-1"]
    (problem,) = found.unread
    assert problem.startswith("drills/drill-x/drill.json is not counted: ")
    assert problem.endswith("Compare it with a backup of the records; do not delete it.")
    with pytest.raises(archive.RecordError, match=why):
        archive.read(directory / "drill.json")
    assert (directory / "drill.json").read_text() == text


def merged(changes: dict[str, Any]) -> dict[str, Any]:
    """Changes as whole values: mappings with the other keys of the record."""
    whole: dict[str, Any] = {**record()}
    return {
        name: {**whole[name], **each} if isinstance(each, dict) else each for name, each in changes.items()
    }


def test_missing_key_is_named(tmp_path: Path) -> None:
    drill: dict[str, Any] = {**record()}
    del drill["undo"]
    path = tmp_path / "drill-2026-11-24-1" / "drill.json"
    path.parent.mkdir()
    path.write_text(json.dumps(drill))
    with pytest.raises(archive.RecordError, match="undo is missing"):
        archive.read(path)


def test_record_of_a_later_version_with_more_keys_is_read(tmp_path: Path) -> None:
    directory = saved(tmp_path, record())
    path = directory / "drill.json"
    path.write_text(json.dumps({**record(), "version": "0.9.0", "weather": "fine"}))
    assert archive.read(path)["id"] == "drill-2026-11-24-1"


def test_foreign_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "drills" / "notes").mkdir(parents=True)
    (tmp_path / "drills" / "list.txt").write_text("x")
    (tmp_path / "drills" / ".lock").write_text("")
    assert archive.read_all(tmp_path).unread == (
        "drills/list.txt is not counted: it has no drill.json. Do not delete it.",
        "drills/notes is not counted: it has no drill.json. Do not delete it.",
    )


def test_drill_of_version_0_2_is_an_incident_only(tmp_path: Path) -> None:
    (tmp_path / "drills" / "d-1").mkdir(parents=True)
    (tmp_path / "drills" / "d-1" / "state.jsonl").write_text("{}\n")
    assert archive.read_all(tmp_path) == archive.Archive()


def test_later_drills_are_left_out_as_of_a_day() -> None:
    early = record(id="a", started="2026-11-24T23:50:00Z", ended="2026-11-25T00:10:00Z")
    late = record(id="b", started="2026-11-25T06:00:00Z", ended="2026-11-25T06:10:00Z")
    (found,) = archive.Archive((early, late)).as_of(date(2026, 11, 24)).drills
    assert (found["id"], found["outcome"], found["ended"]) == ("a", "running", None)
    assert archive.Archive((early, late)).as_of(date(2026, 11, 25)).drills == (early, late)
