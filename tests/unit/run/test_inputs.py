"""Typing errors, lost words and switches that are neither on nor off are refused by every playbook."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible import context
from ansible.errors import AnsibleActionFail
from ansible.parsing.splitter import parse_kv
from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.action import triage, triage_report, watch, watch_report
from ansible_collections.katago.fleet.plugins.plugin_utils.run import inputs

ROOT = Path(__file__).resolve().parents[3]


def test_extra_variable_that_resembles_a_known_one_is_refused_and_others_are_not() -> None:
    known = ["release", "allow_rejected", "incident"]
    assert list(inputs.mistaken({"release": "a", "site_color": "b"}, known)) == []
    (problem,) = inputs.mistaken({"relase": "a"}, known)
    assert problem == "-e relase is not an input of this playbook. Did you mean release?"


def test_value_that_ansible_cut_is_refused_with_the_quotes_that_keep_it() -> None:
    (problem,) = inputs.mistaken(parse_kv("why=the rollback failed"), ["why"])
    assert problem.startswith("The value of -e was cut at its first space; 2 words would be lost.")
    assert "-e 'why=\"two words\"'" in problem
    assert list(inputs.mistaken(parse_kv('why="the rollback failed"'), ["why"])) == []


def test_lost_words_are_counted_for_their_variable_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("vault_x=correct horse battery staple=1", "@secrets.yml", "why=rolled back", "wait=1")
    monkeypatch.setattr(context, "CLIARGS", {"extra_vars": arguments})
    given = {"_raw_params": "back", "vault_x": "correct", "staple": "1", "why": "rolled", "wait": "1"}
    first, second = inputs.mistaken(given, ["why", "wait"])
    assert first.startswith("The value of -e vault_x was cut at its first space; 2 words would be lost.")
    assert second.startswith("The value of -e why was cut at its first space; 1 word would be lost.")
    assert not any(word in first + second for word in ("horse", "battery", "staple", "back"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), ("true", True), ("Yes", True), (1, True), (False, False), ("off", False), ("0", False)],
)
def test_clear_switch_is_read(value: object, expected: bool) -> None:
    assert inputs.strict_bool(value, "force") is expected
    assert inputs.problems({"force": value}, "restart") == []
    assert inputs.values({"force": value}, "restart", {})["force"] is expected


@pytest.mark.parametrize("value", ["ture", "yep", 2])
def test_unclear_switch_is_refused_with_name_value_and_what_is_accepted(value: object) -> None:
    (problem,) = inputs.problems({"force": value}, "restart")
    assert problem == f"-e force is {str(value)!r}; give true or false (or yes, no, on, off, 1, 0)."
    with pytest.raises(inputs.InputError, match="-e force is"):
        inputs.values({"force": value}, "restart", {})


def test_switch_of_a_role_is_checked_and_its_template_is_left_to_the_role() -> None:
    (problem,) = inputs.problems({"triage_baseline_replace": "yse"}, "baseline")
    assert problem.startswith("-e triage_baseline_replace is 'yse'")
    assert inputs.problems({"triage_baseline_replace": "{{ site }}"}, "baseline") == []


@pytest.mark.parametrize(
    ("procedure", "extra", "problem"),
    [
        ("restart", {"release": "x"}, "-e release is not an input of restart, which takes"),
        ("gpu_driver", {"force": True}, "-e force is not an input of gpu_driver, which takes"),
        ("mitigate", {"why": "x", "visits": "many"}, "-e visits is 'many'; give a whole number."),
        ("mitigate", {"why": "x", "visits": 0}, "-e visits is 0; give 1 or more."),
        ("mitigate", {"why": "x", "seconds": "nan"}, "-e seconds is nan; give 1 or more."),
        ("mitigate", {"why": "x", "minutes": 5000}, "-e minutes is 5000; give a number from 0.1 to 1440."),
        (
            "mitigate",
            {"why": "x", "undo": True},
            "-e undo was replaced. Run playbooks/mitigate_undo.yml instead.",
        ),
        (
            "rollback",
            {"allow_bad": True},
            "-e allow_bad is now called allow_rejected. Run it with -e allow_rejected=True.",
        ),
        ("watch", {"fetch": True}, "-e fetch was replaced. Run playbooks/watch_show.yml instead."),
        (
            "restore",
            {"scope": "damagd"},
            "-e scope is 'damagd'; give one of damaged, state, all (did you mean",
        ),
        ("security_on", {"why": " "}, "security_on needs -e why: the reason, which is recorded."),
        ("security_on", {}, "security_on needs -e why: the reason, which is recorded."),
        ("review", {}, "review needs -e incident: the incident to review."),
        ("report_quarter", {"as_of": "31.12."}, "-e as_of is '31.12.'; give a day such as 2026-12-31."),
        ("restart", {"local_action": "x"}, "-e local_action is not possible: Ansible keeps this name"),
        ("incident_show", {"do": "show"}, "-e do was replaced: the playbook's name says what is done."),
        ("restart", {"incident": ["a"]}, '-e incident is ["a"]; give a text.'),
    ],
)
def test_input_that_is_not_valid_is_named_with_what_is_accepted(
    monkeypatch: pytest.MonkeyPatch, procedure: str, extra: dict[str, Any], problem: str
) -> None:
    monkeypatch.setattr(context, "CLIARGS", {"args": (f"playbooks/{procedure}.yml",)})
    (message,) = inputs.problems(extra, procedure)
    assert message.startswith(problem)


@pytest.mark.parametrize("playbook", ["site.yml", "katago.fleet.site", "/elsewhere/playbooks/site.yml"])
def test_playbook_that_imports_others_takes_their_inputs(
    monkeypatch: pytest.MonkeyPatch, playbook: str
) -> None:
    monkeypatch.setattr(context, "CLIARGS", {"args": (playbook,)})
    given = {"deploy_serial": 2, "gpu_driver_reboot": "when_needed"}
    for procedure in ("site", "gpu_driver", "deploy", "backup"):
        assert inputs.problems(given, procedure) == []


def test_playbook_of_a_site_takes_what_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "CLIARGS", {"args": ("night.yml",)})
    assert inputs.problems({"release": "x", "site_color": "red"}, "restart") == []


def test_default_comes_from_the_inventory_where_a_variable_is_declared() -> None:
    assert inputs.values({}, "watch", {})["minutes"] == 15
    assert inputs.values({}, "watch", {"watch_minutes": 30})["minutes"] == 30
    assert inputs.values({"minutes": "20"}, "watch", {"watch_minutes": 30})["minutes"] == 20
    assert inputs.values({}, "restart", {"force": True})["force"] is False


INVENTORY = {"groups": {"all": ["katago-1", "katago-2", "fe80::1"], "katago": ["katago-1", "katago-2"]}}


@pytest.mark.parametrize(
    "limit",
    ["", "katago-1", "katago-1,katago-2", "katago", "katago*", "all:!katago-1", "@x", "fe80::1,katago-1"],
)
def test_host_limit_that_names_known_hosts_is_accepted(limit: str) -> None:
    assert list(inputs.unknown_hosts(limit, INVENTORY)) == []


def test_misspelt_host_among_others_is_refused_with_the_nearest_name() -> None:
    (problem,) = inputs.unknown_hosts("katago-1,katgo-2", INVENTORY)
    assert problem == "-l names katgo-2, which is not in the inventory. Did you mean katago-2?"


def test_text_survives_as_it_is() -> None:
    text = 'it\'s "down" ü {{ lookup("x") }}\nsecond line'
    assert inputs.values({"next_steps": text}, "incident_update", {})["next_steps"] == text


def test_no_switch_is_read_leniently() -> None:
    """A lenient conversion takes every mistyped word for false."""
    for path in (*ROOT.glob("roles/*/*/*.yml"), *ROOT.glob("playbooks/*.yml")):
        lenient = re.findall(r"(\w+) \| default\((?:true|false)\) \| bool", path.read_text())
        assert lenient == [], path


FALSE = ["false", "no", "0", False]
TRUE = ["true", "yes", "1", True]


@pytest.fixture
def _without_ansible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})


class Watcher(watch.ActionModule):
    """The control node's half of a watch; what it asks a host for is kept, and nothing is decided yet."""

    def __init__(self, **arguments: object) -> None:
        self._task = SimpleNamespace(check_mode=False, args={"minutes": 15, "who": "anna", **arguments})
        self.delivered = 0
        self.waited = False
        self.asked: list[dict[str, Any]] = []

    def deliver_program(self, *_: object) -> dict[str, Any]:
        self.delivered += 1
        return {"changed": False}

    def _execute_module(self, module_args: dict[str, Any], **_: Any) -> dict[str, Any]:
        self.asked.append(module_args)
        verdict = {"verdict": "watching", "left": 0, "resets": []}
        return {
            "changed": True,
            "joined": False,
            "minutes": 15,
            "alive": False,
            "over": "",
            "verdict": verdict,
        }

    def _wait(self, answer: dict[str, Any], *_: Any) -> dict[str, Any]:
        self.waited = True
        return answer

    def of(self) -> dict[str, Any]:
        return self.run(None, {"inventory_hostname": "katago-1"})


@pytest.mark.usefixtures("_without_ansible")
@pytest.mark.parametrize(("values", "expected"), [(FALSE, False), (TRUE, True)])
def test_words_for_true_and_false_are_followed_by_a_watch(values: list[object], expected: bool) -> None:
    for value in values:
        watcher = Watcher(probes=value, wait=value, restart=value, fetch=value)
        assert not watcher.of().get("failed")
        (asked,) = watcher.asked
        assert (asked["terms"]["probes"], asked["restart"], asked["fetch"]) == (expected, expected, expected)
        assert watcher.delivered == (0 if expected else 1)


@pytest.mark.usefixtures("_without_ansible")
@pytest.mark.parametrize("value", [*FALSE, *TRUE])
def test_words_say_whether_the_verdict_is_waited_for(value: object) -> None:
    watcher = Watcher(wait=value)
    watcher.of()
    assert watcher.waited is (value in TRUE)


@pytest.mark.usefixtures("_without_ansible")
@pytest.mark.parametrize("name", ["probes", "wait", "restart", "fetch"])
def test_watch_refuses_words_that_are_neither(name: str) -> None:
    watcher = Watcher(**{name: "ture"})
    result = watcher.of()
    assert (result["failed"], result["refused"]) == (True, True)
    assert f"-e watch_{name} is 'ture'; give true or false" in result["msg"]
    assert (watcher.delivered, watcher.asked) == (0, [])


class Triaged(triage.ActionModule):
    """The control node's half of triage, and a host that cannot be measured."""

    def __init__(self, breach: object) -> None:
        self._task = SimpleNamespace(args={"breach": breach, "window": 2})

    def _execute_module(self, module_args: dict[str, Any], **_: Any) -> dict[str, Any]:
        assert module_args == {"window": 2}
        return {"failed": True, "msg": "no room"}


def triaged(breach: object) -> str:
    return str(Triaged(breach).run(None, {})["verdict"]["verdict"])


def reported(action: type, known: dict[str, Any], **arguments: object) -> dict[str, Any]:
    """What a report's action says of a host that nothing is known of."""
    report: Any = object.__new__(action)
    report._task = SimpleNamespace(check_mode=False, args=arguments)
    variables = {"ansible_play_hosts_all": ["a"], "hostvars": {"a": known}, "groups": {}}
    result: dict[str, Any] = report.run(None, variables)
    return result


@pytest.mark.usefixtures("_without_ansible")
@pytest.mark.parametrize(("values", "level"), [(FALSE, "unknown"), (TRUE, "P0")])
def test_words_for_true_and_false_are_followed_by_triage(values: list[object], level: str) -> None:
    for value in values:
        assert triaged(value) == level
        assert reported(triage_report.ActionModule, {}, breach=value)["verdict"] == level


@pytest.mark.usefixtures("_without_ansible")
@pytest.mark.parametrize("value", ["ture", "", None])
def test_triage_refuses_words_that_are_neither(value: object) -> None:
    words = "-e triage_breach is .*; give true or false"
    with pytest.raises(AnsibleActionFail, match=words):
        triaged(value)
    with pytest.raises(AnsibleActionFail, match=words):
        reported(triage_report.ActionModule, {}, breach=value)


@pytest.mark.usefixtures("_without_ansible")
@pytest.mark.parametrize(
    ("wait", "fetch", "fails"),
    [("false", "false", False), ("no", "0", False), ("true", "no", True), ("0", "yes", True)],
)
def test_words_say_whether_a_host_that_is_still_watched_fails(
    wait: str, fetch: str, fails: bool, tmp_path: Path
) -> None:
    found = Watcher()._execute_module({})
    found["verdict"] |= {"why": "well so far", "notes": [], "requests": 0}
    given = {"wait": wait, "fetch": fetch, "records_dir": str(tmp_path), "incident": "", "who": "anna"}
    result = reported(watch_report.ActionModule, {"watch_result": found}, **given)
    assert result["verdicts"] == {"a": "watching"}
    assert bool(result.get("failed")) is fails


@pytest.mark.usefixtures("_without_ansible")
@pytest.mark.parametrize("name", ["wait", "fetch"])
def test_report_of_a_watch_refuses_words_that_are_neither(name: str) -> None:
    with pytest.raises(AnsibleActionFail, match=f"-e watch_{name} is 'ture'; give true or false"):
        reported(watch_report.ActionModule, {}, records_dir="", who="anna", **{name: "ture"})


@pytest.mark.parametrize(
    ("playbook", "name", "value", "words"),
    [
        ("triage.yml", "breach", "ture", "-e breach is 'ture'; give true or false"),
        ("triage.yml", "brech", "true", "Did you mean breach?"),
        ("validate.yml", "validate_redy_deadline", 3, "Did you mean validate_ready_deadline?"),
        ("baseline.yml", "triage_baseline_replace", "yse", "-e triage_baseline_replace is 'yse'"),
        ("restart.yml", "force", "yep", "-e force is 'yep'"),
        ("mitigate.yml", "visits", "many", "-e visits is 'many'"),
        ("purge_cache.yml", "replace_engine", "flase", "-e replace_engine is 'flase'"),
        ("rollback.yml", "allow_rejected", "yse", "-e allow_rejected is 'yse'"),
        ("watch.yml", "wait", "nope", "-e wait is 'nope'"),
        ("evidence.yml", "without_evidence", "ture", "-e without_evidence is not an input of evidence"),
        ("deploy.yml", "deploy_seral", 2, "Did you mean deploy_serial?"),
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


FAILING = {"ansible.builtin.fail": {"msg": "rescued failures are not shown"}}


def play(directory: Path, playbook: str, *arguments: str, **given: Any) -> subprocess.CompletedProcess[str]:
    """Run a playbook, with extra variables, on a host that is this machine."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    kept = {"katago_records_dir": str(directory / "records")}
    inventory = {"katago": {"hosts": {"katago-1": {}}, "vars": {**local, **kept}}}
    path = directory / "inventory.yml"
    path.write_text(yaml.safe_dump(inventory))
    return subprocess.run(
        [
            *(sys.executable, "-m", "ansible", "playbook", f"--inventory={path}"),
            *(str(ROOT / "playbooks" / playbook), "-e", json.dumps(given), *arguments),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("playbook", "given", "successor"),
    [
        ("incident.yml", {"do": "update"}, "playbooks/incident_update.yml"),
        ("security.yml", {"do": "on", "why": "odd logins"}, "playbooks/security_on.yml"),
        ("report.yml", {}, "playbooks/report_actions.yml, playbooks/report_quarter.yml"),
    ],
)
def test_replaced_playbook_fails_with_the_new_name_also_with_a_host_limit(
    playbook: str, given: dict[str, str], successor: str, tmp_path: Path
) -> None:
    run = play(tmp_path, playbook, "-l", "katago-1", **given)
    assert run.returncode == 2, run.stdout
    assert f"Run {successor} instead" in " ".join(run.stdout.split())


def test_run_ends_with_one_block_that_has_each_failure_and_report_once(tmp_path: Path) -> None:
    refused = play(tmp_path, "restart.yml", force="yep").stdout
    block = refused.rpartition("RESULT")[2]
    assert block.count("[katago-1] Refused; nothing was changed. -e force is 'yep'") == 1
    playbook = tmp_path / "reports.yml"
    tasks = [
        {
            "name": "Fail and rescue",
            "block": [FAILING],
            "rescue": [{"ansible.builtin.debug": {"msg": "rescued"}}],
        },
        {"ansible.builtin.debug": {"msg": "all is well"}},
    ]
    playbook.write_text(yaml.safe_dump([{"hosts": "katago", "gather_facts": False, "tasks": tasks}]))
    reported = play(tmp_path, str(playbook)).stdout.rpartition("RESULT")[2]
    assert [line for line in reported.splitlines() if line.startswith("[")] == [
        "[katago-1] rescued",
        "[katago-1] all is well",
    ]
