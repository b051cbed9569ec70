"""Events are appended to the timeline of their incident."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.evidence.records import RecordError, Records


@pytest.mark.parametrize("incident", ["../x", ".hidden", "a/b", "a b", "x" * 65])
def test_invalid_incident_id_is_refused(tmp_path: Path, incident: str) -> None:
    with pytest.raises(RecordError, match="the incident's id is"):
        Records(tmp_path, incident)


def test_events_are_appended(tmp_path: Path) -> None:
    records = Records(tmp_path, "")
    for number in (1, 2):
        records.add_event({"number": number})
    assert records.timeline == tmp_path / "incidents" / "no-incident" / "timeline.jsonl"
    assert [json.loads(line)["number"] for line in records.timeline.read_text().splitlines()] == [1, 2]
