"""Playbooks really run with a program in the place of ssh: what the inventory says of a host reaches it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
INVENTORY = {
    "ansible_host": "192.0.2.1",
    "ansible_port": 2222,
    "ansible_user": "ops",
    "ansible_become": True,
    "ansible_become_user": "keeper",
    "ansible_python_interpreter": sys.executable,
    "ansible_ssh_args": "-o ProxyJump=bastion",
    "ansible_ssh_common_args": "-o UserKnownHostsFile=/srv/known",
    "ansible_ssh_extra_args": "-o Compression=yes",
    "ansible_ssh_timeout": 33,
}


def connect(directory: Path, playbook: str, **variables: object) -> str:
    """The arguments of the first ssh that a playbook starts, by an inventory and no ansible.cfg."""
    told = directory / "told"
    program = directory / "ssh"
    program.write_text(f'#!/bin/sh\nprintf "%s " "$@" >> {told}\necho >> {told}\nexit 255\n')
    program.chmod(0o755)
    given = {**INVENTORY, "ansible_ssh_executable": str(program), **variables}
    host = {name: value for name, value in given.items() if value is not None}
    inventory = directory / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"katago": {"hosts": {"katago-1": host}}}))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ansible", "playbook", f"--inventory={inventory}"),
            str(ROOT / "playbooks" / playbook),
        ],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.exists(), done.stdout + done.stderr
    return told.read_text().splitlines()[0]


@pytest.mark.parametrize("playbook", ["triage.yml", "restart.yml"])
def test_host_is_reached_as_its_inventory_says(tmp_path: Path, playbook: str) -> None:
    told = connect(tmp_path, playbook)
    for expected in (
        *("ProxyJump=bastion", "UserKnownHostsFile=/srv/known", "Compression=yes"),
        *("ConnectTimeout=33", "Port=2222", 'User="ops"', "192.0.2.1", "sudo", "-u keeper"),
        "ServerAliveInterval",
    ):
        assert expected in told, told


def test_triage_shares_no_connection_and_other_procedures_may(tmp_path: Path) -> None:
    persisting = {"ansible_ssh_args": "-o ControlPersist=60s"}
    (tmp_path / "triage").mkdir()
    (tmp_path / "restart").mkdir()
    assert "ControlPath=none" in connect(tmp_path / "triage", "triage.yml", **persisting)
    assert "ControlPath=none" not in connect(tmp_path / "restart", "restart.yml", **persisting)


def test_triage_gives_up_soon_where_the_inventory_says_nothing_else(tmp_path: Path) -> None:
    assert "ConnectTimeout=8" in connect(tmp_path, "triage.yml", ansible_ssh_timeout=None)


@pytest.mark.parametrize(("pipelining", "copies"), [(True, False), (False, True)])
def test_modules_are_copied_to_a_host_only_where_the_inventory_says_so(
    tmp_path: Path, pipelining: bool, copies: bool
) -> None:
    told = connect(tmp_path, "triage.yml", ansible_pipelining=pipelining)
    # Before it copies, Ansible asks for the home directory.
    assert ("echo ~ops" in told) is copies
