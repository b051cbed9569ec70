"""The monitoring host repairs the fleet when alerts fire: set-up, dry run, a storm, pause, removal.

Runs after the tests of monitoring, since it changes what is set up.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests import fleet, hosts

WATCHED, MONITOR = fleet.LAB.hosts()
STATE = "/var/lib/katago-healing/state.json"
# Alertmanager's waits, the receiver, and a triage of all hosts on a busy machine.
HANDLED = 600


@pytest.fixture(scope="module")
def monitor() -> Any:
    return hosts.connect(MONITOR.name)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


def run(procedure: str, records: Path, **variables: Any) -> fleet.Run:
    done = fleet.command(procedure, variables={"katago_records_dir": str(records), **variables})
    assert done.returncode == 0, done.output
    return done


def state(monitor: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(monitor.check_output(f"cat {STATE}"))
    return found


def alert(monitor: Any, name: str, *labels: str) -> None:
    """Make an alert fire, as Prometheus does."""
    monitor.check_output(
        "amtool alert add --alertmanager.url=http://127.0.0.1:9093 alertname=%s severity=P1 fleet=katago"
        f" instance={WATCHED.name} {' '.join(labels)}",
        name,
    )


def until(monitor: Any, status: str) -> dict[str, Any]:
    """Wait for a status of the program; return the state."""
    end = time.monotonic() + HANDLED
    while (found := state(monitor))["status"] != status and time.monotonic() < end:
        time.sleep(5)
    assert found["status"] == status, found
    return found


def test_dry_run_is_set_up_and_stays_as_it_is(monitor: Any, records: Path) -> None:
    run("monitoring", records, fleet_healing_enabled=True, fleet_healing_dry_run=True)
    assert monitor.check_output("systemctl is-active katago-healing-receiver.service") == "active"
    again = run("monitoring", records, fleet_healing_enabled=True, fleet_healing_dry_run=True)
    assert " changed=0 " in " ".join(again.output.split()), again.output


def test_account_has_no_key_outside_of_its_unit(monitor: Any) -> None:
    assert monitor.run("runuser -u katago-healing -- cat /etc/katago-healing/id_ed25519").rc != 0
    assert monitor.run("runuser -u katago-healing -- cat /etc/katago-healing/inventory.json").rc != 0
    keys = hosts.connect(WATCHED.name).check_output("cat /etc/katago-healing-account/.ssh/authorized_keys")
    assert ",restrict ssh-ed25519 " in keys


def test_storm_of_alerts_is_one_run_that_only_says_what_it_would_do(monitor: Any) -> None:
    for number in range(20):
        alert(monitor, "ProbeWrong", f"number={number}")
    found = until(monitor, "would_repair")
    assert found["runs"] <= 2
    assert found["repairs"] == []
    assert "would open or join an incident for ProbeWrong" in found["why"]


def test_pause_stops_hosts_and_fleet_with_one_command(monitor: Any, records: Path) -> None:
    run("healing_pause", records, why="test")
    report = records / "healing.json"
    run("healing_show", records, healing_json=str(report))
    assert "paused since" in json.loads(report.read_text())["fleet"][MONITOR.name]["paused"]
    run("healing_resume", records, why="test")


def test_alert_opens_an_incident_with_evidence(monitor: Any, records: Path) -> None:
    run("monitoring", records, fleet_healing_enabled=True)
    alert(monitor, "ProbeFailed")
    end = time.monotonic() + HANDLED
    found = ""
    while not found and time.monotonic() < end:
        time.sleep(5)
        found = monitor.run("ls /var/lib/katago-healing/records/evidence").stdout
    log = monitor.run("journalctl --unit=katago-healing --no-pager --lines=50").stdout
    assert found, log
    opened = monitor.check_output("cat /var/lib/katago-healing/records/incidents/*/state.jsonl")
    assert '"alert": "ProbeFailed"' in opened


def test_removal_leaves_no_account(monitor: Any, records: Path) -> None:
    run("monitoring", records, fleet_healing_enabled=False)
    for each in (monitor, hosts.connect(WATCHED.name)):
        assert not each.user("katago-healing").exists
        assert not each.file("/etc/sudoers.d/katago-healing").exists
    assert not monitor.file("/opt/katago-healing").exists
