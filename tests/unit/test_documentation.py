"""The documents say what the code does: the reference is current, every playbook and row is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = sorted(path.name for path in (ROOT / "playbooks").glob("*.yml"))
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()


def test_reference_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_every_playbook_is_in_the_readme(playbook: str) -> None:
    assert f"playbooks/{playbook}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_every_playbook_is_in_the_runbook(playbook: str) -> None:
    assert f"playbooks/{playbook}" in RUNBOOK


def test_runbook_has_every_row_once() -> None:
    rows = re.findall(r"^\| (R\d+) \|", RUNBOOK, re.M)
    assert rows == [f"R{number}" for number in range(1, 42)]


def test_every_row_has_a_command_or_says_that_it_has_none() -> None:
    for line in re.findall(r"^\| R\d+ \|.*$", RUNBOOK, re.M):
        command = line.split("|")[3]
        assert "`" in command or "not automated yet" in command, line


def test_commands_of_the_runbook_exist() -> None:
    for playbook in re.findall(r"playbooks/(\w+\.yml)", RUNBOOK):
        assert playbook in PLAYBOOKS


def test_scenarios_of_the_readme_are_those_that_there_are() -> None:
    scenarios = {path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")}
    readme = (ROOT / "README.md").read_text()
    assert scenarios <= set(re.findall(r"bin/test (\w+)", readme))


def test_every_example_of_a_module_is_yaml_that_names_it() -> None:
    for path in (ROOT / "plugins" / "modules").glob("*.py"):
        example = re.search(r'EXAMPLES = r"""\n(.*?)"""', path.read_text(), re.S)
        assert example, path
        (task,) = yaml.safe_load(example[1])
        assert f"katago.fleet.{path.stem}" in task
