"""Records and locks name the person, also where several people share an account."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.run import actors, commands

ROOT = Path(__file__).resolve().parents[3]
MODULE = "ansible_collections.katago.fleet.plugins.plugin_utils.run.actors"
PRINT = f"import os; from {MODULE} import actor, session; print(actor()); print(session(os.getpid()))"


def who(wrapper: tuple[str, ...] = (), **environment: str) -> str:
    """What a process with this environment, or one below a wrapper that clears it, calls its person."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SSH_", "SUDO_"))}
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", PRINT],
        env={**kept, "PYTHONPATH": str(ROOT / "collections"), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[0]


def test_person_behind_sudo_is_named() -> None:
    assert who(SUDO_USER="berta").startswith("berta@")


def test_two_people_of_one_account_are_told_apart_by_where_they_come_from() -> None:
    first = who(SSH_CONNECTION="10.0.0.7 50000 10.0.0.1 22")
    second = who(SSH_CONNECTION="fd00::8 50001 fd00::1 22")
    assert first.endswith(" from 10.0.0.7")
    assert second.endswith(" from fd00::8")
    assert first.partition(" ")[0] == second.partition(" ")[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read what sudo removed")
def test_address_is_found_behind_sudo_which_removes_it() -> None:
    path = f"PYTHONPATH={ROOT / 'collections'}"
    clear = f'env -i {path} SUDO_USER=berta "$@"; exit $?'
    name = who(("sh", "-c", clear, "sh"), SSH_CONNECTION="10.0.0.7 50000 10.0.0.1 22")
    assert name.startswith("berta@")
    assert name.endswith(" from 10.0.0.7")


def test_process_and_terminal_are_named() -> None:
    pid, terminal = pty.fork()
    if not pid:
        os.execv("/bin/sh", ["sh", "-c", "echo ready; exec sleep 60"])  # noqa: S606 - the words are fixed
    try:
        assert os.read(terminal, 5) == b"ready"
        name = Path(f"/proc/{pid}/fd/0").readlink().relative_to("/dev")
        assert str(name).startswith("pts/")
        assert actors.session(pid) == f"terminal {name}, process {pid}"
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert actors.session(4194305) == "no terminal, process 4194305"


def test_command_that_breaks_a_lock_repeats_the_inputs_that_may_be_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extra = {"why": "the disk is 'slow'", "visits": 200, "katago_mcp_tokens": "secret", "break_lock": "old"}
    monkeypatch.setattr(commands, "load_extra_vars", lambda loader: extra)
    command = commands.again("mitigate", "katago-1", {"break_lock": "5e1f00d1"})
    words = shlex.split(command)
    assert words[:4] == ["ansible-playbook", "playbooks/mitigate.yml", "-l", "katago-1"]
    assert json.loads(words[5]) == {"why": "the disk is 'slow'"}
    assert words[6:] == ["-e", "visits=200", "-e", "break_lock=5e1f00d1"]
    assert "old" not in command
    assert "secret" not in command
