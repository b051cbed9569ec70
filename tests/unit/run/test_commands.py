"""Proposed commands have the form that the operator used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.reports import triage_table
from ansible_collections.katago.fleet.plugins.plugin_utils.run import commands

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(commands.FLEET_COMMAND, "bin/fleet")


@pytest.fixture(autouse=True)
def in_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv(commands.FLEET_COMMAND, raising=False)


TEXTS = [
    (
        "Next: ansible-playbook playbooks/restart.yml -l katago-1 -e force=true",
        "Next: bin/fleet restart -i there -l katago-1 --force",
    ),
    (
        "Run `ansible-playbook playbooks/restore.yml -e scope=state`.",
        "Run `bin/fleet restore -i there --scope state`.",
    ),
    (
        "ansible-playbook playbooks/security_off.yml -l a -e 'why=\"the reason\"'",
        'bin/fleet security off -i there -l a --why "the reason"',
    ),
    (
        "ansible-playbook playbooks/incident_update.yml -e incident=2026-1 -e next_steps=wait",
        "bin/fleet incident update -i there --incident 2026-1 --next-steps wait",
    ),
    (
        "ansible-playbook playbooks/purge_cache.yml -e replace_engine=false.",
        "bin/fleet purge-cache -i there --no-replace-engine.",
    ),
    (
        "ansible-playbook playbooks/backup.yml -e backup_initialize=true",
        "bin/fleet backup -i there -e backup_initialize=true",
    ),
    (
        "mitigate needs -e why: the reason. -e visits is 'x'",
        "mitigate needs --why: the reason. --visits is 'x'",
    ),
    ("a text with -e in it, and semi-e force=true", "a text with -e in it, and semi-e force=true"),
    ("ansible-playbook playbooks/own.yml -l a", "ansible-playbook playbooks/own.yml -l a"),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
@pytest.mark.usefixtures("fleet")
def test_user_of_the_fleet_command_gets_its_form(text: str, expected: str) -> None:
    assert commands.as_run_here(text, ["there"]) == expected
    assert commands.as_run_here(expected, ["there"]) == expected


@pytest.mark.parametrize("text", [text for text, _ in TEXTS])
def test_user_of_ansible_playbook_keeps_its_form(text: str) -> None:
    rendered = commands.as_run_here(text, ["there"])
    assert rendered.replace("ansible-playbook -i there", "ansible-playbook") == text
    assert commands.as_run_here(rendered, ["there"]) == rendered


@pytest.mark.usefixtures("fleet")
def test_next_step_of_triage_has_the_form_too() -> None:
    command = triage_table.command("restart.yml -e force=true", "katago-1", ["-i", "there"])
    assert command == "bin/fleet restart -i there -l katago-1 --force"


def test_run_by_the_fleet_command_proposes_it_and_shows_a_refusal_once(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts"
    inventory.write_text("[katago]\nkatago-1 ansible_connection=local\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(
        [str(ROOT / "bin" / "fleet"), "incident", "update", "-i", str(inventory)],
        cwd=tmp_path,
        env={**environment, "PYTHON": sys.executable, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout.count("No incident is open.") == 1
    assert f"Open one with {ROOT}/bin/fleet incident open -i hosts." in done.stdout
