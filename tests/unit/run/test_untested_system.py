"""Every procedure's report warns of a host whose system was not tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.action import procedure_event
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import watch_table
from tests.stubs import action_result

ROLE = Path(__file__).resolve().parents[3] / "roles" / "procedure"
WARNING = "untested system: Ubuntu 24.04.3 LTS (ubuntu 24.04); tested: Debian 12 and 13"


class Screen:
    """What an operator sees."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def display(self, words: str) -> None:
        """A line of the report."""
        self.shown.append(words)

    def warning(self, words: str) -> None:
        """A warning beside it."""
        self.shown.append(f"[WARNING] {words}")


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """The screen of the action."""
    made = Screen()
    monkeypatch.setattr(procedure_event, "display", made)
    return made


def finish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, result: str, warning: str) -> dict[str, Any]:
    """Record the end of a procedure; its line in the timeline, and the summary for the operator."""
    arguments = {"records_dir": str(tmp_path), "incident": "i-1", "procedure": "deploy", "who": "anna"}
    given: dict[str, Any] = {
        **arguments,
        "result": result,
        "message": "Release 0.2.0 runs.",
        "warning": warning,
    }
    made = action_result(monkeypatch, procedure_event, {}, {"inventory_hostname": "a"}, **given)
    line: dict[str, Any] = json.loads((tmp_path / "incidents/i-1/timeline.jsonl").read_text())
    return line | {"summary": made["summary"]}


def test_outcome_and_timeline_have_the_warning(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = finish(monkeypatch, tmp_path, "changed", WARNING)
    assert line["message"] == f"Release 0.2.0 runs. Warning: {WARNING}."
    assert line["summary"] == f"[a] deploy: changed. {line['message']}"
    assert screen.shown == []


def test_failure_that_ansible_has_shown_is_followed_by_the_warning(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert finish(monkeypatch, tmp_path, "partial", WARNING)["message"].endswith(f"Warning: {WARNING}.")
    assert screen.shown == [f"[WARNING] [a] {WARNING}"]


@pytest.mark.parametrize("result", ["changed", "partial"])
def test_tested_system_is_not_mentioned(
    result: str, screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert finish(monkeypatch, tmp_path, result, "")["message"] == "Release 0.2.0 runs."
    assert "Warning" not in "".join(screen.shown)


def test_end_of_every_procedure_passes_what_the_lock_measured() -> None:
    (event, *_) = yaml.safe_load((ROLE / "tasks" / "finish.yml").read_text())
    assert (
        event["katago.fleet.procedure_event"]["warning"]
        == "{{ procedure_lock.untested_system | default('') }}"
    )


def test_report_of_a_watch_notes_it() -> None:
    verdict: watch_table.Verdict = {
        "verdict": "watching",
        "why": "so",
        "left": 60.0,
        "resets": [],
        "notes": ["theirs"],
    }
    report = watch_table.render({"a": {"verdict": verdict, "untested_system": WARNING}})
    assert report.index(f"note: {WARNING}") < report.index("note: theirs")
    assert "untested" not in watch_table.render({"a": {"verdict": verdict, "untested_system": ""}})
