"""An incident from alert to close: one record, a timeline, reminders from a host, nothing left behind."""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import runtime
from tests import fleet, hosts, loopback

FIRST, SECOND = fleet.LAB.hosts()
QUICK = {"triage_window": 2, "triage_patience": 60}
SECRET = "c4n4ry-s3cr3t"
CLOCK = "katago-incident.timer"
PLANS = "/var/lib/katago-incident"
SECRETS = "/etc/katago-incident/sinks.json"
# Receives messages on the host's own loopback interface, on the same port as the control node's server.
RECEIVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        with open("/run/received", "ab") as file:
            file.write(self.rfile.read(int(self.headers["Content-Length"])) + b"\\n")
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def first() -> Any:
    """The unhealthy host."""
    return hosts.connect(FIRST.name)


@pytest.fixture(scope="module")
def second() -> Any:
    """The reminder host."""
    return hosts.connect(SECOND.name)


@pytest.fixture(scope="module")
def server() -> Iterator[loopback.Http]:
    """The team's channel, on the control node."""
    with loopback.http() as started:
        yield started


class Control:
    """The control node with its own records and channels."""

    def __init__(self, directory: Path, server: loopback.Http) -> None:
        self.records = directory / "records"
        self.page = directory / "index.html"
        chat = {"name": "chat", "kind": "slack", "url": f"http://127.0.0.1:{server.port}/{SECRET}"}
        page = {"name": "page", "kind": "page", "path": str(self.page)}
        self.variables = {
            **QUICK,
            "katago_records_dir": str(self.records),
            "incident_reminder_host": SECOND.name,
            "incident_channels": [
                {"group": "team", "audience": "team", "channels": [chat]},
                {"group": "public", "audience": "public", "channels": [page]},
            ],
        }

    def play(self, playbook: str, *arguments: str, **given: str) -> fleet.Run:
        """Run a playbook with these records and channels."""
        return fleet.play(playbook, *arguments, variables={**self.variables, **given})

    def incident(self, *arguments: str, **given: str) -> fleet.Run:
        """Run playbooks/incident_VERB.yml, where `do` is the verb."""
        return self.play(f"incident_{given.pop('do')}.yml", *arguments, **given)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of a file of the only incident."""
        (path,) = self.records.glob(f"incidents/*/{name}")
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory, server: loopback.Http) -> Control:
    """One control node for all tests."""
    return Control(tmp_path_factory.mktemp("control"), server)


def firsts(server: loopback.Http) -> list[str]:
    return [body["text"].splitlines()[0] for _, _, body in server.requests]


def test_healthy_fleet_opens_nothing(control: Control) -> None:
    run = control.incident(do="open", lead="Anna")
    assert run.returncode != 0
    assert "all 2 hosts healthy" in run.output
    assert list(control.records.glob("incidents/*/state.jsonl")) == []


def test_ten_alerts_at_once_are_one_incident(control: Control, first: Any, server: loopback.Http) -> None:
    first.check_output(f"systemctl stop {hosts.SERVICE}")
    predicted = control.incident("--check", do="open", lead="Anna")
    assert predicted.returncode == 0, predicted.output
    assert "INCIDENT DECLARED: P0" in predicted.output
    assert list(control.records.glob("incidents/*/state.jsonl")) == []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda _: control.incident(do="open", lead="Anna"), range(10)))
    assert {run.returncode for run in runs} == {0}, runs[0].output
    events = [line["event"] for line in control.lines("state.jsonl")]
    assert (events.count("opened"), events.count("joined")) == (1, 9)
    assert control.lines("state.jsonl")[0]["severity"] == "P0"
    assert firsts(server) == ["INCIDENT DECLARED: P0"]
    assert "Some analyses may fail" in control.page.read_text()


def test_reminder_host_has_the_timer_and_protects_the_secrets(second: Any) -> None:
    assert second.check_output(f"systemctl is-active {CLOCK}") == "active"
    assert second.check_output(f"systemctl is-enabled {CLOCK}") == "enabled"
    file = second.file(SECRETS)
    assert (file.user, file.mode) == ("root", 0o600)
    assert SECRET not in second.check_output(f"cat {PLANS}/*.json /etc/systemd/system/katago-incident.*")


def test_overdue_update_reminds_from_the_host_alone(second: Any, server: loopback.Http) -> None:
    """Simulates that 31 minutes pass: all alarms are dated back by 31 minutes."""
    second.check_output(f"cat > /run/receiver.py <<'END'\n{RECEIVER}\nEND")
    second.check_output(f"systemd-run --quiet --unit=receiver python3 /run/receiver.py {server.port}")
    script = (
        "import json, glob, datetime as d\n"
        f"for name in glob.glob('{PLANS}/*.json'):\n"
        "    plan = json.load(open(name))\n"
        "    for alarm in plan['alarms']:\n"
        "        at = d.datetime.strptime(alarm['at'], '%Y-%m-%dT%H:%M:%SZ') - d.timedelta(minutes=31)\n"
        "        alarm['at'] = at.strftime('%Y-%m-%dT%H:%M:%SZ')\n"
        "    json.dump(plan, open(name, 'w'))\n"
    )
    try:
        second.check_output(f"python3 - <<'END'\n{script}\nEND")
        fleet.eventually(
            lambda: "ESCALATION NEEDED" in second.run("cat /run/received").stdout,
            within=150,
            what="the reminder timer has sent its messages",
        )
        received = second.check_output("cat /run/received")
        assert "OVERDUE: update of" in received
        events = second.check_output(f"cat {PLANS}/*.jsonl")
        assert '"alarm"' in events
        assert '"sent"' in events
        assert SECRET not in events + second.check_output("journalctl --quiet --unit=katago-incident.service")
        once = received.count("ESCALATION NEEDED")
        second.check_output("systemctl start katago-incident.service")
        assert second.check_output("cat /run/received").count("ESCALATION NEEDED") == once == 1
    finally:
        second.run("systemctl stop receiver.service")


def test_procedure_during_the_incident_is_in_its_timeline_and_evidence(control: Control) -> None:
    run = control.play("restart.yml", f"--limit={FIRST.name}", force="true")
    assert run.returncode == 0, run.output
    lines = control.lines("timeline.jsonl")
    assert {"begun", "changed"} <= {line["result"] for line in lines if line.get("procedure") == "restart"}
    tasks = [line for line in lines if "restart.yml" in line.get("command", "")]
    assert {"ok", "changed"} <= {line["result"] for line in tasks}
    assert all("-e force=true" in line["command"] for line in tasks)
    assert list(control.records.glob(f"evidence/*/{FIRST.name}/*/manifest.jsonl"))
    assert not list(control.records.glob("evidence/no-incident"))


def test_frozen_reminder_host_is_reported_and_the_update_recorded(
    control: Control, server: loopback.Http
) -> None:
    before = len(server.requests)
    runtime.podman("pause", SECOND.container)
    try:
        run = control.incident(do="update", status="identified", next_steps="watch")
    finally:
        runtime.podman("unpause", SECOND.container)
    assert run.returncode == 2
    assert f"The reminders on {SECOND.name} were not set" in " ".join(run.output.split())
    assert control.lines("state.jsonl")[-1]["event"] == "sent"
    assert firsts(server)[before:] == ["UPDATE: KataGo MCP Server incident"]


def test_host_name_is_never_on_the_status_page(control: Control) -> None:
    before = control.page.read_text()
    run = control.incident(do="update", public=f"{FIRST.name} is back")
    assert run.returncode != 0
    assert f"names the host {FIRST.name}" in run.output
    assert control.page.read_text() == before


def test_evidence_of_both_hosts_is_collected_before_the_close(control: Control) -> None:
    run = control.play("evidence.yml")
    assert run.returncode == 0, run.output
    kept = {path.parts[-3] for path in control.records.glob("evidence/*/*/*/manifest.jsonl")}
    assert kept == {FIRST.name, SECOND.name}


def test_close_stands_down_and_removes_the_timer(
    control: Control, second: Any, server: loopback.Http
) -> None:
    early = control.incident(do="close", resolution="restarted")
    assert f"{FIRST.name} was not watched" in " ".join(early.output.split())
    run = control.incident(do="close", resolution="restarted", without_watch="true")
    assert run.returncode == 0, run.output
    (text,) = [body["text"] for _, _, body in server.requests if "RESOLVED" in body["text"]]
    assert "Duration: " in text
    assert "highest severity P0, " in text
    assert "10 alerts" in text
    assert f"restart on {FIRST.name}: changed" in text
    assert "Analyses work normally again" in control.page.read_text()
    assert second.run(f"systemctl is-active {CLOCK}").stdout.strip() == "inactive"
    assert not second.file(SECRETS).exists
    assert second.run("ls /etc/systemd/system/katago-incident.*").rc != 0
    # The events of the reminder timer are in the timeline now.
    assert "timekeeper" in {line["who"] for line in control.lines("timeline.jsonl")}
    again = control.incident(do="close", incident=control.lines("state.jsonl")[0]["id"], resolution="x")
    assert "was closed at" in " ".join(again.output.split())


def test_review_has_both_hosts_in_chronological_order(control: Control) -> None:
    incident = control.lines("state.jsonl")[0]["id"]
    predicted = control.play("review.yml", "--check", incident=incident)
    directory = control.records / "incidents" / incident
    assert predicted.returncode == 0, predicted.output
    assert not (directory / "review.md").exists()
    run = control.play("review.yml", incident=incident)
    assert run.returncode == 0, run.output
    assert "the review is open. Responsible: Anna, due by " in " ".join(run.output.split())
    assert "What was the underlying cause?" in run.output
    review = (directory / "review.md").read_text()
    assert "not verified" not in review
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in review.partition("\n## Timeline\n")[2].splitlines()
        if line.startswith("| 2")
    ]
    assert [row[0][:19] for row in rows] == sorted(row[0][:19] for row in rows)
    for host in (FIRST.name, SECOND.name):
        assert any(row[1] == host and f"/{host}/" in row[4] and "journal.jsonl" in row[4] for row in rows), (
            review
        )

    def place(host: str, words: str) -> int:
        return next(number for number, row in enumerate(rows) if row[1] == host and words in row[3])

    opened = place("control node", "opened as P0")
    assert place(FIRST.name, "systemd: Stopping") < opened
    back = next(
        n for n, row in enumerate(rows) if n > opened and row[1] == FIRST.name and "listening" in row[3]
    )
    assert opened < back < place(FIRST.name, "restart: changed") < place("control node", "closed")
    again = control.play("review.yml", incident=incident)
    assert "Nothing changed: all files are up to date" in again.output
    assert (directory / "review.md").read_text() == review
    assert control.play("report_actions.yml").returncode == 0
    assert control.play("report_actions.yml", as_of="2999-01-01").returncode == 2


def test_no_secret_is_in_any_record(control: Control) -> None:
    for path in control.records.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
