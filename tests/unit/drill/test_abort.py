"""The abort of drills: the undo is the first thing that happens on the hosts, in one connection to each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
HOSTS = ("katago-1", "katago-2", "lb-1")
# An SSH client that notes its last two arguments in one piece. It runs nothing, and answers for the module.
SSH = """\
#!/bin/sh
for argument; do host=$command command=$argument; done
line=$(echo "$host $command" | tr '\\n' ' ')
echo "$line" >>"$0.log"
cat >/dev/null
echo '{"changed": false, "active": null, "landed": false, "seen": "no drill was on this host"}'
"""


@pytest.fixture(scope="module")
def aborted(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """The output of an abort, and the commands that were run on hosts, each after the host's name."""
    directory = tmp_path_factory.mktemp("abort")
    ssh = directory / "ssh"
    ssh.write_text(SSH)
    ssh.chmod(0o755)
    connection = {"ansible_connection": "ssh", "ansible_ssh_executable": str(ssh)}
    group = {"vars": {**connection, "katago_records_dir": str(directory / "records")}}
    inventory = directory / "inventory.yml"
    inventory.write_text(
        yaml.safe_dump(
            {
                "katago": {"hosts": dict.fromkeys(HOSTS[:2]), **group},
                "load_balancer": {"hosts": dict.fromkeys(HOSTS[2:]), **group},
            }
        )
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    run = subprocess.run(
        [
            *(sys.executable, "-m", "ansible", "playbook"),
            *(f"--inventory={inventory}", "playbooks/drill_abort.yml"),
        ],
        cwd=ROOT,
        env=environment | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout, Path(f"{ssh}.log").read_text().splitlines()


def test_undo_is_the_first_task_after_the_check_of_the_input(aborted: tuple[str, list[str]]) -> None:
    tasks = [line for line in aborted[0].splitlines() if line.startswith("TASK [")]
    assert "Validate the operator's input" in tasks[0]
    assert "Undo the fault" in tasks[1]


def test_undo_takes_one_connection_to_each_host(aborted: tuple[str, list[str]]) -> None:
    assert sorted(line.partition(" ")[0] for line in aborted[1]) == sorted(HOSTS)
    assert all("/usr/bin/python3" in line for line in aborted[1])
