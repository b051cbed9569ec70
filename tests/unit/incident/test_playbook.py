"""The incident playbook and the timeline, run on this machine: records, messages, refusals, no secrets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.plugin_utils.run import commands
from tests import loopback

ROOT = Path(__file__).resolve().parents[3]
SECRET = "c4n4ry-s3cr3t"
REPORT = {
    "verdict": "P0",
    "hosts": {
        "katago-1": {
            "reasons": [{"level": "P0", "rule": "unit", "measured": "it is inactive", "threshold": "active"}],
            "facts": {},
        },
        "katago-2": {"reasons": [], "facts": {}},
    },
}


class Control:
    """A control node with its own inventory. All hosts are this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.records = directory / "records"
        self.variables: dict[str, Any] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "katago_records_dir": str(self.records),
            # The module needs a real host.
            "incident_reminder_host": "",
        }
        self.load_balancers: dict[str, Any] = {}
        self.report = directory / "triage.json"
        self.report.write_text(json.dumps(REPORT))

    def run(self, playbook: Path | str, *arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
        """Run a playbook; `given` are extra variables."""
        gone = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh"}
        inventory = {
            "katago": {"hosts": {"katago-1": {}, "katago-2": {}}, "vars": self.variables},
            "load_balancer": {"hosts": self.load_balancers},
            "others": {"hosts": {"gone": gone}},
        }
        path = self.directory / "inventory.yml"
        path.write_text(yaml.safe_dump(inventory))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        }
        return subprocess.run(
            [
                *(sys.executable, "-m", "ansible", "playbook", f"--inventory={path}", str(playbook)),
                *(part for name, value in given.items() for part in ("-e", json.dumps({name: value}))),
                *arguments,
            ],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def incident(self, *arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
        """Run playbooks/incident_VERB.yml, where `do` is the verb."""
        return self.run(f"playbooks/incident_{given.pop('do')}.yml", *arguments, **given)

    def open(self, *arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
        """Open an incident from a triage report."""
        return self.incident(*arguments, do="open", triage_json=str(self.report), **given)

    def lines(self, name: str = "state.jsonl", incident: str = "*") -> list[dict[str, Any]]:
        """The lines of a file of the only incident."""
        paths = list(self.records.glob(f"incidents/{incident}/{name}"))
        assert len(paths) <= 1, paths
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


@pytest.fixture
def control(tmp_path: Path) -> Control:
    """A control node without records."""
    return Control(tmp_path)


def group(audience: str, *channels: Mapping[str, Any]) -> dict[str, Any]:
    return {"group": audience, "audience": audience, "channels": list(channels)}


def test_incident_from_declaration_to_close(control: Control, tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    control.variables["incident_roster"] = {
        "verify_by": "2999-01-01",
        "contacts": {"senior": {"name": "Bo", "email": "bo@go.net"}},
    }
    with loopback.http() as chat, loopback.http(status=500) as dead, loopback.smtp(tmp_path) as mail:
        control.variables["incident_channels"] = [
            group(
                "team",
                {"name": "dead", "kind": "webhook", "url": f"http://127.0.0.1:{dead.port}/{SECRET}"},
                {"name": "chat", "kind": "slack", "url": f"http://127.0.0.1:{chat.port}/{SECRET}"},
            ),
            group(
                "escalation",
                {
                    **{"name": "mail", "kind": "smtp", "host": "127.0.0.1", "port": mail.port},
                    **{"from": "katago@go.net", "ca_file": str(mail.ca_file)},
                },
            ),
            group("public", {"name": "page", "kind": "page", "path": str(page)}),
        ]
        runs = [control.open(lead="Anna")]
        assert "Some analyses may fail" in page.read_text()
        runs += [
            control.incident(do="update", status="identified", next_steps="roll back"),
            control.incident(do="escalate", to="senior", why="stuck"),
            control.incident(do="escalate", to="senior", why="stuck"),
            control.incident(do="close", resolution="rolled back"),
            control.incident(do="close", resolution="rolled back", without_watch="true"),
        ]
    refused = runs.pop(-2)
    assert refused.returncode == 2
    assert "katago-1 was not watched" in " ".join(refused.stdout.split())
    for run in runs:
        assert run.returncode == 0, run.stdout + run.stderr
        assert SECRET not in run.stdout + run.stderr
    texts = [body["text"].splitlines()[0] for _, _, body in chat.requests]
    assert texts[:2] == ["INCIDENT DECLARED: P0", "UPDATE: KataGo MCP Server incident"]
    assert texts[2].startswith("INCIDENT RESOLVED: ")
    assert [recipients for recipients, _, _ in mail.mails] == [["bo@go.net"]]
    assert "Analyses work normally again" in page.read_text()
    assert "The review is due by " in runs[-1].stdout
    for file in control.records.rglob("*"):
        assert not file.is_file() or SECRET not in file.read_text(), file
    lines = control.lines()
    assert [line["event"] for line in lines if not line.get("key")] == [
        "opened",
        "updated",
        "escalated",
        "closed",
    ]
    assert [line["without_watch"] for line in lines if "without_watch" in line] == [
        ["katago-1 was not watched"]
    ]
    assert "failed" in {line["event"] for line in lines}
    assert (control.records / "incidents").stat().st_mode & 0o777 == 0o700


def test_escalation_to_an_unknown_role_is_refused(control: Control) -> None:
    control.open(lead="Anna")
    run = control.incident(do="escalate", to="senior", why="stuck")
    assert run.returncode == 2
    assert "Refused; nothing was recorded. incident_roster has no contact 'senior'" in run.stdout + run.stderr
    assert [line["event"] for line in control.lines()] == ["opened"]


def test_value_with_lost_words_is_refused(control: Control) -> None:
    run = control.incident("-e", "resolution=rolled back", do="show")
    assert run.returncode != 0
    assert (
        "The value of -e resolution was cut at its first space; 1 word would be lost."
        in run.stdout + run.stderr
    )


def test_missing_lead_blocks_the_message_but_not_the_record(control: Control, tmp_path: Path) -> None:
    sent = tmp_path / "sent.jsonl"
    control.variables["incident_channels"] = [group("team", {"name": "f", "kind": "file", "path": str(sent)})]
    run = control.open()
    assert run.returncode == 2
    assert "declaration was not sent: lead is missing. Run " in run.stdout + run.stderr
    assert [line["event"] for line in control.lines()] == ["opened"]
    assert not sent.exists()
    assert control.incident(do="update", lead="Anna", next_steps="look").returncode == 0
    assert [json.loads(line)["message"] for line in sent.read_text().splitlines()] == [
        "declaration",
        "update-1",
    ]


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("Status of katago-1", "it names the host katago-1"),
        pytest.param(
            "GPU at 10.0.0.7",
            "it contains the jargon word 'GPU'; it contains the address 10.0.0.7",
            marks=pytest.mark.long,
        ),
        pytest.param(" ", "it is empty", marks=pytest.mark.long),
    ],
)
def test_title_that_must_not_be_published_blocks_the_page(
    control: Control, tmp_path: Path, title: str, words: str
) -> None:
    page, sent = tmp_path / "index.html", tmp_path / "sent.jsonl"
    public = group("public", {"name": "page", "kind": "page", "path": str(page)})
    control.variables["incident_channels"] = [
        group("team", {"name": "f", "kind": "file", "path": str(sent)}),
        public,
    ]
    control.variables["incident_page_title"] = title
    for arguments in (("--check",), ()):
        run = control.open(*arguments, lead="Anna")
        assert run.returncode == 2
        refusal = f"status page was not sent: incident_page_title cannot be published ({words})"
        assert refusal in " ".join((run.stdout + run.stderr).split())
        assert not page.exists()
    assert "declaration" in sent.read_text()
    control.variables["incident_page_title"] = "Status"
    assert control.incident(do="deliver").returncode == 0
    assert "<h1>Status</h1>" in page.read_text()
    control.variables |= {
        "incident_page_title": title,
        "incident_channels": control.variables["incident_channels"][:1],
    }
    assert control.incident(do="deliver").returncode == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"do": "update", "action": "open"}, "Refused; nothing was changed. -e action is not possible"),
        ({"do": "open", "severity": "P4"}, "-e severity is 'P4'; give one of P0, P1, P2, P3"),
        ({"do": "update", "status": "fixed"}, "-e status is 'fixed'; give one of investigating"),
        ({"do": "close", "to": "senior"}, "-e to is not an input of incident_close"),
        ({"do": "escalate"}, "incident_escalate needs -e to"),
        ({"do": "open", "started": "yesterday"}, "give a time such as 2026-01-31T08:05Z"),
        ({"do": "open", "started": "2026-01-31T07:00"}, "add the time zone"),
        ({"do": "open", "started": "2999-01-31T08:01Z"}, "which is in the future"),
        (
            {"do": "open", "severty": "P1"},
            "-e severty is not an input of this playbook. Did you mean severity?",
        ),
        ({"do": "close", "incident": "no-such"}, "There is no incident 'no-such'"),
        ({"do": "open", "incident": "../up", "severity": "P1"}, "the incident's id is '../up'"),
    ],
)
def test_invalid_input_is_refused_before_triage(control: Control, given: dict[str, str], words: str) -> None:
    run = control.incident(**given)
    assert run.returncode == 2
    output = " ".join((run.stdout + run.stderr).split())
    assert "Refused; nothing was recorded." in output or "Refused; nothing was changed." in output
    assert words in output
    assert "Triage" not in output
    assert list(control.records.glob("incidents/*/*")) == []


def suspicious(control: Control, **roster: Any) -> Path:
    """Give the control node a suspicious finding and contacts. Return the file of sent messages."""
    found = {"level": "P1", "rule": "refused_logins", "measured": "40", "threshold": "0", "suspicious": True}
    hosts = {"katago-1": {"reasons": [found], "facts": {}}, "katago-2": {"reasons": [], "facts": {}}}
    control.report.write_text(json.dumps({"verdict": "P1", "hosts": hosts}))
    sent = control.directory / "sent.jsonl"
    control.variables |= {
        "incident_channels": [group("team", {"name": "f", "kind": "file", "path": str(sent)})],
        "incident_roster": {"verify_by": "2999-01-01", "contacts": roster},
    }
    return sent


def escalations(sent: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in sent.read_text().splitlines()] if sent.exists() else []
    return [line for line in lines if line["message"].startswith("escalation-")]


def test_security_is_called_automatically_and_once(control: Control) -> None:
    sent = suspicious(control, security={"name": "Sky", "email": "sky@go.net"})
    for _ in range(3):
        run = control.open(lead="Anna")
        assert run.returncode == 0, run.stdout + run.stderr
    assert len(escalations(sent)) == 1
    (line,) = [line for line in control.lines() if line["event"] == "escalated"]
    assert (line["to"], line["automatic"], line["answers"]) == (
        "security",
        True,
        ["security katago-1/refused_logins"],
    )


@pytest.mark.parametrize(
    ("roster", "variables", "status", "words"),
    [
        (
            {"senior": {"name": "Bo", "email": "bo@go.net"}},
            {"incident_escalate_automatically": False},
            0,
            "NEXT:",
        ),
        ({"senior": {"name": "Bo", "email": "bo@example.com"}}, {}, 2, "senior.email is a placeholder"),
        ({"other": {"name": "Bo", "email": "bo@go.net"}}, {}, 2, "incident_roster has no contact 'senior'"),
        ({}, {}, 0, "NEXT:"),
    ],
    ids=["turned off", "placeholder", "without the role", "without contacts"],
)
def test_contact_is_not_called_if_invalid_or_switched_off(
    control: Control, roster: dict[str, Any], variables: dict[str, Any], status: int, words: str
) -> None:
    sent = suspicious(control, **roster)
    control.variables |= variables
    run = control.open(lead="Anna")
    assert run.returncode == status
    output = " ".join((run.stdout + run.stderr).split())
    assert words in output
    assert "ESCALATE: katago-1: refused_logins: 40." in output
    assert escalations(sent) == []
    assert "escalated" not in {line["event"] for line in control.lines()}
    # Once the roster is repaired, the next command calls.
    control.variables["incident_escalate_automatically"] = True
    control.variables["incident_roster"]["contacts"] = {"senior": {"name": "Bo", "email": "bo@go.net"}}
    assert control.incident(do="update", next_steps="look").returncode == 0
    assert len(escalations(sent)) == 1


def test_check_mode_shows_the_messages_and_records_nothing(control: Control) -> None:
    run = control.open("--check", lead="Anna")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "INCIDENT DECLARED: P0" in run.stdout
    assert ": P0 (set by triage)." in run.stdout
    assert not control.records.exists()


def test_incident_with_a_damaged_record_is_not_opened_again(control: Control) -> None:
    path = control.records / "incidents" / "night" / "state.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("damaged\n")
    run = control.open(incident="night", lead="Anna")
    assert run.returncode == 2
    assert "line 1 of 1 is damaged" in " ".join((run.stdout + run.stderr).split())
    assert path.read_text() == "damaged\n"


def test_check_mode_predicts_the_timer_on_the_reminder_host(control: Control) -> None:
    pattern = r"Set the reminders on the reminder host\] \**\n%s:"
    run = control.open("--check", lead="Anna", incident_reminder_host="katago-1")
    assert re.search(pattern % "ok", run.stdout)
    chat = {"name": "chat", "kind": "slack", "url": "https://chat.go.net/x"}
    control.variables["incident_channels"] = [group("team", chat)]
    run = control.open("--check", lead="Anna", incident_reminder_host="katago-1")
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(pattern % "changed", run.stdout)


def test_unreachable_reminder_host_is_reported_at_the_end(control: Control) -> None:
    run = control.open(lead="Anna", incident_reminder_host="gone")
    assert run.returncode == 2
    assert "The reminders on gone were not set: " in run.stdout + run.stderr
    assert [line["event"] for line in control.lines()] == ["opened"]


def test_load_balancers_are_measured_and_recorded_apart_from_hosts(control: Control) -> None:
    gone = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh"}
    control.variables |= gone
    control.load_balancers = {"lb-1": gone}
    run = control.incident(do="open", lead="Anna")
    assert run.returncode == 0, run.stdout + run.stderr
    (opened,) = control.lines()
    assert (opened["severity"], opened["load_balancers"]) == ("P1", ["lb-1"])
    assert opened["levels"] == dict.fromkeys(("katago-1", "katago-2", "lb-1"), "unknown")
    assert opened["impact"] == (
        "The service is in an unknown state on 2 of 2 hosts (katago-1, katago-2);"
        " the load balancer lb-1 is in an unknown state"
    )


def test_incident_is_not_opened_for_a_load_balancer_alone(control: Control) -> None:
    control.load_balancers = {"lb-1": {"ansible_connection": "local"}}
    run = control.incident("-l", "lb-1", do="open", lead="Anna")
    assert run.returncode == 1
    assert "-l lb-1 selects no host of the group katago" in run.stdout + run.stderr
    assert control.lines() == []


def test_simultaneous_alerts_make_one_incident(control: Control) -> None:
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda _: control.open(lead="Anna"), range(3)))
    assert [run.returncode for run in runs] == [0, 0, 0], runs[0].stdout
    assert sorted(line["event"] for line in control.lines()) == ["joined", "joined", "opened"]


TASKS = """
- name: Any procedure
  hosts: katago
  gather_facts: false
  vars: {planted: "%s"}
  tasks:
    - name: Check {{ planted }}
      ansible.builtin.debug: {msg: "{{ planted }}"}
    - name: Change something
      ansible.builtin.command: echo {{ planted }}
      changed_when: true
    - name: Hide the output
      ansible.builtin.debug: {msg: "{{ planted }}"}
      no_log: true
    - name: Skip this task
      ansible.builtin.debug: {msg: "{{ planted }}"}
      when: false
    - name: Ignore the failure
      ansible.builtin.fail: {msg: "{{ planted }}"}
      ignore_errors: true
    - name: Fail on one host
      ansible.builtin.fail: {msg: "{{ planted }}"}
      when: inventory_hostname == "katago-2"
"""


@pytest.fixture
def procedure(tmp_path: Path) -> Path:
    """A playbook with a task of every result, each with a secret in it."""
    path = tmp_path / "procedure.yml"
    path.write_text(TASKS % SECRET)
    return path


def test_every_task_result_is_in_the_timeline_without_secrets(control: Control, procedure: Path) -> None:
    run = control.run(procedure, "-l", "katago-*", incident="i-1", planted=SECRET, force="true")
    assert run.returncode == 2
    lines = control.lines("timeline.jsonl", "i-1")
    found = {(line["host"], line["task"]): line["result"] for line in lines}
    for host in ("katago-1", "katago-2"):
        assert {task: result for (name, task), result in found.items() if name == host} == {
            "Check {{ planted }}": "ok",
            "Change something": "changed",
            "Hide the output": "ok",
            "Skip this task": "skipped",
            "Ignore the failure": "ignored",
            "Fail on one host": "failed" if host == "katago-2" else "skipped",
        }
    assert len(lines) == 12
    for line in lines:
        assert set(line) == {"at", "who", "command", "host", "task", "action", "result"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["at"])
        assert line["who"].count("@") == 1
        for words in ("procedure.yml", "-l 'katago-*'", "-e incident=i-1", "-e force=true", "planted=***"):
            assert words in line["command"]
        assert SECRET not in json.dumps(line)
    (path,) = control.records.glob("incidents/i-1/timeline.jsonl")
    assert path.stat().st_mode & 0o777 == 0o600


def test_run_belongs_to_the_only_open_incident_but_not_in_check_mode(
    control: Control, procedure: Path
) -> None:
    control.run(procedure)
    assert control.lines("timeline.jsonl") == []
    control.open(lead="Anna")
    before = control.lines("timeline.jsonl")
    assert {line["task"] for line in before} >= {"Record the incident and send its messages"}
    control.run(procedure, "--check")
    assert control.lines("timeline.jsonl") == before
    control.run(procedure)
    assert len(control.lines("timeline.jsonl")) == len(before) + 12


def test_unwritable_timeline_is_one_warning_and_no_failure(control: Control, procedure: Path) -> None:
    control.records.write_text("a file where the directory should be")
    run = control.run(procedure, "-l", "katago-1", incident="i-1")
    assert run.returncode == 0, run.stdout + run.stderr
    assert (run.stdout + run.stderr).count("timeline lacks part of this run") == 1


def test_several_open_incidents_are_reported_and_none_is_chosen(control: Control, procedure: Path) -> None:
    for name in ("a", "b"):
        control.open(incident=name, lead="Anna")
    before = {name: len(control.lines("timeline.jsonl", name)) for name in "ab"}
    run = control.run(procedure)
    assert "2 incidents are open (a, b)" in " ".join((run.stdout + run.stderr).split())
    assert {name: len(control.lines("timeline.jsonl", name)) for name in "ab"} == before


def test_values_are_shown_of_inputs_that_procedures_take_and_of_nothing_else() -> None:
    assert {"force", "why", "at", "minutes", "lead"} <= commands.SHOWN
    texts = {"actions", "eta", "impact", "next_steps", "public", "resolution", "summary"}
    assert not texts & commands.SHOWN
    options = {
        "subset": "a",
        "check": True,
        "inventory": ["i,"],
        "become_password_file": SECRET,
        "tags": ["all"],
    }
    extra = {"force": True, "password": SECRET, "why": ["x"]}
    assert commands.shown(["p.yml"], options, extra) == (
        "ansible-playbook p.yml -l a -i i, --check -e force=True -e 'password=***' -e 'why=***'"
    )


def test_without_channels_every_message_is_printed_once(control: Control) -> None:
    opened = control.open(lead="Anna")
    assert "INCIDENT DECLARED: P0" in opened.stdout
    predicted = control.incident("--check", do="update", status="identified", next_steps="roll back")
    updated = control.incident(do="update", status="identified", next_steps="roll back")
    for run in (predicted, updated):
        assert run.returncode == 0, run.stdout + run.stderr
        assert run.stdout.count("UPDATE: KataGo MCP Server incident") == 1
        assert "INCIDENT DECLARED" not in run.stdout
    again = control.incident(do="update", next_steps="wait")
    assert again.stdout.count("UPDATE: KataGo MCP Server incident") == 1
    assert "Next steps: wait" in again.stdout
    delivered = control.incident(do="deliver")
    assert "INCIDENT DECLARED: P0" in delivered.stdout


def test_message_that_lacked_something_is_printed_once_it_is_complete(control: Control) -> None:
    opened = control.open()
    assert "INCIDENT DECLARED" not in opened.stdout
    updated = control.incident(do="update", lead="Anna", next_steps="look")
    assert "INCIDENT DECLARED: P0" in updated.stdout
