"""`bin/fleet`: what it runs, what it prints, and what it refuses."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible.cli.playbook import PlaybookCLI

from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_command, procedures

ROOT = Path(__file__).resolve().parents[3]
FLEET = ROOT / "bin" / "fleet"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(FLEET), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def command(*arguments: str) -> list[str]:
    procedure, rest = fleet_command.find(arguments)
    return fleet_command.command_line(procedure, rest)


def given(*arguments: str) -> dict[str, object]:
    words = command(*arguments)
    inputs: dict[str, object] = json.loads(words[words.index("-e") + 1])
    return inputs


@pytest.mark.parametrize("name", sorted(procedures.PROCEDURES))
def test_every_procedure_has_help_with_every_input(name: str) -> None:
    procedure = procedures.PROCEDURES[name]
    shown = run(*procedure.command, "--help")
    assert shown.returncode == 0, shown.stderr
    assert f"{procedure.summary}." in " ".join(shown.stdout.split())
    for each in procedures.inputs_of(name).values():
        assert each.option in shown.stdout
    assert f"  {' '.join(procedure.command)}  " in run("--help").stdout


@pytest.mark.parametrize(
    "arguments", [("incident", "update"), ("incident-update",), ("incident_update",)], ids=" ".join
)
def test_procedure_is_found_by_its_words_and_by_the_name_of_its_playbook(arguments: tuple[str, ...]) -> None:
    assert command(*arguments)[1].endswith("playbooks/incident_update.yml")


def test_options_become_inputs_and_the_rest_is_passed_on() -> None:
    words = command(
        "rollback", "-l", "katago-1", "--release", "0.2.0-abc", "--allow-rejected", "--check", "-vv"
    )
    assert words[0] == "ansible-playbook"
    assert json.loads(words[3]) == {"release": "0.2.0-abc", "allow_rejected": True}
    assert words[4:] == ["-l", "katago-1", "--check", "-vv"]
    assert given("watch", "--no-wait") == {"wait": False}
    assert given("incident", "update", "--actions", "a; b", "--actions", "c") == {"actions": ["a; b", "c"]}


TEXTS = [
    "roll back to the previous release",
    'it\'s "down"',
    "two\nlines",
    "Größe 変化 {{ x }} $HOME `id` \\n",
    "- begins with a dash",
    "a=b c=d",
    " ",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_the_command_that_is_printed(text: str) -> None:
    procedure, rest = fleet_command.find(["incident", "update", f"--next-steps={text}"])
    words = shlex.split(shlex.join(fleet_command.command_line(procedure, rest)))
    assert json.loads(words[3]) == {"next_steps": text}


def test_help_of_a_group_lists_its_commands() -> None:
    shown = run("incident", "--help")
    assert shown.returncode == 0
    commands = {" ".join(each.command) for each in procedures.members("incident")}
    assert {"incident open", "incident close"} <= commands
    assert {line.strip().partition("  ")[0] for line in shown.stdout.splitlines()} >= commands


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rollbak",), "there is no procedure 'rollbak'. Did you mean rollback?"),
        (("incident",), "the verb after incident is missing; give one of open, update"),
        (("incident", "cloze"), "the verb after incident is 'cloze'; give one of open, update"),
        (("rollback", "--relase", "x"), "rollback has no option --relase. Did you mean --release?"),
        (("restart", "--release=x"), "restart has no option --release. It belongs to rollback."),
        (
            ("mitigate", "--why", "too", "many"),
            "'many' belongs to no option. Put a text with spaces",
        ),
        (("restart", "-e", "x=too", "many", "clients"), "'many' belongs to no option."),
        (("restart", "--check", "katago-1"), "'katago-1' belongs to no option."),
        (("rollback", "--release"), "argument --release: it needs a value"),
        (("triage", "--chek"), "triage has no option --chek. Did you mean --check?"),
    ],
)
def test_mistyped_command_is_refused_with_the_nearest_one(arguments: tuple[str, ...], message: str) -> None:
    refused = run(*arguments)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"bin/fleet: {message}")
    assert refused.stdout == ""


def test_every_long_option_of_ansible_playbook_is_passed_on() -> None:
    command_line = PlaybookCLI(["ansible-playbook"])
    command_line.init_parser()
    options = {option for action in command_line.parser._actions for option in action.option_strings}
    longs = {option for option in options if option.startswith("--")} - {"--help"}
    assert longs <= fleet_command.ANSIBLE_OPTIONS


def test_command_is_printed_and_its_exit_status_returned(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yml"
    inventory.write_text("katago: {hosts: {katago-1: {}}}\n")
    listed = run("restart", "--force", "-i", str(inventory), "--list-hosts")
    assert listed.returncode == 0, listed.stderr
    assert "katago-1" in listed.stdout
    assert f"ansible-playbook playbooks/restart.yml -e '{{\"force\": true}}' -i {inventory} --list-hosts" in (
        listed.stderr
    )
    assert run("restart", "-i", str(inventory), "--no-such").returncode == 2
    assert run("report", "actions", "-i", str(inventory), "--as-of", "soon").returncode not in (0, 1)


def test_procedure_runs_from_any_directory(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yml"
    inventory.write_text("katago: {hosts: {katago-1: {}}}\n")
    elsewhere = subprocess.run(
        [str(FLEET), "restart", "-i", str(inventory), "--list-hosts"],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert str(ROOT / "playbooks" / "restart.yml") in elsewhere.stderr


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["bin/fleet", "rest"], {"restart", "restore"}),
        (["bin/fleet", "incident", "up"], {"update"}),
        (["bin/fleet", "incident", "update", "--next"], {"--next-steps"}),
        (["bin/fleet", "rollback", "--rel"], {"--release"}),
        (["bin/fleet", "security", "o"], {"on", "off"}),
    ],
)
def test_bash_completes_procedures_and_options(typed: list[str], expected: set[str]) -> None:
    script = (
        f'eval "$({shlex.quote(str(FLEET))} completion)"\n'
        f"COMP_WORDS=({shlex.join(typed)}) COMP_CWORD={len(typed) - 1}\n"
        '_katago_fleet; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    completed = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(completed.stdout.split()) == expected


@pytest.mark.parametrize(
    "form",
    [
        ["--triage-json", "PATH"],
        ["--triage-json=PATH"],
        ["-e", "triage_json=PATH"],
        ["-etriage_json=PATH"],
        ["--extra-vars", "triage_fail_on=P1 triage_json='PATH'"],
        ["--extra-vars=triage_json=PATH"],
        ["-e", '{"triage_json": "PATH"}'],
        ["-e", "triage_json=other.json", "-e", "triage_json=PATH"],
    ],
    ids=" ".join,
)
def test_old_report_of_triage_has_no_verdict_if_ansible_refuses_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    monkeypatch.setattr(fleet_command, "_become", lambda *_, **__: 1)
    path = tmp_path / "report.json"
    path.write_text('{"verdict": "healthy"}')
    arguments = [word.replace("PATH", str(path)) for word in form]
    assert fleet_command.main(["triage", "-l", "nobody", *arguments]) == 1
    assert json.loads(path.read_text())["verdict"] == "unknown"


@pytest.mark.parametrize(
    "arguments", [["--list-hosts"], ["--syntax-check"], ["-e", "triage_json=none.json"], ["-e", "{"]]
)
def test_report_of_triage_is_kept_if_no_triage_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(fleet_command, "_become", lambda *_, **__: 0)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "report.json"
    path.write_text('{"verdict": "healthy"}')
    named = ["-e", f"triage_json={path}"] if arguments[0].startswith("--") else []
    fleet_command.main(["triage", *named, *arguments])
    assert json.loads(path.read_text())["verdict"] == "healthy"
    assert not (tmp_path / "none.json").exists()


@pytest.mark.parametrize(
    "given",
    [
        ['--extra-vars={"backup_repository": "/srv/katago", "backup_password": "of-the-test"}'],
        ["-e", "backup_password=of-the-test"],
        ["-e", "{backup_password: of-the-test}"],
    ],
)
def test_printed_command_shows_no_secret_and_the_run_gets_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: list[str]
) -> None:
    run: list[str] = []

    def become(command: Sequence[str], **_: object) -> int:
        run.extend(command)
        return 0

    monkeypatch.setattr(fleet_command, "_become", become)
    assert fleet_command.main(["backup", "-l", "katago-1", *given]) == 0
    printed = capsys.readouterr().err
    assert "of-the-test" in " ".join(run)
    assert "of-the-test" not in printed
    assert "backup.yml" in printed
    assert "-l katago-1" in printed
