"""Evidence is collected whatever hangs, kept once, and listed with what it is; events are appended."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.collectors import LIMIT, VOLATILE, Collector, Item
from ansible_collections.katago.fleet.plugins.modules import evidence
from ansible_collections.katago.fleet.plugins.plugin_utils.records import RecordError, Records

AT = "2026-01-01T00:00:00Z"


def test_collector_that_hangs_costs_its_own_entry() -> None:
    item = evidence.collect(Collector("hung.txt", ("sh", "-c", "echo first; exec sleep 60"), seconds=0.3))
    assert item.problem == "no end within 0.3 s"
    assert item.content == b"first\n"


@pytest.mark.parametrize(
    ("collector", "words"),
    [
        (Collector("a", ("sh", "-c", "echo no >&2; exit 3")), "status 3: no"),
        (Collector("a", ("no-such-program",)), "no-such-program"),
        (Collector("a", file="/nowhere/file"), "/nowhere/file"),
    ],
)
def test_collector_that_fails_says_why(collector: Collector, words: str) -> None:
    assert words in evidence.collect(collector).problem


def test_of_too_much_output_the_newest_is_kept() -> None:
    item = evidence.collect(Collector("big", ("sh", "-c", f"head -c {LIMIT} /dev/zero; echo newest")))
    assert len(item.content) == LIMIT
    assert item.content.endswith(b"newest\n")


def test_no_collector_shows_arguments_or_environments_of_processes() -> None:
    for collector in VOLATILE:
        words = " ".join(collector.command)
        assert not any(column in words for column in ("args", "cmd", "aux", "environ", "Environment")), words


def test_evidence_is_private_listed_and_never_overwritten(tmp_path: Path) -> None:
    records = Records(tmp_path, "2026-01")
    items = [Item("memory.txt", b"MemFree", 0.1), Item("disk.txt", b"", 5.0, "no end within 5 s")]
    first, manifest = records.keep_evidence("katago-1", AT, items)
    second, _ = records.keep_evidence("katago-1", AT, [])
    assert first == tmp_path / "evidence" / "2026-01" / "katago-1" / "2026-01-01T000000Z"
    assert second != first
    assert first.stat().st_mode & 0o777 == 0o700
    assert (first / "memory.txt").stat().st_mode & 0o777 == 0o600
    assert json.loads((first / "manifest.json").read_text()) == manifest
    memory, disk = manifest["items"]
    assert memory["sha256"] == hashlib.sha256(b"MemFree").hexdigest()
    assert disk["problem"] == "no end within 5 s"


@pytest.mark.parametrize("incident", ["../x", ".hidden", "a/b", "a b", "x" * 65])
def test_incident_that_is_no_name_is_refused(tmp_path: Path, incident: str) -> None:
    with pytest.raises(RecordError, match="the incident's id is"):
        Records(tmp_path, incident)


def test_events_are_appended(tmp_path: Path) -> None:
    records = Records(tmp_path, "")
    for number in (1, 2):
        records.add_event({"number": number})
    assert records.timeline == tmp_path / "incidents" / "no-incident" / "timeline.jsonl"
    assert [json.loads(line)["number"] for line in records.timeline.read_text().splitlines()] == [1, 2]
