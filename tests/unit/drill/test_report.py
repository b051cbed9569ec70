"""The report on drills and its part of the quarterly report."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.plugin_utils.drill import archive, report, trends
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Record
from ansible_collections.katago.fleet.plugins.plugin_utils.review import blocks, quarterly
from tests import recorded
from tests.unit.drill.recorded_drills import SCENARIO, record, saved

NOVEMBER = report.Month(2026, 11)
SCENARIOS = {
    "bad_release": SCENARIO,
    "cache_corrupted": replace(SCENARIO, name="cache_corrupted", level="P2"),
}


def drill(day: str, number: int = 1, **changes: Any) -> Record:
    started, ended = f"{day}T06:00:00Z", f"{day}T06:10:00Z"
    return record(id=f"drill-{day}-{number}", started=started, ended=ended, **changes)


def built(*drills: Record, as_of: str = "2026-11-30", unread: tuple[str, ...] = ()) -> report.Report:
    ordered = tuple(sorted(drills, key=lambda each: (each["started"], each["id"])))
    whole = archive.Archive(ordered, unread)
    return report.build(whole, SCENARIOS, NOVEMBER, date.fromisoformat(as_of))


def text(*drills: Record, **how: Any) -> str:
    return blocks.as_markdown(report.document(built(*drills, **how)))


@given(st.dates(date(2000, 1, 1), date(2099, 12, 31)))
def test_every_day_is_in_exactly_one_month(day: date) -> None:
    month = report.Month(day.year, day.month)
    assert month.first <= day <= month.last
    assert report.parse_month(month.name) == month
    assert (month.first - month.before.last).days == 1


@pytest.mark.parametrize("name", ["2026", "2026-13", "2026-00", "2026-1", "26-11", "2026-11 "])
def test_invalid_month_is_refused(name: str) -> None:
    with pytest.raises(report.PeriodError, match="Give a month such as 2026-11"):
        report.parse_month(name)


def status(found: report.Report) -> dict[str, bool]:
    return {each.name: each.is_overdue(found.as_of) for each in found.due}


def test_scenario_is_overdue_after_the_interval_of_its_level() -> None:
    drills = drill("2026-10-30"), drill("2026-10-30", 2, scenario="cache_corrupted", level="P2")
    assert status(built(*drills)) == {
        trends.MONTHLY: False,
        "bad_release": False,
        "cache_corrupted": False,
    }
    october = drill("2026-10-29"), drill("2026-08-29", scenario="cache_corrupted", level="P2")
    assert status(built(*october)) == {trends.MONTHLY: True, "bad_release": True, "cache_corrupted": True}
    assert status(built()) == {trends.MONTHLY: True, "bad_release": True, "cache_corrupted": True}


@pytest.mark.parametrize(
    ("changes", "monthly", "scenario"),
    [
        ({}, False, False),
        ({"outcome": "failed"}, False, False),
        ({"outcome": "invalid"}, True, True),
        ({"outcome": "aborted"}, True, True),
        ({"outcome": "running"}, True, True),
        ({"mode": "tabletop"}, True, True),
        ({"mode": "unattended"}, True, False),
        ({"level": "P2"}, True, False),
    ],
)
def test_only_real_drills_count_and_the_monthly_one_needs_people(
    changes: dict[str, Any], monthly: bool, scenario: bool
) -> None:
    found = status(built(drill("2026-11-20", **changes)))
    assert (found[trends.MONTHLY], found["bad_release"]) == (monthly, scenario)


def test_report_counts_the_drills_of_its_period() -> None:
    found = text(
        drill("2026-10-31"),
        drill("2026-11-01", participants=["Anna", "Bo"]),
        drill("2026-11-02", mode="unattended", participants=[]),
        drill("2026-11-03", mode="tabletop", participants=["Anna"]),
        drill("2026-11-04", outcome="invalid", participants=["Cy"]),
        drill("2026-12-01"),
    )
    assert "**4 drills: 3 passed, 1 invalid. 1 overdue.**" in found
    assert "| bad_release | 1 | 2 | 1 | 3 | 0 | 1 | 0 | 100 |" in found
    assert "| Anna | 1 | 1 |" in found
    assert "| Bo | 1 | 0 |" in found
    assert "Cy" not in found
    assert "drill-2026-10-31-1" not in found
    assert "drill-2026-12-01-1" not in found


def test_trend_compares_the_median_with_the_period_before() -> None:
    october = [
        drill(f"2026-10-{day}", times={"recover": float(seconds)})
        for day, seconds in (("10", 30), ("11", 40), ("12", 500))
    ]
    found = text(*october, drill("2026-11-10", times={"recover": 50.0}))
    assert "| bad_release | with people | 1 | 50 s | 40 s | +25 % | 60 s |" in found


def test_drill_that_was_slower_than_usual_is_listed() -> None:
    usual = [drill(f"2026-10-{day}") for day in range(10, 16)]
    slow = drill("2026-11-10", times={"recover": 120.0})
    expected = "drill-2026-11-10-1 (bad_release): 2 min; the median of the last 6 is 50 s, and up to 62.5 s"
    assert expected in text(*usual, slow)
    assert "Slower than usual" not in text(*usual, drill("2026-11-10", times={"recover": 55.0}))


def test_later_drills_do_not_change_the_report() -> None:
    drills = [drill("2026-11-05"), drill("2026-11-20")]
    before = built(*drills, as_of="2026-11-10")
    assert before.records == drills[:1]
    later = [drill("2026-12-05"), drill("2026-11-11", 7)]
    assert built(*drills, *later, as_of="2026-11-10") == before
    assert "(before its end)" in text(*drills, as_of="2026-11-10")


def test_default_day_is_that_of_the_newest_drill_while_the_month_continues() -> None:
    def default(*days: str) -> date:
        return report.default_as_of(archive.Archive(tuple(map(drill, days))), NOVEMBER)

    assert default("2026-11-05", "2026-11-20") == date(2026, 11, 20)
    assert default("2026-11-05", "2026-12-02") == date(2026, 11, 30)
    assert default("2026-10-05") == date(2026, 11, 1)
    assert default() == date(2026, 11, 30)


def test_sealed_scenario_stays_secret_while_its_drill_runs() -> None:
    running = drill("2026-11-20", sealed=True, outcome="running")
    found = built(running)
    whole = blocks.as_markdown(report.document(found)).partition("## By scenario")[2] + report.as_json(found)
    assert "sealed until the end" in whole
    assert '"scenario": "bad_release"' not in whole
    assert "| drill-2026-11-20-1 | sealed until the end |" in whole
    assert "bad_release" in text(drill("2026-11-20", sealed=True)).partition("## By scenario")[2]


def test_drill_of_an_unknown_scenario_is_counted_without_a_score() -> None:
    found = text(drill("2026-11-20", scenario="of_a_later_version"))
    assert (
        "| drill-2026-11-20-1 | of_a_later_version | with people | passed | 4 s | 5 s | 50 s | - |" in found
    )


def test_records_that_are_not_counted_are_named() -> None:
    found = built(unread=("drills/x/drill.json is not counted: it is not JSON.",))
    assert "## Records that are not counted\n\n- drills/x/drill.json" in blocks.as_markdown(
        report.document(found)
    )
    assert json.loads(report.as_json(found))["unread"] == [
        "drills/x/drill.json is not counted: it is not JSON."
    ]


def test_json_has_the_same_figures() -> None:
    content = json.loads(report.as_json(built(drill("2026-11-20"))))
    assert content["outcomes"] == {"passed": 1}
    assert content["drills"][0]["score"] == 100
    assert content["trends"][0]["median_recovery"] == 50.0
    assert content["participants"] == {"Anna": {"person": 1}, "Bo": {"person": 1}}
    assert {each["name"]: each["overdue"] for each in content["due"]} == {
        trends.MONTHLY: False,
        "bad_release": False,
        "cache_corrupted": True,
    }


def test_hostile_texts_are_escaped() -> None:
    hostile = drill("2026-11-20", participants=[recorded.HOSTILE], scenario=recorded.HOSTILE)
    page = blocks.as_html(report.document(built(hostile)), dark=True)
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_report_is_rebuilt_byte_for_byte_from_the_records(tmp_path: Path) -> None:
    drills = [drill(f"2026-{month}-{day}") for month in ("09", "10", "11") for day in ("03", "14", "25")]
    for root, order in ((tmp_path / "a", drills), (tmp_path / "b", drills[::-1])):
        for each in order:
            saved(root, each)
    made = []
    for name in ("a", "b"):
        whole = archive.read_all(tmp_path / name)
        found = report.build(whole, SCENARIOS, quarterly.Quarter(2026, 4), date(2026, 12, 31))
        made.append((report.as_json(found), blocks.as_html(report.document(found), dark=True)))
    assert made[0] == made[1]


def quarter(*drills: Record) -> str:
    whole = archive.Archive(drills)
    found = report.build(whole, SCENARIOS, quarterly.Quarter(2026, 4), date(2026, 12, 31))
    part = report.quarter_blocks(found)
    document = quarterly.build(
        quarterly.Records(), quarterly.Quarter(2026, 4), date(2026, 12, 31), None, part
    )
    return blocks.as_markdown(document).partition("## Drills\n\n")[2].partition("\n\n## ")[0]


def test_quarterly_report_has_count_overdue_and_trend() -> None:
    found = quarter(
        drill("2026-08-10", times={"recover": 30.0}),
        drill("2026-11-10", times={"recover": 45.0}),
        drill("2026-11-11", outcome="aborted"),
    )
    assert found.splitlines() == [
        "**2 drills: 1 passed, 1 aborted. 3 overdue.**",
        "",
        "- Monthly drill with people (P0 or P1): last on 2026-11-10, due on 2026-12-11 (every 31 days)",
        "- bad_release: last on 2026-11-10, due on 2026-12-11 (every 31 days)",
        "- Never drilled: cache_corrupted",
        "",
        "Median recovery: 75 % of the scenario's target (50 % in the period before).",
    ]


def test_quarterly_report_names_slower_recoveries() -> None:
    usual = [drill(f"2026-09-{day}") for day in range(10, 16)]
    found = quarter(*usual, drill("2026-11-10", times={"recover": 120.0}))
    assert "**drill-2026-11-10-1 (bad_release) recovered slower than usual.**" in found


def test_quarterly_report_without_drills_asks_for_one() -> None:
    assert quarter() == "**No scored drills. The runbook asks for a drill every month.**"


def test_newest_drill_makes_the_quarterly_report_later() -> None:
    records = quarterly.Records(times=("2026-11-20T06:00:00Z",))
    assert quarterly.default_as_of(records, quarterly.Quarter(2026, 4)) == date(2026, 11, 20)


def names(month: str = "", quarter: str = "", as_of: str = "") -> list[tuple[str, str]]:
    whole = archive.Archive((drill("2026-11-20"),))
    return [(period.name, str(day)) for period, day in report.periods(whole, month, quarter, as_of)]


def test_period_is_that_of_the_newest_drill_unless_it_is_given() -> None:
    assert names() == [("2026-11", "2026-11-20"), ("2026Q4", "2026-11-20")]
    assert names(as_of="2026-12-31") == [("2026-12", "2026-12-31"), ("2026Q4", "2026-12-31")]
    assert names(month="2026-10") == [("2026-10", "2026-10-31")]
    assert names(quarter="2026Q4", as_of="2026-12-01") == [("2026Q4", "2026-12-01")]


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ({"month": "2026-11", "as_of": "2026-10-01"}, "but 2026-11 starts on 2026-11-01. Give a later day."),
        ({"as_of": "soon"}, "-e as_of is 'soon'. Give a day such as 2026-12-31."),
    ],
)
def test_invalid_day_is_refused(inputs: dict[str, str], why: str) -> None:
    with pytest.raises(report.PeriodError, match=why):
        names(**inputs)


def test_records_without_drills_need_a_period() -> None:
    with pytest.raises(report.PeriodError, match="Give it: -e month=2026-11"):
        report.periods(archive.Archive(), "", "", "")
