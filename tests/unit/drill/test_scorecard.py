"""The scorecard: its JSON, its documents, its chart, and the files that it is written to."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.plugin_utils.drill import (
    archive,
    cards,
    charts,
    compare,
    score,
    scorecard,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Record
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS
from ansible_collections.katago.fleet.plugins.plugin_utils.review import blocks
from tests import recorded
from tests.unit.drill.recorded_drills import SCENARIO, action, message, record, saved

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = recorded.HOSTILE
FILES = ("scorecard.json", "scorecard.md", "scorecard.html")


def document(drill: Record, comparison: compare.Comparison | None = None) -> blocks.Document:
    graded = score.grade(drill, SCENARIO)
    return scorecard.document(drill, SCENARIO, graded, comparison or compare.recovery(50.0, []))


def card(drill: Record) -> scorecard.Card:
    graded = score.grade(drill, SCENARIO)
    return scorecard.card(drill, SCENARIO, graded, compare.recovery(50.0, []))


class Checked(HTMLParser):
    """Checks that tags are closed in order, and collects what a page could load or run."""

    VOID = ("meta", "line", "rect", "circle", "path")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.dangerous: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("script", "img", "iframe", "link", "object", "a", "image", "use"):
            self.dangerous.append(tag)
        self.dangerous += [name for name, _ in attributes if name in ("src", "href") or name.startswith("on")]

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(page: str) -> None:
    parser = Checked()
    parser.feed(page)
    assert (parser.open, parser.dangerous) == ([], [])
    assert "url(" not in page
    assert "@import" not in page


def hostile() -> Record:
    return record(
        outcome="failed",
        reason=HOSTILE,
        participants=[HOSTILE],
        fault={"seen": HOSTILE},
        actions=[action(5, HOSTILE, by=HOSTILE, hosts=[HOSTILE], arguments={HOSTILE: HOSTILE})],
        messages=[message(5, "opened", HOSTILE)],
        differences=[{"host": HOSTILE, "what": HOSTILE, "before": HOSTILE, "after": HOSTILE}],
        answers={"cause": f"right: {HOSTILE}"},
        notes=[HOSTILE],
    )


def test_page_with_hostile_texts_loads_and_runs_nothing() -> None:
    page = blocks.as_html(document(hostile()), dark=True)
    checked(page)
    assert "&lt;script&gt;" in page
    text = blocks.as_markdown(document(hostile()))
    assert "<script>" not in text
    assert "| **bold**" not in text


def test_notes_of_the_drill_are_shown() -> None:
    assert "\n\nKatago-2 was slow.\n" in blocks.as_markdown(document(record(notes=["Katago-2 was slow."])))


def test_chart_escapes_its_texts() -> None:
    drawing = charts.timeline(HOSTILE, [charts.Phase(HOSTILE, 1, 2)], [(HOSTILE, [])], 5)
    checked(drawing)
    assert "<script>" not in drawing


def test_page_follows_a_dark_setting_and_a_narrow_screen() -> None:
    page = blocks.as_html(document(record()), dark=True)
    assert page.count("<svg") == 2
    assert page.count("prefers-color-scheme:dark") == 2
    assert "@media screen and (max-width:40rem){.chart.wide{display:none}" in page


def test_card_has_the_points_of_each_part_and_criterion() -> None:
    content = card(record(times={"recover": 120.0}))
    assert content["parts"]["Response time"] == {"points": 32.0, "of": 40}
    assert sum(each["of"] for each in content["criteria"] if each["graded"]) == 100
    (late,) = [each for each in content["criteria"] if each["id"] == "recover"]
    assert late == {
        "id": "recover",
        "part": "Response time",
        "title": "Recovered",
        "points": 8.0,
        "of": 16,
        "graded": True,
        "reason": "It took 2 min; the target is 60 s",
    }


def test_documentation_names_every_key_of_the_card() -> None:
    text = (ROOT / "docs" / "drills.md").read_text()
    assert [key for key in card(record()) if f"`{key}`" not in text] == []


def test_secret_in_a_note_is_redacted() -> None:
    secret = "password=hunter2-hunter2"
    drill = record(answers={"cause": f"wrong: {secret}"})
    assert "hunter2" not in scorecard.as_json(card(drill))
    assert "hunter2" not in blocks.as_html(document(drill))


def test_unattended_scorecard_says_what_is_not_graded() -> None:
    text = blocks.as_markdown(document(record(mode="unattended", messages=[])))
    assert "(only people do this)." in text
    assert "## Questions" not in text
    assert "Acknowledged:" not in text


def test_invalid_drill_has_no_score_but_a_reason() -> None:
    drill = record(outcome="invalid", reason="No probe saw the fault.")
    text = blocks.as_markdown(document(drill))
    assert "**Invalid. No score: the drill is invalid: No probe saw the fault.**" in text
    assert "## Score" not in text
    assert card(drill)["score"] is None


def test_markdown_has_the_events_of_the_chart() -> None:
    text = blocks.as_markdown(document(record()))
    events = re.findall(r"^- (.*?): (.*)$", text.partition("## Timeline")[2].partition("\n|")[0], re.M)
    assert [name for _, name in events[:4]] == ["detected", "mitigated", "triage by anna@control: done", ANY]
    assert events[3][0] == "30 s"


@pytest.mark.parametrize(
    ("seconds", "earlier", "words"),
    [
        (50.0, [], "Not compared: 0 earlier drills of this scenario and mode; 5 are needed."),
        (75.0, [30.0] * 6, "SLOWER THAN USUAL: recovered in 75 s; the median of the last 6 drills is 30 s"),
        (31.0, [30.0] * 6, "As usual or faster: recovered in 31 s"),
        (None, [30.0] * 6, "The service did not recover; the median of the last 6 drills is 30 s"),
    ],
)
def test_comparison_is_a_sentence(seconds: float | None, earlier: list[float], words: str) -> None:
    assert words in scorecard.compared(compare.recovery(seconds, earlier), seconds)


seconds = st.floats(0, 1e6) | st.none()


@given(
    st.lists(st.tuples(seconds, seconds), min_size=1, max_size=4),
    st.lists(st.floats(-1e4, 1e6), max_size=12),
    st.floats(0, 1e6),
)
def test_chart_stays_within_its_frame(
    phases: list[tuple[float | None, float | None]], events: list[float], ended: float
) -> None:
    drawing = charts.timeline(
        "x",
        [charts.Phase("x", *each) for each in phases],
        [("x", [charts.Event(at, number) for number, at in enumerate(events, 1)])],
        ended,
    )
    checked(drawing)
    for svg in re.findall(r"<svg.*?</svg>", drawing, re.S):
        width = float(re.findall(r'viewBox="0 0 (\d+)', svg)[0])
        places = [float(each) for each in re.findall(r' (?:x|x1|x2)="([^"]+)"', svg)]
        # Marks that would cover each other move to the right.
        room = width + 18 * len(events)
        assert all(0 <= place <= room for place in places)
        assert all(float(each) >= 0 for each in re.findall(r' width="([^"]+)"', svg))
        assert "nan" not in svg


def test_files_are_private_and_written_only_if_they_differ(tmp_path: Path) -> None:
    directory = saved(tmp_path, record())
    written = cards.write(tmp_path, "drill-2026-11-24-1", dry=True)
    assert [path.name for path in written.changed] == list(FILES)
    assert not (directory / FILES[0]).exists()
    cards.write(tmp_path, "drill-2026-11-24-1", dry=False)
    assert {(directory / name).stat().st_mode & 0o777 for name in FILES} == {0o600}
    before = {name: (directory / name).read_bytes() for name in FILES}
    assert cards.write(tmp_path, "drill-2026-11-24-1", dry=False).changed == ()
    for name in FILES:
        (directory / name).unlink()
    cards.write(tmp_path, "drill-2026-11-24-1", dry=False)
    assert before == {name: (directory / name).read_bytes() for name in FILES}
    assert json.loads(before["scorecard.json"])["schema"] == scorecard.SCHEMA


def test_scorecard_compares_with_the_other_records(tmp_path: Path) -> None:
    for number in range(1, 7):
        saved(tmp_path, record(id=f"drill-{number}", started=f"2026-11-0{number}T06:00:00Z"))
    saved(tmp_path, record(times={"recover": 150.0}))
    written = cards.write(tmp_path, "drill-2026-11-24-1", dry=True)
    assert written.card["recovery"] == {"earlier": 6, "median": 50.0, "limit": 62.5, "slower": True}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"outcome": "running"}, "has not ended"),
        ({"scenario": "of_a_later_version"}, "has the scenario 'of_a_later_version'"),
    ],
)
def test_drill_that_cannot_be_scored_is_refused(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    saved(tmp_path, record(**changes))
    with pytest.raises(archive.RecordError, match=why):
        cards.write(tmp_path, "drill-2026-11-24-1", dry=False)


def test_every_scenario_of_the_tests_exists() -> None:
    assert SCENARIO.name in SCENARIOS
