"""The playbooks and the module that score drills, on this machine; the hosts are unreachable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.plugin_utils.drill import tabletop
from tests.unit.drill.recorded_drills import record, saved

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory of records with two drills and a damaged one."""
    records = tmp_path / "records"
    saved(records, record())
    saved(records, record(id="drill-2026-11-20-1", started="2026-11-20T06:00:00Z", mode="unattended"))
    saved(records, record(id="drill-x") | {"schema": 7})
    return records


def play(root: Path, playbook: str, *arguments: str, **inputs: str) -> subprocess.CompletedProcess[str]:
    gone = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh"}
    hosts = dict.fromkeys(("katago-1", "katago-2"), gone)
    inventory = root.parent / "inventory.yml"
    inventory.write_text(
        yaml.safe_dump({"katago": {"hosts": hosts, "vars": {"katago_records_dir": str(root)}}})
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    extra = [part for name, value in inputs.items() for part in ("-e", json.dumps({name: value}))]
    command = [sys.executable, "-m", "ansible", "playbook", f"--inventory={inventory}", playbook]
    return subprocess.run(
        [*command, *extra, *arguments],
        cwd=ROOT,
        env=environment | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )


def words(run: subprocess.CompletedProcess[str]) -> str:
    return " ".join((run.stdout + run.stderr).split())


def scored(root: Path, drill: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the module in a playbook, and show its result."""
    task: dict[str, Any] = {"records_dir": str(root), "drill": drill}
    tasks = [
        {"katago.fleet.drill_scorecard": task, "register": "scored"},
        {"ansible.builtin.debug": {"msg": "{{ scored.score }}, {{ scored.paths | length }} files"}},
    ]
    playbook = root.parent / "score.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "katago-1", "gather_facts": False, "tasks": tasks}]))
    return play(root, str(playbook), *arguments)


def test_module_scores_a_drill(root: Path) -> None:
    directory = root / "drills" / "drill-2026-11-24-1"
    predicted = scored(root, directory.name, "--check")
    assert "changed=1" in predicted.stdout, words(predicted)
    assert not (directory / "scorecard.json").exists()
    run = scored(root, directory.name)
    assert run.returncode == 0, words(run)
    assert "Score: 100 of 100." in words(run)
    assert "100, 3 files" in words(run)
    assert "drills/drill-x/drill.json is not counted: schema is 7" in words(run)
    assert json.loads((directory / "scorecard.json").read_text())["score"] == 100
    assert "changed=0" in scored(root, directory.name).stdout


def test_module_refuses_a_damaged_record_and_leaves_it(root: Path) -> None:
    before = (root / "drills" / "drill-x" / "drill.json").read_bytes()
    run = scored(root, "drill-x")
    assert run.returncode == 2
    assert "The drill cannot be scored. drills/drill-x/drill.json is not counted" in words(run)
    assert [path.name for path in (root / "drills" / "drill-x").iterdir()] == ["drill.json"]
    assert (root / "drills" / "drill-x" / "drill.json").read_bytes() == before


def test_report_of_the_newest_drill_is_written_for_its_month_and_quarter(root: Path) -> None:
    run = play(root, "playbooks/drill_report.yml")
    assert run.returncode == 0, words(run)
    names = sorted(path.name for path in (root / "reports").iterdir())
    assert names == [
        f"drills-{period}.{kind}" for period in ("2026-11", "2026Q4") for kind in ("html", "json", "md")
    ]
    assert "OVERDUE Never drilled: " in words(run)
    assert "drills/drill-x/drill.json is not counted: schema is 7" in words(run)
    content = {path.name: path.read_bytes() for path in (root / "reports").iterdir()}
    assert json.loads(content["drills-2026-11.json"])["outcomes"] == {"passed": 2}
    assert (root / "reports" / "drills-2026-11.html").stat().st_mode & 0o777 == 0o600
    again = play(root, "playbooks/drill_report.yml")
    assert "Nothing changed: all files are up to date." in words(again)
    assert {path.name: path.read_bytes() for path in (root / "reports").iterdir()} == content


def test_invalid_period_is_refused(root: Path) -> None:
    run = play(root, "playbooks/drill_report.yml", month="November")
    assert run.returncode == 2
    assert "-e month is 'November'. Give a month such as 2026-11." in words(run)
    assert not (root / "reports").exists()


def test_quarterly_report_includes_drills(root: Path) -> None:
    run = play(root, "playbooks/report_quarter.yml", quarter="2026Q4")
    assert run.returncode == 0, words(run)
    part = (root / "reports" / "2026Q4.md").read_text().partition("## Drills")[2]
    assert "2 drills: 2 passed." in part
    assert "## Unreadable records\n\n- drills/drill-x/drill.json is not counted" in part


def test_tabletop_drill_is_shown_recorded_and_marked(root: Path) -> None:
    playbook = "playbooks/drill_tabletop.yml"
    predicted = play(root, playbook, "--check", scenario="service_down", participants="Anna; Bo")
    assert predicted.returncode == 0, words(predicted)
    assert tabletop.NOTICE in words(predicted)
    before = set((root / "drills").iterdir())
    run = play(root, playbook, scenario="service_down", participants="Anna; Bo")
    assert run.returncode == 0, words(run)
    assert "katago-mcp.service is failed" in words(run)
    assert "What was the cause" in words(run)
    assert "The process was killed" not in words(run)
    (directory,) = set((root / "drills").iterdir()) - before
    kept = json.loads((directory / "drill.json").read_text())
    assert (kept["mode"], kept["participants"]) == ("tabletop", ["Anna", "Bo"])
    assert date.fromisoformat(directory.name.removeprefix("drill-")[:10])
    marked = play(root, playbook, drill=directory.name, answers="first=right; cause=partly: not the signal")
    assert marked.returncode == 0, words(marked)
    assert "The process was killed" in words(marked)
    assert "Score: 75 of 100." in words(marked)
    assert json.loads((directory / "scorecard.json").read_text())["score"] == 75
    assert json.loads((directory / "drill.json").read_text())["answers"] == {
        "first": "right",
        "cause": "partly: not the signal",
    }


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ({"scenario": "service_dwn", "participants": "Anna"}, "Did you mean service_down?"),
        ({"drill": "drill-2026-11-20-1"}, "was unattended, so nobody is asked about it"),
        (
            {"drill": "drill-2026-11-24-1", "answers": "cause=maybe"},
            "The mark is one of right, partly, wrong",
        ),
    ],
)
def test_invalid_input_of_a_tabletop_drill_changes_nothing(
    root: Path, inputs: dict[str, str], why: str
) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    run = play(root, "playbooks/drill_tabletop.yml", **inputs)
    assert run.returncode == 2
    assert why in words(run)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
