"""The documentation matches the code: references, playbooks, rows of the runbook, links."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_command, procedures
from tests import selection

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = [f"{name}.yml" for name in procedures.PROCEDURES]
README = (ROOT / "README.md").read_text()
ROLES = (ROOT / "docs" / "reference" / "roles.md").read_text()
PROCEDURES = (ROOT / "docs" / "procedures.md").read_text()
BENCHMARKS = (ROOT / "docs" / "benchmarks.md").read_text()
USAGE_OF_BENCH = (ROOT / "bin" / "bench").read_text()
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "server" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ROWS = range(1, 44)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_reference_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "collections"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("procedure", procedures.PROCEDURES.values(), ids=lambda each: each.name)
def test_every_procedure_is_in_the_readme(procedure: procedures.Procedure) -> None:
    assert re.search(rf"`bin/fleet {' '.join(procedure.command)}(?![\w-])", README)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_bin_fleet_are_valid(page: Path) -> None:
    for command in re.findall(r"(?:`|^\$ )bin/fleet ([^`#\n]+)", page.read_text(), re.M):
        words = shlex.split(command)
        if not {"--help", "PROCEDURE"} & set(words):
            fleet_command.command_line(*fleet_command.find(words))


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_every_playbook_is_in_the_runbook(playbook: str) -> None:
    assert f"playbooks/{playbook}" in RUNBOOK


@pytest.mark.parametrize("role", sorted(path.name for path in (ROOT / "roles").iterdir()))
def test_every_role_is_in_the_reference(role: str) -> None:
    assert re.search(rf"^##+ {role}(:|$)", ROLES, re.M)


def test_variables_of_the_fleet_are_in_the_reference() -> None:
    defaults = "".join(path.read_text() for path in (ROOT / "roles").glob("*/defaults/main.yml"))
    assert set(re.findall(r"\bfleet_\w+(?= \| default)", defaults)) <= set(
        re.findall(r"^\| `(\w+)`", ROLES, re.M)
    )


def test_procedures_without_evidence_are_listed() -> None:
    paragraph = PROCEDURES.partition("but keep no evidence")[0].rpartition("\n\n")[2]
    lock_only = {
        path.name
        for path in (ROOT / "playbooks").glob("*.yml")
        if {"none"} == set(re.findall(r"^    procedure_evidence_tier: (\w+)$", path.read_text(), re.M))
    }
    # Only the backups of site.yml keep none. The text explains replace_host.yml separately.
    assert set(re.findall(r"`(\w+\.yml)`", paragraph)) == lock_only - {"site.yml", "replace_host.yml"}


def test_procedures_that_contact_no_host_are_listed() -> None:
    paragraph = PROCEDURES.partition("Procedures that contact no host")[2].partition("\n\n")[0]
    playbooks = {
        name
        for name in procedures.PROCEDURES
        if "contacts=false" in (ROOT / "playbooks" / f"{name}.yml").read_text()
    }
    # A game day runs procedures that contact hosts.
    assert set(re.findall(r"`(\w+)\.yml`", paragraph)) - {"incident_open"} == playbooks - {"drill_game_day"}


def test_every_test_is_documented() -> None:
    assert set(selection.TESTS) <= set(re.findall(r"`bin/test (\w+)`", BENCHMARKS))


def test_every_benchmark_is_in_the_usage() -> None:
    names = {
        path.stem for path in (ROOT / "tests" / "bench").glob("*.py") if "def measure(" in path.read_text()
    }
    assert names <= set(re.findall(r"\w+", "".join(re.findall(r"^#   .*$|^# .*$", USAGE_OF_BENCH, re.M))))
    assert names <= set(re.findall(r"`bin/bench (\w+)`", BENCHMARKS))


def test_runbook_has_every_row_once() -> None:
    rows = re.findall(r"^\| (R\d+) \|", RUNBOOK, re.M)
    assert rows == [f"R{number}" for number in ROWS]


def test_every_row_has_a_command_or_is_marked_as_manual() -> None:
    for line in re.findall(r"^\| R\d+ \|.*$", RUNBOOK, re.M):
        command = line.split("|")[3]
        assert "`" in command or "not automated yet" in command, line


def test_commands_of_the_runbook_exist() -> None:
    for playbook in re.findall(r"playbooks/(\w+\.yml)", RUNBOOK):
        assert playbook in PLAYBOOKS


def test_readme_fits_on_three_screens() -> None:
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize(
    "page",
    [*PAGES, *sorted((ROOT / "docs" / "reference").glob("*.md"))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_cells_of_tables_are_short(page: Path) -> None:
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    cells = [cell.strip() for row in rows for cell in re.split(r"(?<!\\)\|", row)]
    assert [cell for cell in cells if len(cell) > 120] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if "://" not in link and (not target.exists() or (anchor and anchor not in anchors(target))):
            broken.append(link)
    assert broken == []


def test_every_module_has_an_example_that_uses_it() -> None:
    for path in (ROOT / "plugins" / "modules").glob("*.py"):
        example = re.search(r'EXAMPLES = r"""\n(.*?)"""', path.read_text(), re.S)
        assert example, path
        (task,) = yaml.safe_load(example[1])
        assert f"katago.fleet.{path.stem}" in task
