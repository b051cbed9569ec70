"""Procedures go on with another directory for temporary files, or say which ones are full."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.action import host_tmpdir
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments, failures
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer import places

FULL = "head: error writing 'standard output': No space left on device"
ALL = ("/tmp", "/var/tmp", "/dev/shm")
TRANSIT = "~/.ansible/tmp"


def choose(**errors: str) -> places.Choice:
    """The choice with these errors, by place; `transit` is Ansible's directory for files in transit."""
    named = {"tmp": ALL[0], "var": ALL[1], "shm": ALL[2], "transit": TRANSIT, "cache": places.TRANSIT}
    found = {place: errors.get(name, "") for name, place in named.items()}
    return places.choose(found, preferred=ALL[0], transit=TRANSIT, host="katago-1")


def tried(at: list[str], home: Path, program: str = "") -> dict[str, str]:
    """Run the script. `program`: the text of a program that replaces `head`."""
    path = os.environ["PATH"]
    if program:
        (home / "bin").mkdir()
        (home / "bin" / "head").write_text(f"#!/bin/sh\n{program}\n")
        (home / "bin" / "head").chmod(0o755)
        path = f"{home / 'bin'}:{path}"
    done = subprocess.run(
        ["/bin/sh", "-c", places.script(at, at[-1:], 1)],
        env={"PATH": path, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    return places.parse(done.stdout)


def test_working_directories_are_used_as_they_are() -> None:
    assert choose() == places.Choice()


@pytest.mark.parametrize(
    ("errors", "directory"),
    [
        ({"tmp": "No space left on device"}, "/var/tmp"),
        ({"tmp": "Read-only file system", "var": "Read-only file system"}, "/dev/shm"),
    ],
)
def test_next_directory_replaces_a_full_one(errors: dict[str, str], directory: str) -> None:
    choice = choose(**errors)
    assert (choice.directory, choice.refusal) == (directory, "")
    (warning,) = choice.warnings
    assert warning.startswith(f"/tmp on katago-1 cannot be used for temporary files ({errors['tmp']})")
    assert f"{directory} is used instead" in warning
    assert "df -i" in warning


def test_full_directories_are_all_named() -> None:
    choice = choose(tmp="No space left on device", var="Read-only file system", shm="Disk quota exceeded")
    assert choice.refusal.startswith("Refused; nothing was changed on this host.")
    for text in (
        "/tmp: No space left on device",
        "/var/tmp: Read-only file system",
        "/dev/shm: Disk quota exceeded",
        "df -h",
    ):
        assert text in choice.refusal


def test_full_directory_for_files_in_transit_is_replaced() -> None:
    choice = choose(transit="No space left on device")
    assert (choice.directory, choice.transit) == ("", places.TRANSIT)
    assert choice.warnings[0].startswith(f"{TRANSIT} on katago-1 cannot be used")


def test_procedures_that_send_no_file_go_on_without_room_for_files_in_transit() -> None:
    choice = choose(transit="Read-only file system", cache="Read-only file system")
    assert (choice.transit, choice.refusal) == ("", "")
    assert "no file can be sent to the host" in choice.warnings[0]


def test_preferred_directory_of_a_play_is_tried_first() -> None:
    errors = {"/tmp": "", "/var/tmp": "", "/dev/shm": FULL, TRANSIT: ""}
    choice = places.choose(errors, preferred="/dev/shm", transit=TRANSIT, host="katago-1")
    assert choice.directory == "/tmp"


def test_script_tries_each_place_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "tmp dir").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for place in (f"{tmp_path}/tmp dir", "~/.ansible/tmp", f"{tmp_path}/new/a"):
        assert tried([place], tmp_path) == {place: ""}
    assert sorted(tmp_path.rglob("*")) == before


def test_script_writes_only_to_the_first_place_that_works(tmp_path: Path) -> None:
    first, second, transit = (str(tmp_path / name) for name in ("first", "second", "transit"))
    assert tried([first, second, transit], tmp_path) == {first: "", transit: ""}
    # A directory in which not even root can create files.
    assert list(tried(["/proc/sys", second, transit], tmp_path)) == ["/proc/sys", second, transit]


def test_script_reports_a_place_that_becomes_full(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    errors = tried([f"{tmp_path}/full"], tmp_path, program=f'echo "{FULL}" >&2; exit 1')
    assert errors == {f"{tmp_path}/full": "No space left on device"}
    assert list((tmp_path / "full").iterdir()) == []


def test_script_reports_a_place_in_which_no_file_can_be_created(tmp_path: Path) -> None:
    # Not even root can create files there.
    errors = tried(["/proc/sys"], tmp_path)
    assert errors["/proc/sys"] != ""


class Tmpdir(host_tmpdir.ActionModule):
    """Runs no command; the host's output is `output`."""

    def __init__(self, output: str, environment: list[dict[str, str]]) -> None:
        self._task = SimpleNamespace(args={}, environment=environment)
        self._output = output

    def get_shell_option(self, option: Any, default: Any = None) -> Any:
        return default

    def _low_level_execute_command(self, cmd: str, **_: Any) -> dict[str, Any]:
        return {"rc": 0, "stdout": self._output}


@pytest.fixture
def no_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})
    monkeypatch.setattr(arguments, "validated", lambda _: {"needed_mb": 2})


@pytest.mark.usefixtures("no_base")
def test_action_sets_the_environment_of_further_tasks() -> None:
    output = f"/tmp\t{FULL}\n/var/tmp\t\n/dev/shm\t\n{TRANSIT}\t\n"
    result = Tmpdir(output, []).run(task_vars={"inventory_hostname": "katago-1"})
    assert result["environment"] == {"TMPDIR": "/var/tmp"}
    assert len(result["warnings"]) == 1


@pytest.mark.usefixtures("no_base")
def test_action_keeps_the_directory_of_the_play() -> None:
    output = f"/tmp\t{FULL}\n/var/tmp\t{FULL}\n/dev/shm\t\n{TRANSIT}\t\n"
    play = [{"TMPDIR": "/dev/shm"}]
    result = Tmpdir(output, play).run(task_vars={"inventory_hostname": "katago-1"})
    assert (result["environment"], result["remote_tmp"]) == ({}, "")
    assert "warnings" not in result


@pytest.mark.usefixtures("no_base")
def test_action_fails_without_any_directory() -> None:
    output = "".join(f"{place}\t{FULL}\n" for place in ALL)
    result = Tmpdir(output, []).run(task_vars={"inventory_hostname": "katago-1"})
    assert (result["failed"], result["refused"]) == (True, True)


@pytest.mark.parametrize(
    "error",
    [
        "OSError: [Errno 28] No space left on device",
        "FileNotFoundError: [Errno 2] No usable temporary directory found in ['/tmp', '/var/tmp']",
        "OSError: [Errno 30] Read-only file system: '/tmp/ansible_x'",
    ],
)
def test_module_that_finds_no_room_for_its_files_says_so(error: str) -> None:
    answer = {
        "msg": "Module result deserialization failed: No start of json char found",
        "module_stderr": f"Traceback (most recent call last):\n  File ...\n{error}\n",
    }
    why = failures.reason(answer)
    assert "/dev/shm" in why
    assert "json" not in why
    assert not why.endswith(":")
