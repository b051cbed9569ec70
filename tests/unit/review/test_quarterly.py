"""The quarterly report and the overdue list. The playbooks run on this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.plugin_utils.review import blocks, quarterly, records
from ansible_collections.katago.fleet.plugins.plugin_utils.review.quarterly import Quarter
from tests import recorded

ROOT = Path(__file__).resolve().parents[3]
Q4 = Quarter(2026, 4)


def add(root: Path, name: str, file: str, at: str, **line: object) -> None:
    path = root / "incidents" / name / file
    recorded.write_lines(path, [(recorded.at("09:00", at), line)])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three months of records."""
    recorded.quarter(tmp_path / "records")
    return tmp_path / "records"


def report(root: Path, as_of: str = "2026-12-31", roster: object = None, quarter: Quarter = Q4) -> str:
    found = records.read_all(root)
    return blocks.as_markdown(quarterly.build(found, quarter, date.fromisoformat(as_of), roster))


@given(st.dates(date(2000, 1, 1), date(2099, 12, 31)))
def test_every_day_is_in_exactly_one_quarter(day: date) -> None:
    quarter = quarterly.of_day(day)
    assert quarter.first <= day <= quarter.last
    assert quarterly.parse(quarter.name) == quarter
    assert quarter.after.before == quarter.before.after == quarter
    assert (quarter.first - quarter.before.last).days == 1


@pytest.mark.parametrize("text", ["2026", "2026Q5", "Q42026", "1999Q1", "2026Q4 "])
def test_invalid_quarter_is_refused(text: str) -> None:
    with pytest.raises(quarterly.QuarterError, match="Give a quarter such as 2026Q4"):
        quarterly.parse(text)


def test_report_is_the_same_for_the_same_records(root: Path) -> None:
    assert report(root) == report(root)


def test_later_records_do_not_change_the_report(root: Path) -> None:
    before = report(root)
    name, state = "2026-12-01-1", "state.jsonl"
    later = "2027-01-02"
    add(root, name, state, later, event="joined", severity="P0", severity_by="Bo", findings=[], lead="Bo")
    add(root, name, state, later, event="escalated", to="senior", why="it lasts")
    add(root, name, state, later, event="overdue", due="2026-12-01T12:00:00Z")
    add(root, name, "timeline.jsonl", later, host="katago-1", procedure="restart", result="ok")
    add(root, name, state, "2027-01-03", event="closed", resolution="repaired")
    assert report(root) == before
    assert "repaired" not in before
    after = report(root, "2027-01-03")
    assert after.count("| P0 | 2 |") == 1


def test_report_as_of_an_earlier_day_ignores_later_records(root: Path) -> None:
    found = report(root, "2026-11-09")
    assert "(before the end of the quarter)" in found
    assert "2026-12-01-1" not in found
    assert "backup" not in found
    assert "2 open, 0 of them overdue. 1 done or dropped in this quarter." in found
    assert "3 open, 0 of them overdue. 0 done" in report(root, "2026-11-08")


def incident_of(root: Path, name: str, started: str, opened: str) -> None:
    event = {"event": "opened", "id": name, "severity": "P1", "severity_by": "Bo", "worst": "P1"}
    line = {"at": opened, "who": "Bo", **event, "started": started, "respond_by": opened}
    path = root / "incidents" / name / "state.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(f"{json.dumps(line)}\n")


def listed(found: str, heading: str = "All incidents") -> list[str]:
    """The incidents that a report lists under a heading."""
    part = found.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [line.split(" | ")[0].removeprefix("| ") for line in part.splitlines() if line.startswith("| i-")]


def test_every_incident_is_in_one_quarterly_report_and_the_totals_agree(tmp_path: Path) -> None:
    incident_of(tmp_path, "i-1", "2026-12-31T23:50:00Z", "2027-01-01T00:10:00Z")
    incident_of(tmp_path, "i-2", "2026-12-31T23:50:00Z", "2026-12-31T23:59:59Z")
    incident_of(tmp_path, "i-3", "2026-08-01T00:00:00Z", "2027-01-01T00:00:00Z")
    incident_of(tmp_path, "i-4", "2026-10-01T00:00:00Z", "2026-10-01T00:00:00Z")
    expected = {"2026Q2": [], "2026Q3": [], "2026Q4": ["i-2", "i-4"], "2027Q1": ["i-1", "i-3"], "2027Q2": []}
    before = 0
    for name, incidents in expected.items():
        quarter = quarterly.parse(name)
        found = report(tmp_path, str(quarter.last), quarter=quarter)
        assert sorted(listed(found)) == sorted(listed(found, "Reviews")) == incidents
        assert f"| Total | {len(incidents)} | {before} |" in found
        assert f"| Incidents | {len(incidents)} | {before} |" in found
        before = len(incidents)


def test_response_times_are_compared_with_the_runbooks_deadlines(root: Path) -> None:
    state = root / "incidents" / "2026-10-05-1" / "state.jsonl"
    state.write_text(state.read_text().replace('"lead": "Anna", ', ""))
    found = report(root)
    row = next(line for line in found.splitlines() if line.startswith("| 2026-10-05-1 | P0"))
    assert "| unknown | 5 min | missed | 25 min |" in row
    assert "| P0 | 1 | 0 | 5 min | 0 of 1 |" in found


def test_drill_stored_with_the_incidents_is_not_an_incident(root: Path) -> None:
    state = root / "incidents" / "2026-10-05-1" / "state.jsonl"
    state.write_text(state.read_text().replace('"event": "opened"', '"event": "opened", "drill": true'))
    found = report(root)
    assert "| Total | 2 | 1 |" in found
    assert "2026-10-05-1" in found.partition("## Drills")[2].partition("##")[0]


def test_unreadable_records_are_listed(root: Path) -> None:
    (root / "incidents" / "2026-10-05-1" / "state.jsonl").write_text("damaged\n")
    (root / "incidents" / recorded.INCIDENT / "answers.yml").write_text("lead: [x]\n")
    found = report(root).partition("## Unreadable records")[2]
    assert "incidents/2026-10-05-1/state.jsonl, line 1 of 1 is damaged" in found
    assert f"incidents/{recorded.INCIDENT}/answers.yml, line 1: lead must be text" in found


@pytest.mark.parametrize(
    ("roster", "words"),
    [
        (None, "No contacts are configured"),
        ({"contacts": {"senior": {"name": "Bo"}}}, "which is not a date"),
        (recorded.ROSTER, "1 contact, to be verified by 2026-10-31: overdue."),
        ({**recorded.ROSTER, "verify_by": "2027-01-31"}, "1 contact, to be verified by 2027-01-31."),
    ],
)
def test_overdue_verification_of_contacts_is_reported(root: Path, roster: object, words: str) -> None:
    found = report(root, roster=roster)
    assert words in found
    assert "bo@go.net" not in found


def test_report_without_records_is_empty(tmp_path: Path) -> None:
    found = report(tmp_path)
    assert "No incidents." in found
    assert "| Total | 0 | 0 |" in found


def play(root: Path, playbook: str, *arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook with unreachable hosts."""
    gone = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh"}
    variables = {"katago_records_dir": str(root), "incident_roster": recorded.ROSTER}
    inventory = root.parent / "inventory.yml"
    hosts = dict.fromkeys(recorded.FLEET, gone)
    inventory.write_text(yaml.safe_dump({"katago": {"hosts": hosts, "vars": variables}}))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "ansible",
                "playbook",
                f"--inventory={inventory}",
                f"playbooks/{playbook}",
            ),
            *(part for name, value in given.items() for part in ("-e", f"{name}={value}")),
            *arguments,
        ],
        cwd=ROOT,
        env=environment | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )


def words(run: subprocess.CompletedProcess[str]) -> str:
    return " ".join((run.stdout + run.stderr).split())


def test_review_needs_no_host_and_is_not_in_the_timeline(root: Path) -> None:
    directory = root / "incidents" / recorded.INCIDENT
    timeline = (directory / "timeline.jsonl").read_bytes()
    run = play(root, "review.yml", incident=recorded.INCIDENT)
    assert run.returncode == 0, words(run)
    assert f"{recorded.INCIDENT}: the review is complete." in words(run)
    assert (directory / "review.md").read_text() == (recorded.GOLDEN / "review.md").read_text()
    assert (directory / "review.html").stat().st_mode & 0o777 == 0o600
    assert (directory / "timeline.jsonl").read_bytes() == timeline
    again = play(root, "review.yml", incident=recorded.INCIDENT)
    assert "Nothing changed: all files are up to date." in words(again)
    assert "changed=0" in again.stdout


def test_open_questions_and_an_overdue_review_are_reported(root: Path) -> None:
    (root / "incidents" / recorded.INCIDENT / "answers.yml").unlink()
    run = play(root, "review.yml", incident=recorded.INCIDENT)
    assert run.returncode == 0, words(run)
    assert (
        "the review is open. Responsible: Anna, due by 2026-11-05T02:36:00Z. OVERDUE. Still missing:"
        in words(run)
    )
    assert "What allowed it to happen?" in run.stdout


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "review needs -e incident: the incident to review."),
        ({"incident": "nope"}, "There is no incident 'nope'. Recorded incidents: 2026-08-12-1"),
        ({"incident": "../up"}, "the incident's id is '../up'"),
        ({"incident": recorded.INCIDENT, "review_rostr": "x"}, "Did you mean review_roster?"),
    ],
)
def test_invalid_input_of_the_review_is_refused(root: Path, given: dict[str, str], told: str) -> None:
    run = play(root, "review.yml", **given)
    assert run.returncode == 2
    assert told in words(run)


def test_invalid_answers_leave_the_review_unchanged(root: Path) -> None:
    answers = root / "incidents" / recorded.INCIDENT / "answers.yml"
    answers.write_text(answers.read_text().replace("High", "Urgent"))
    run = play(root, "review.yml", incident=recorded.INCIDENT)
    assert run.returncode == 2
    assert f"{recorded.INCIDENT}/answers.yml, line 15: action_items[1].priority is 'Urgent'" in words(run)
    assert not (answers.parent / "review.md").exists()


def test_overdue_items_are_printed_and_fail_the_run(root: Path) -> None:
    for day in ("2026-08-12-1", "2026-10-05-1"):
        (root / "incidents" / day / "answers.yml").write_text("no_action_items: none is needed\n")
    run = play(root, "report_actions.yml", as_of="2026-11-21")
    assert run.returncode == 2
    item = (
        f"OVERDUE {recorded.INCIDENT}: Limit threads by the host's memory (owner Anna, due 2026-11-20, High)"
    )
    assert item in words(run)
    assert "OVERDUE 2026-10-05-1: review (responsible Anna, due 2026-10-07T10:25:00Z)" in words(run)
    assert "As of 2026-11-21: 2 action items open, 1 overdue; 2 reviews overdue." in words(run)


def test_run_succeeds_if_nothing_is_overdue(root: Path) -> None:
    for day in ("2026-08-12-1", "2026-10-05-1", "2026-12-01-1"):
        (root / "incidents" / day / "state.jsonl").unlink()
    run = play(root, "report_actions.yml", as_of="2026-11-20")
    assert run.returncode == 0, words(run)
    assert "As of 2026-11-20: 2 action items open, 0 overdue; 0 reviews overdue." in words(run)


def test_unreadable_records_fail_the_run(root: Path) -> None:
    for path in root.glob("incidents/*/state.jsonl"):
        path.write_text("damaged\n")
    run = play(root, "report_actions.yml")
    assert run.returncode == 2
    assert "Some records could not be read and may contain more overdue entries." in words(run)


def test_report_of_a_quarter_is_rebuilt_byte_for_byte(root: Path) -> None:
    predicted = play(root, "report_quarter.yml", "--check", quarter="2026Q4")
    assert "Would write " in words(predicted)
    assert not (root / "reports").exists()
    run = play(root, "report_quarter.yml", quarter="2026Q4", as_of="2026-12-31")
    assert run.returncode == 0, words(run)
    for name in ("2026Q4.md", "2026Q4.html"):
        assert (root / "reports" / name).read_text() == (recorded.GOLDEN / name).read_text()
    again = play(root, "report_quarter.yml", quarter="2026Q4", as_of="2026-12-31")
    assert "changed=0" in again.stdout
    assert "As of" in (root / "reports" / "2026Q4.md").read_text()


def test_default_day_of_an_unfinished_quarter_is_that_of_the_newest_record(root: Path) -> None:
    assert quarterly.default_as_of(records.read_all(root), Q4) == date(2026, 12, 1)
    assert quarterly.default_as_of(records.read_all(root), Quarter(2026, 3)) == date(2026, 9, 30)


@pytest.mark.parametrize(
    ("report", "given", "message"),
    [
        ("quarter", {"quarter": "winter"}, "-e quarter is 'winter'. Give a quarter such as 2026Q4."),
        ("quarter", {"quarter": "2026Q4", "as_of": "2026-01-01"}, "but 2026Q4 starts on 2026-10-01"),
        ("actions", {"as_of": "today"}, "-e as_of is 'today'; give a day"),
        ("actions", {"quarter": "2026Q4"}, "-e quarter is not an input of report_actions"),
        ("quarter", {"quartr": "2026Q4"}, "Did you mean quarter?"),
    ],
)
def test_report_that_cannot_be_made_is_refused(
    root: Path, report: str, given: dict[str, str], message: str
) -> None:
    run = play(root, f"report_{report}.yml", **given)
    assert run.returncode == 2
    assert re.search("Refused; nothing was (written|changed)", words(run))
    assert message in words(run)
