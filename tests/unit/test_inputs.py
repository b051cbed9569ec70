"""Typing errors, lost words and switches that are neither on nor off are refused by every playbook."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible import context
from ansible.parsing.splitter import parse_kv

from ansible_collections.katago.fleet.plugins.plugin_utils import inputs

ROOT = Path(__file__).resolve().parents[2]


def test_extra_variable_that_resembles_a_known_one_is_refused_and_others_are_not() -> None:
    known = ["release", "allow_bad", "incident"]
    assert list(inputs.mistaken({"release": "a", "site_color": "b"}, known)) == []
    (problem,) = inputs.mistaken({"relase": "a"}, known)
    assert problem == "-e relase is no variable of this playbook; did you mean release?"


def test_words_that_ansible_lost_are_refused_with_the_quotes_that_keep_them() -> None:
    (problem,) = inputs.mistaken(parse_kv("why=the rollback failed"), ["why"])
    assert problem.startswith("-e has lost 2 words, since Ansible ends a value at its first blank")
    assert "-e 'why=\"two words\"'" in problem
    assert list(inputs.mistaken(parse_kv('why="the rollback failed"'), ["why"])) == []


def test_words_that_ansible_lost_are_counted_for_their_variable_and_never_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = ("vault_x=correct horse battery staple=1", "@secrets.yml", "why=rolled back", "wait=1")
    monkeypatch.setattr(context, "CLIARGS", {"extra_vars": arguments})
    given = {"_raw_params": "back", "vault_x": "correct", "staple": "1", "why": "rolled", "wait": "1"}
    first, second = inputs.mistaken(given, ["why", "wait"])
    assert first.startswith("-e vault_x=... has lost 2 words, since")
    assert second.startswith("-e why=... has lost 1 word, since")
    assert not any(word in first + second for word in ("horse", "battery", "staple", "back"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), ("true", True), ("Yes", True), (1, True), (False, False), ("off", False), ("0", False)],
)
def test_switch_that_is_on_or_off_is_understood(value: object, expected: bool) -> None:
    assert inputs.strict_bool(value, "force") is expected
    assert inputs.problems({"force": value}, ["force"]) == []


@pytest.mark.parametrize("value", ["ture", "yep", "", 2, None])
def test_switch_that_is_neither_is_refused_with_name_value_and_what_is_accepted(value: object) -> None:
    (problem,) = inputs.problems({"force": value}, ["force"])
    assert problem == f"-e force is {str(value)!r}; give true or false (or yes, no, on, off, 1, 0)."


def test_switches_of_roles_and_of_every_procedure_are_looked_at_and_those_of_others_are_not() -> None:
    given = {"without_evidence": "ture", "triage_baseline_replace": "yse", "wait": "5m"}
    assert [problem.split()[1] for problem in inputs.problems(given)] == [
        "triage_baseline_replace",
        "without_evidence",
    ]


def test_template_is_left_to_where_it_is_used() -> None:
    assert inputs.problems({"force": "{{ site_force }}"}, ["force"]) == []


def test_no_switch_is_read_leniently() -> None:
    """A lenient conversion takes every mistyped word for false."""
    for path in (*ROOT.glob("roles/*/*/*.yml"), *ROOT.glob("playbooks/*.yml")):
        lenient = re.findall(r"(\w+) \| default\((?:true|false)\) \| bool", path.read_text())
        assert lenient == [], path


def test_every_strictly_read_switch_is_known_as_one() -> None:
    files = (*ROOT.glob("roles/*/*/*.yml"), *ROOT.glob("playbooks/*.yml"))
    read = {name for path in files for name in re.findall(r"strict_bool\('(\w+)'\)", path.read_text())}
    assert "force" in read
    assert read <= inputs.SWITCHES


@pytest.mark.parametrize(
    ("playbook", "name", "value", "words"),
    [
        ("triage.yml", "breach", "ture", "-e breach is 'ture'; give true or false"),
        ("triage.yml", "brech", "true", "did you mean breach?"),
        ("validate.yml", "validate_redy_deadline", 3, "did you mean validate_ready_deadline?"),
        ("baseline.yml", "triage_baseline_replace", "yse", "-e triage_baseline_replace is 'yse'"),
        ("restart.yml", "force", "yep", "-e force is 'yep'"),
        ("mitigate.yml", "undo", "treu", "-e undo is 'treu'"),
        ("purge_cache.yml", "replace_engine", "flase", "-e replace_engine is 'flase'"),
        ("rollback.yml", "allow_bad", "yse", "-e allow_bad is 'yse'"),
        ("watch.yml", "wait", "nope", "-e wait is 'nope'"),
        ("evidence.yml", "without_evidence", "ture", "-e without_evidence is 'ture'"),
        ("deploy.yml", "deploy_seral", 2, "did you mean deploy_serial?"),
    ],
)
def test_playbook_refuses_what_cannot_be_followed(
    playbook: str, name: str, value: object, words: str, tmp_path: Path
) -> None:
    run = play(tmp_path, playbook, **{name: value})
    assert run.returncode != 0, run.stdout
    said = " ".join((run.stdout + run.stderr).split())
    assert "Refused" in said
    assert words in said
    assert "Next:" not in said


def play(directory: Path, playbook: str, **given: Any) -> subprocess.CompletedProcess[str]:
    """Run a playbook, with extra variables, on a host that is this machine."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    kept = {"procedure_records_dir": str(directory / "records")}
    inventory = {"katago": {"hosts": {"katago-1": {}}, "vars": {**local, **kept}}}
    path = directory / "inventory.yml"
    path.write_text(yaml.safe_dump(inventory))
    return subprocess.run(
        [
            *(sys.executable, "-m", "ansible", "playbook", f"--inventory={path}", f"playbooks/{playbook}"),
            *("-e", json.dumps(given)),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
