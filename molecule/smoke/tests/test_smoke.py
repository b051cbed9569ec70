"""Every procedure once by `bin/fleet`, with a check of what a client or an operator then sees.

The tests depend on their order. Molecule has run site.yml before.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.run import procedures
from lab import paths
from lab.hosts import Host
from tests import fleet, hosts
from tests.clients import call, limits

FIRST, SECOND = fleet.LAB.hosts()
BASELINE = "/var/lib/katago-mcp/baseline.json"
CONFIG = "/opt/katago-mcp/current/config.json"
POSITION = {"boardXSize": 9, "boardYSize": 9, "moves": [["B", "E5"]]}
# These need hosts of other groups, which the scenarios `fleet` and `monitoring` have, or end a host, as the
# scenario `hosts` does.
ELSEWHERE = {
    *("load_balancer", "rotation_in", "rotation_out", "rotation_show"),
    *("monitoring", "remove_host", "replace_host"),
    *("drill", "drill_abort", "drill_game_day", "drill_show"),
}
# A text that no shell, template or format must change.
TEXT = 'it\'s "down" ü {{ x }} $HOME\nsecond line'
# Long timeouts, because two hosts share two processors.
QUICK = {
    "triage_window": 2,
    "triage_patience": 60,
    "triage_baseline_uptime": 1,
    "watch_bounds": [1, 15],
    "watch_interval": 10,
    "watch_fewest_requests": 10,
    "incident_reminder_host": SECOND.name,
}


class Control:
    """A control node with its own records. Remembers the playbooks that it has run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.records = directory / "records"
        self.ran = {"site"}

    def run(self, procedure: str, *arguments: str, rc: int = 0, **given: Any) -> fleet.Run:
        """Run a procedure and expect this exit status; `given` are inputs and variables."""
        self.ran.add(procedure)
        names = procedures.inputs_of(procedure)
        inputs = {name: value for name, value in given.items() if name in names}
        others = {name: value for name, value in given.items() if name not in names}
        variables = {**QUICK, "katago_records_dir": str(self.records), **others}
        run = fleet.command(procedure, *arguments, variables=variables, **inputs)
        assert run.returncode == rc, run.output
        return run

    def incident(self) -> str:
        """The id of the only incident."""
        (state,) = self.records.glob("incidents/*/state.jsonl")
        return state.parent.name

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of a file of the only incident."""
        text = (self.records / "incidents" / self.incident() / name).read_text()
        return [json.loads(line) for line in text.splitlines()]

    def results(self, procedure: str) -> set[str]:
        """The results of a procedure in the incident's timeline."""
        return {line["result"] for line in self.lines("timeline.jsonl") if line.get("procedure") == procedure}


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Control:
    return Control(tmp_path_factory.mktemp("control"))


@pytest.fixture(scope="module")
def first() -> Any:
    return hosts.connect(FIRST.name)


@pytest.fixture(scope="module")
def second() -> Any:
    return hosts.connect(SECOND.name)


def only(target: Host) -> str:
    return f"--limit={target.name}"


def expect_service(target: Host) -> None:
    """Expect that the service analyses a client's position."""
    result = call(target, "analyzePosition", {"position": POSITION, "maxVisits": 4})
    assert not result.is_error, result
    assert result.structured_content["moves"]


def health(target: Host) -> dict[str, Any]:
    """The response of /health; empty without a response."""
    _, body = fleet.get(target, "/health", seconds=60)
    answer: dict[str, Any] = json.loads(body or "{}")
    return answer


def expect_switch(host: Any, how: str) -> None:
    """Expect that the newest switch of the host has this `how`, and that its release is validated."""
    switch, verdict = hosts.history(host)[-2:]
    assert (switch["how"], switch["release"], switch["verdict"]) == (how, hosts.current(host), None)
    assert (verdict["release"], verdict["verdict"]) == (switch["release"], "good")


def test_site_has_deployed_a_service_that_accepts_every_host_name(first: Any, second: Any) -> None:
    for target, host in ((FIRST, first), (SECOND, second)):
        expect_service(target)
        expect_switch(host, "deployment")
        for name in (FIRST.name, SECOND.name):
            headers = {"Host": f"{name}:8080", "Content-Type": "application/json"}
            assert fleet.get(target, "/mcp", method="POST", headers=headers)[0] == 401


def test_validate_shows_the_release_of_every_host(control: Control, first: Any, second: Any) -> None:
    run = control.run("validate")
    for host in (first, second):
        assert hosts.current(host) in run.output
    assert set(run.changed.values()) == {0}


def test_overview_shows_every_host(control: Control, first: Any, second: Any) -> None:
    overview = control.directory / "fleet.json"
    run = control.run("fleet", fleet_json=str(overview))
    assert set(run.changed.values()) == {0}
    for target, host in ((FIRST, first), (SECOND, second)):
        assert target.name in overview.read_text()
        assert hosts.current(host) in overview.read_text()


def test_load_is_measured_on_every_host(control: Control) -> None:
    file = control.directory / "load.json"
    control.run("load", seconds=5, clients=2, visits=2, deadline=120, load_json=str(file))
    report = json.loads(file.read_text())
    assert (report["ended"], report["total"]["failed"]) == ("done", {})
    assert report["hosts"].keys() == {FIRST.name, SECOND.name}


def test_triage_reports_healthy_hosts_as_healthy(control: Control) -> None:
    report = control.directory / "triage.json"
    run = control.run("triage", triage_json=str(report))
    verdicts = {name: host["verdict"] for name, host in json.loads(report.read_text())["hosts"].items()}
    assert verdicts == {FIRST.name: "healthy", SECOND.name: "healthy"}, run.output


def test_gpu_driver_does_not_change_a_host_without_a_gpu(control: Control, first: Any) -> None:
    installed = "dpkg-query --show"
    before = first.check_output(installed)
    run = control.run("gpu_driver", "--check", only(FIRST))
    assert run.changed == {FIRST.name: 0}
    assert first.check_output(installed) == before


def test_restart_replaces_the_process(control: Control, first: Any) -> None:
    before = hosts.main_pid(first)
    control.run("restart", only(FIRST))
    assert hosts.main_pid(first) not in (0, before)
    expect_service(FIRST)


def test_deploy_applies_a_new_setting_and_rollback_restores_the_previous_one(
    control: Control, first: Any
) -> None:
    release, visits = hosts.current(first), limits(FIRST)["maxVisits"]
    control.run("deploy", only(FIRST), katago_mcp_max_visits=visits - 1)
    assert limits(FIRST)["maxVisits"] == visits - 1
    expect_switch(first, "deployment")
    control.run("rollback", only(FIRST))
    assert limits(FIRST)["maxVisits"] == visits
    assert hosts.current(first) == release
    expect_switch(first, "rollback")


def test_purge_clears_the_cache_and_replaces_the_engine(control: Control) -> None:
    for number in range(6):
        position = {**POSITION, "moves": [["B", f"{'ABCDEF'[number]}5"]]}
        assert not call(FIRST, "analyzePosition", {"position": position, "maxVisits": 2}).is_error
    engine, entries = health(FIRST)["engine"]["pid"], fleet.metric(FIRST, "katago_cache_entries")
    control.run("purge_cache", only(FIRST))
    assert health(FIRST)["engine"]["pid"] != engine
    # Only the answers of the validation remain.
    assert (fleet.metric(FIRST, "katago_cache_entries") or 0) < (entries or 0)
    expect_service(FIRST)


def test_mitigation_lowers_a_limit_for_clients_and_undo_restores_it(control: Control) -> None:
    before = limits(FIRST)
    control.run("mitigate", only(FIRST), visits=4, why=TEXT)
    assert health(FIRST)["overlay"]["why"] == TEXT
    refused = call(FIRST, "analyzePosition", {"position": POSITION, "maxVisits": 5})
    assert refused.content[0].text.startswith("limit_exceeded: ")
    control.run("mitigate_undo", only(FIRST))
    assert limits(FIRST) == before
    assert health(FIRST)["overlay"] is None


@pytest.fixture(scope="module")
def repository() -> dict[str, Any]:
    return {"backup_repository": "/srv/katago", "backup_password": "of-a-disposable-host"}


def test_backup_is_verified_and_scheduled(control: Control, second: Any, repository: dict[str, Any]) -> None:
    control.run("backup", only(SECOND), **repository)
    backup = json.loads(second.check_output("cat /var/lib/katago-backup/state.json"))["last_good"]
    assert backup["release"] == hosts.current(second)
    assert backup["snapshot"] in second.check_output("katago-backup snapshots")
    assert second.check_output("systemctl is-active katago-backup.timer") == "active"


def test_restore_repairs_what_was_damaged(control: Control, second: Any, repository: dict[str, Any]) -> None:
    digest = second.file(CONFIG).sha256sum
    second.check_output(f"sed --in-place s/8080/8088/ {CONFIG}")
    assert second.file(CONFIG).sha256sum != digest
    control.run("restore", only(SECOND), **repository)
    assert second.file(CONFIG).sha256sum == digest
    expect_switch(second, "restore")
    expect_service(SECOND)


def test_security_mode_cuts_clients_off_and_blocks_procedures_until_it_ends(
    control: Control, second: Any
) -> None:
    pid = hosts.main_pid(second)
    control.run("security_on", only(SECOND), why="odd logins")
    assert fleet.get(SECOND, "/health", seconds=3)[0] == 0
    expect_service(FIRST)
    control.run("restart", only(SECOND), rc=2)
    assert hosts.main_pid(second) == pid
    assert "odd logins" in control.run("security_show", only(SECOND)).output
    control.run("security_off", only(SECOND), why="an old client")
    expect_service(SECOND)
    assert hosts.main_pid(second) == pid


def test_incident_is_opened_for_a_service_that_is_down(control: Control, first: Any) -> None:
    first.check_output(f"systemctl stop {hosts.SERVICE}")
    control.run("incident_open", lead="Anna")
    opened = control.lines("state.jsonl")[0]
    assert (opened["event"], opened["severity"]) == ("opened", "P0")
    control.run("restart", only(FIRST))
    assert control.results("restart") == {"begun", "changed"}
    expect_service(FIRST)


def test_texts_of_people_are_recorded_as_they_were_given(control: Control) -> None:
    texts: dict[str, Any] = dict.fromkeys(("impact", "summary", "next_steps", "eta", "lead"), TEXT)
    control.run("incident_update", status="identified", actions=[TEXT, "a; b"], **texts)
    update = control.lines("state.jsonl")[-1]
    assert {name: update[name] for name in texts} == texts
    assert update["actions"] == [TEXT, "a; b"]
    # Without channels, the message is shown.
    assert "second line" in control.run("incident_deliver").output
    assert control.incident() in control.run("incident_show").output
    refused = control.run("incident_escalate", rc=2, to="senior", why=TEXT)
    assert "incident_roster has no contact 'senior'" in " ".join(refused.output.split())


def test_evidence_of_both_hosts_is_collected_and_verified(control: Control) -> None:
    control.run("evidence")
    evidence = control.records / "evidence" / control.incident()
    for target in (FIRST, SECOND):
        assert list(evidence.glob(f"{target.name}/*/manifest.jsonl"))
    verify = ["bin/evidence", "verify", str(evidence)]
    verified = subprocess.run(verify, cwd=paths.ROOT, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_incident_can_be_closed_only_after_its_host_was_watched(control: Control) -> None:
    control.run("incident_close", rc=2, resolution="restarted")
    control.run("watch", only(FIRST), minutes=1)
    assert "ok" in control.results("watch")
    assert "recovered" in control.run("watch_show", only(FIRST)).output
    control.run("incident_close", resolution="restarted")
    assert "closed" in {line["event"] for line in control.lines("state.jsonl")}


def test_review_and_reports_are_written(control: Control) -> None:
    incident = control.incident()
    control.run("review", incident=incident)
    review = (control.records / "incidents" / incident / "review.md").read_text()
    assert "second line" in review
    assert f"| {FIRST.name} |" in review
    control.run("report_actions")
    control.run("report_actions", rc=2, as_of="2999-01-01")
    year, month = int(incident[:4]), int(incident[5:7])
    quarter = f"{year}Q{(month + 2) // 3}"
    control.run("report_quarter", quarter=quarter)
    assert incident in (control.records / "reports" / f"{quarter}.md").read_text()


def test_tabletop_drill_is_recorded_and_reported(control: Control) -> None:
    shown = control.run("drill_tabletop", scenario="service_down", participants=["Anna", "Bo"]).output
    assert "bin/fleet restart" in shown or "restart.yml" in shown
    (record,) = (control.records / "drills").glob("*/drill.json")
    drill = json.loads(record.read_text())
    assert (drill["mode"], drill["participants"]) == ("tabletop", ["Anna", "Bo"])
    control.run("drill_report")
    reports = [path.read_text() for path in (control.records / "reports").glob("drills-*.md")]
    assert reports
    assert all("service_down" in report for report in reports)


def test_baseline_is_recorded_for_the_current_release(control: Control, second: Any) -> None:
    control.run("baseline", only(SECOND))
    baseline = json.loads(second.check_output(f"cat {BASELINE}"))
    assert baseline["release"] == hosts.current(second)
    assert baseline["median_seconds"] > 0


def test_self_healing_is_set_up_paused_and_resumed(control: Control, second: Any) -> None:
    control.run("self_healing", only(SECOND))
    control.run("healing_pause", only(SECOND), why=TEXT)
    pause = json.loads(second.check_output("cat /var/lib/katago-self-healing/paused"))
    assert pause["why"] == " ".join(TEXT.split())
    control.run("healing_show", only(SECOND), healing_json=str(control.directory / "healing.json"))
    shown = json.loads((control.directory / "healing.json").read_text())
    assert "paused since" in shown["hosts"][SECOND.name]["paused"]
    assert "paused since" in control.run("healing_resume", only(SECOND), why="test").output
    assert second.check_output("systemctl is-active katago-self-healing.timer") == "active"


def test_every_procedure_was_run(control: Control) -> None:
    assert procedures.PROCEDURES.keys() - control.ran == ELSEWHERE
