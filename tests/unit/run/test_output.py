"""What ansible-playbook prints: a failure once, in the block at the end, without lines of playbooks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOKS = ROOT / "playbooks"


def run(
    directory: Path,
    playbook: Path,
    *arguments: str,
    config: Path | None = ROOT / "ansible.cfg",
    hosts: Mapping[str, object] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a playbook on hosts that are this machine, with an ansible.cfg or without one."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = directory / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"katago": {"hosts": hosts or {"katago-1": {}}, "vars": local}}))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"ANSIBLE_CONFIG": str(config)} if config else {}
    return subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", f"--inventory={inventory}", str(playbook), *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def play(directory: Path, *tasks: object, **keywords: object) -> Path:
    path = directory / "play.yml"
    path.write_text(
        json.dumps([{"hosts": "katago", "gather_facts": False, "tasks": list(tasks), **keywords}])
    )
    return path


def fail(message: str) -> dict[str, object]:
    return {"name": "Try it", "ansible.builtin.fail": {"msg": message}}


def printed(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def result_of(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.partition("RESULT ***")[2]


@pytest.mark.parametrize(
    ("playbook", "message"),
    [
        ("mitigate.yml", "mitigate needs -e why"),
        ("incident.yml", "playbooks/incident.yml was replaced"),
        ("incident_update.yml", "No incident is open."),
    ],
)
def test_refusal_is_shown_once_at_the_end(tmp_path: Path, playbook: str, message: str) -> None:
    done = run(tmp_path, PLAYBOOKS / playbook)
    assert done.returncode == 2
    assert printed(done).count(message) == 1
    assert message in result_of(done)
    assert "Origin:" not in printed(done)
    assert "- name:" not in printed(done)
    assert "fatal: [katago-1]: FAILED!" in done.stdout


def test_refusal_by_a_lookup_is_shown_once_too(tmp_path: Path) -> None:
    task = {"ansible.builtin.debug": {"msg": "{{ lookup('katago.fleet.inputs', 'no_such') }}"}}
    done = run(tmp_path, play(tmp_path, task))
    assert printed(done).count("no_such is not a procedure.") == 1
    assert "no_such is not a procedure." in result_of(done)
    assert "Origin:" not in printed(done)


def test_same_failure_of_several_hosts_is_one_entry(tmp_path: Path) -> None:
    done = run(tmp_path, play(tmp_path, fail("no room")), hosts={"katago-1": {}, "katago-2": {}})
    assert printed(done).count("no room") == 1
    assert "[katago-1, katago-2] no room" in result_of(done)


def test_failure_that_was_handled_is_shown_too(tmp_path: Path) -> None:
    tasks = {"block": [fail("the mirror is gone")], "rescue": [{"ansible.builtin.debug": {"msg": "went on"}}]}
    done = run(tmp_path, play(tmp_path, tasks))
    assert done.returncode == 0
    assert printed(done).count("the mirror is gone") == 1
    assert "[katago-1] Try it: the mirror is gone" in done.stdout.partition("HANDLED FAILURES ***")[2]
    assert "the mirror is gone" not in result_of(done)


def test_failure_that_a_later_one_repeats_is_not_shown_again(tmp_path: Path) -> None:
    explained = {
        "name": "Explain",
        "ansible.builtin.fail": {"msg": "{{ ansible_failed_result.msg }}. Next: x"},
    }
    done = run(tmp_path, play(tmp_path, {"block": [fail("the disk is full")], "rescue": [explained]}))
    assert printed(done).count("the disk is full") == 1
    assert "[katago-1] the disk is full. Next: x" in result_of(done)


def test_failure_that_is_ignored_is_shown_where_it_happens(tmp_path: Path) -> None:
    done = run(tmp_path, play(tmp_path, {**fail("it is missing"), "ignore_errors": True}))
    assert done.returncode == 0
    assert "fatal: [katago-1]: FAILED! it is missing\n...ignoring" in done.stdout
    assert printed(done).count("it is missing") == 1


def test_items_of_a_loop_that_failed_are_in_the_result(tmp_path: Path) -> None:
    looped = {
        "ansible.builtin.fail": {"msg": "no {{ item }}"},
        "loop": ["cat", "dog"],
        "when": "item == 'dog'",
    }
    done = run(tmp_path, play(tmp_path, looped))
    assert "failed: [katago-1] (item=dog)" in done.stdout
    assert "no dog" in result_of(done)
    assert "no cat" not in printed(done)


def test_result_has_what_a_failed_program_wrote(tmp_path: Path) -> None:
    done = run(tmp_path, play(tmp_path, {"ansible.builtin.command": "ls /no/such/place"}))
    assert printed(done).count("cannot access") == 1
    assert "cannot access" in result_of(done)


def test_unreachable_host_is_explained_once(tmp_path: Path) -> None:
    gone = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    task = {"ansible.builtin.ping": None}
    done = run(tmp_path, play(tmp_path, task), hosts={"katago-1": gone})
    assert done.returncode == 4
    assert "[katago-1] unreachable: " in result_of(done)
    assert printed(done).count("Connection refused") == 1
    ignored = run(tmp_path, play(tmp_path, task, ignore_unreachable=True), hosts={"katago-1": gone})
    assert ignored.returncode == 0
    assert printed(ignored).count("Connection refused") == 1


def test_message_is_hidden_where_the_task_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, play(tmp_path, {**fail("c4n4ry"), "no_log": True}))
    assert done.returncode == 2
    assert "c4n4ry" not in printed(done)


def test_warning_of_a_failed_task_stays_visible(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "warns.py").write_text(
        "from ansible.module_utils.basic import AnsibleModule\n"
        "module = AnsibleModule(argument_spec={})\n"
        "module.warn('the clock is wrong')\n"
        "module.fail_json(msg='stopped')\n"
    )
    done = run(tmp_path, play(tmp_path, {"warns": None}))
    assert printed(done).count("the clock is wrong") == 1
    assert "[katago-1] stopped" in result_of(done)


def test_verbose_run_shows_where_the_task_is(tmp_path: Path) -> None:
    done = run(tmp_path, PLAYBOOKS / "mitigate.yml", "-v")
    assert "Origin: " in printed(done)
    assert "mitigate needs -e why" in result_of(done)


def test_without_the_block_of_results_failures_are_shown_as_ansible_does(tmp_path: Path) -> None:
    config = tmp_path / "own.cfg"
    config.write_text(
        f"[defaults]\ncollections_path={ROOT}/collections\nstdout_callback=katago.fleet.output\n"
    )
    done = run(tmp_path, play(tmp_path, fail("no room")), config=config)
    assert "RESULT" not in done.stdout
    assert 'fatal: [katago-1]: FAILED! => {"changed": false, "msg": "no room"}' in done.stdout


def test_interrupted_run_still_shows_what_failed(tmp_path: Path) -> None:
    (tmp_path / "callback_plugins").mkdir()
    (tmp_path / "callback_plugins" / "interrupts.py").write_text(
        "from ansible.plugins.callback import CallbackBase\n"
        "class CallbackModule(CallbackBase):\n"
        "    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, 'aggregate', 'interrupts'\n"
        "    def v2_playbook_on_task_start(self, task, is_conditional):\n"
        "        if task.name == 'Interrupt':\n"
        "            raise KeyboardInterrupt\n"
    )
    first = {**fail("no room"), "when": "inventory_hostname == 'katago-1'"}
    tasks = (first, {"name": "Interrupt", "ansible.builtin.debug": {"msg": "x"}})
    done = run(tmp_path, play(tmp_path, *tasks), hosts={"katago-1": {}, "katago-2": {}})
    assert "interrupted" in printed(done)
    assert "[katago-1] no room" in result_of(done)


def test_multiple_playbooks_show_each_result_once(tmp_path: Path) -> None:
    first = play(tmp_path, {"ansible.builtin.debug": {"msg": "one done"}})
    second = tmp_path / "second.yml"
    second.write_text(first.read_text().replace("one done", "two done"))
    done = run(tmp_path, first, str(second))
    assert done.stdout.count("[katago-1] one done") == 1
    assert done.stdout.count("[katago-1] two done") == 1
