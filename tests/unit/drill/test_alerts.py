"""Alerts during a drill: those that its faults cause are silenced, and any other one ends it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.drill.faults import FAULTS
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import (
    alert_watch,
    alerts,
    closing,
    listing,
    procedure_runs,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Record
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.store import DrillRecords
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import silences
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.alerts import ALERTS
from tests.unit.drill.recorded_drills import record, saved
from tests.unit.monitoring import alertmanagers

ROOT = Path(__file__).resolve().parents[3]
STARTED = timestamps.parse(record()["started"])
RUNNING: Any = {"outcome": "running", "ended": None, "scenario": "service_down", "hosts": ["a"]}
DRILL: Record = record(**RUNNING)
PATIENCE = 180.0


def alert(name: str, severity: str = "", *, after: float = 60, **labels: str) -> dict[str, Any]:
    """An alert as Alertmanager reports it, that started so many seconds after the drill."""
    declared = {each.name: each.severity for each in ALERTS}
    return {
        "labels": {"alertname": name, "severity": severity or declared[name], **labels},
        "annotations": {"summary": f"{name} fires", "command": "bin/fleet triage -l b"},
        "startsAt": (STARTED + timedelta(seconds=after)).isoformat(),
    }


def real(*documents: dict[str, Any], drill: Record = DRILL) -> str:
    """The name of the alert that ends the drill; empty if none does."""
    found = alerts.real(alerts.read(documents), drill, STARTED)
    return found.name if found else ""


def test_alerts_of_every_fault_are_known_and_may_be_silenced() -> None:
    used = {use.fault for scenario in SCENARIOS.values() for use in scenario.faults}
    assert alerts.CAUSED.keys() == FAULTS.keys() | used
    for names in alerts.CAUSED.values():
        assert list(silences.problems("a", names, 30)) == []


@pytest.mark.parametrize(
    ("document", "what"),
    [
        (alert("ServiceDown", instance="b"), "the same alert about another host"),
        (alert("LoadBalancerServerDown", instance="lb-1", server="b"), "a load balancer about another host"),
        (alert("ReleaseChanged", instance="a"), "another kind on the same host"),
        (alert("FleetDown"), "the whole fleet"),
        (alert("LoadBalancerNoServer", instance="a"), "a P0"),
        (alert("SomebodysAlert", "P2", instance="a"), "a rule that somebody added"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_alert_that_the_drill_does_not_cause_ends_it(document: dict[str, Any], what: str) -> None:
    assert real(document) == document["labels"]["alertname"], what


@pytest.mark.parametrize(
    ("document", "what"),
    [
        (alert("ServiceDown", instance="a"), "the fault"),
        (alert("LoadBalancerServerDown", instance="lb-1", server="a"), "a load balancer about the fault"),
        (alert("HealingStopped", instance="a"), "self-healing that gives up"),
        (alert("ServiceDown", instance="b", after=-1), "an alert that is older than the drill"),
        (alert("ErrorRateRaised", instance="b"), "a P3"),
        (alert("MonitoringAlive"), "the alert that always fires"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_drill_continues_with(document: dict[str, Any], what: str) -> None:
    assert real(document) == "", what


def test_most_severe_alert_is_named() -> None:
    assert real(alert("ErrorRateHigh", instance="b"), alert("ServiceDown", instance="b")) == "ServiceDown"


def test_both_faults_of_a_scenario_are_expected() -> None:
    drill: Record = record(**{**RUNNING, "scenario": "two_faults", "hosts": ["a", "lb-1"]})
    assert real(alert("LoadBalancerDown", instance="lb-1"), drill=drill) == ""
    assert real(alert("LoadBalancerDown", instance="lb-2"), drill=drill) == "LoadBalancerDown"


def test_clock_of_the_monitoring_host_may_differ() -> None:
    here = datetime(2026, 11, 24, 6, 5, tzinfo=UTC)
    assert alerts.since(DRILL, here, here + timedelta(hours=1)) == STARTED + timedelta(hours=1)


def test_reason_names_the_alert_its_host_and_the_next_command() -> None:
    (found,) = alerts.read([alert("ServiceDown", instance="b")])
    assert alerts.reason(found) == (
        "the alert ServiceDown of b fires (P1, since 2026-11-24T06:01:00Z: ServiceDown fires), and the drill"
        " does not cause it; run next: bin/fleet triage -l b"
    )


@pytest.mark.parametrize("document", ["x", {"labels": []}, {**alert("FleetDown"), "startsAt": "soon"}])
def test_answer_of_another_form_is_an_error(document: Any) -> None:
    with pytest.raises(shape.ShapeError, match="alert"):
        list(alerts.read([document]))


@pytest.fixture
def records(tmp_path: Path) -> DrillRecords:
    """The records of a drill that runs."""
    saved(tmp_path, DRILL)
    return DrillRecords(tmp_path)


def answer(*documents: Any, now: datetime = STARTED) -> dict[str, Any]:
    return {"now": now.isoformat(), "alerts": list(documents)}


def test_real_alert_requests_the_abort_of_the_drill(records: DrillRecords) -> None:
    watch = alert_watch.Watch(records, DRILL["id"], "mon-1")
    watch.look(answer(alert("ServiceDown", instance="a")), STARTED)
    assert records.abort_requested(DRILL["id"]) == ""
    assert not watch.is_over(lambda _: "alive")
    watch.look(answer(alert("ServiceDown", instance="b")), STARTED)
    assert "ServiceDown of b" in records.abort_requested(DRILL["id"])
    assert watch.is_over(lambda _: "alive")


def test_monitoring_that_cannot_be_reached_is_noted_once_and_aborts_nothing(records: DrillRecords) -> None:
    watch = alert_watch.Watch(records, DRILL["id"], "mon-1")
    for _ in range(3):
        watch.look({"problem": "it cannot be reached: no route to host"}, STARTED)
        watch.look(answer(), STARTED)
    watch.look(answer("x"), STARTED)
    assert records.abort_requested(DRILL["id"]) == ""
    (note,) = alert_watch.problems(records, DRILL["id"], ["mon-1"])
    assert "The alerts of mon-1 could not be read" in note
    assert note.endswith("no route to host.")


def test_monitoring_host_that_answered_is_no_note_and_one_that_was_never_asked_is(
    records: DrillRecords,
) -> None:
    alert_watch.Watch(records, DRILL["id"], "mon-1").look(answer(), STARTED)
    (note,) = alert_watch.problems(records, DRILL["id"], ["mon-1", "mon-2"])
    assert "did not ask mon-2" in note
    assert list(alert_watch.problems(records, DRILL["id"], [])) == []


def test_watch_ends_with_the_drill_and_with_its_run(records: DrillRecords) -> None:
    watch = alert_watch.Watch(records, DRILL["id"], "mon-1")
    assert watch.is_over(lambda _: "dead")
    records.save({**DRILL, "outcome": "passed"})
    assert watch.is_over(lambda _: "alive")


def test_record_and_summary_have_the_notes() -> None:
    note = "The alerts of mon-1 could not be read: it is down."
    closed = closing.close(DRILL, closing.Observed(None, notes=[note]), "2026-11-24T06:10:00Z")
    assert closed.get("notes") == [note]
    assert listing.summary(closed).endswith(note)


def steps(path: str) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load((ROOT / path).read_text())


def test_silence_is_set_before_the_fault_and_ended_whatever_failed() -> None:
    (*_, silence) = steps("roles/drill/tasks/announce.yml")
    (*_, unsilence) = steps("roles/drill/tasks/undo.yml")
    for task, entry in ((silence, "silence"), (unsilence, "unsilence")):
        assert task["ansible.builtin.include_role"] == {
            "name": "katago.fleet.monitoring",
            "tasks_from": entry,
        }
        # The same host, alerts, procedure and incident, or the silence would not be found again.
        assert task["vars"]["monitoring_silence_alerts"] == "{{ _drill_target.alerts }}"
        assert task["vars"]["monitoring_silence_procedure"] == "drill"
        assert "monitoring_silence_host" not in task["vars"]
    (_, _, practise) = steps("roles/drill/tasks/main.yml")
    imported = [
        task["ansible.builtin.import_tasks"] for part in ("block", "always") for task in practise[part]
    ]
    assert imported.index("announce.yml") < imported.index("inject.yml")
    assert practise["always"][0]["ansible.builtin.import_tasks"] == "undo.yml"


needs_alertmanager = pytest.mark.skipif(
    not alertmanagers.PROGRAM.exists(), reason="Alertmanager is not installed"
)


def watched(root: Path, port: int) -> Any:
    """A watch that was started for a drill whose monitoring host is this machine."""
    local = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "monitoring_alertmanager_port": port,
    }
    inventory = root / "inventory.yml"
    inventory.write_text(yaml.safe_dump({"monitoring": {"hosts": {"mon-1": local}}}))
    directory = DrillRecords(root).directory(DRILL["id"])
    setting = procedure_runs.Setting([str(inventory)], {}, DRILL["id"], directory)
    return alert_watch.start(setting, ["mon-1"], root, DRILL["id"], PATIENCE)


@needs_alertmanager
def test_alert_of_a_real_alertmanager_ends_the_drill(
    records: DrillRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_CONFIG", str(ROOT / "ansible.cfg"))
    drill: Record = {**DRILL, "started": timestamps.stamp(datetime.now(UTC) - timedelta(minutes=1))}
    records.save(drill)
    directory = records.directory(drill["id"])
    with alertmanagers.alertmanager(tmp_path / "alertmanager") as port:
        process = watched(tmp_path, port)
        try:
            ends = time.monotonic() + PATIENCE
            while not (directory / "alerts.jsonl").exists() and time.monotonic() < ends:
                time.sleep(0.2)
            document = alert("ServiceDown", instance="b")
            document["startsAt"] = datetime.now(UTC).isoformat()
            alertmanagers.ask(port, "/api/v2/alerts", [document])
            status = process.wait(PATIENCE)
        finally:
            process.kill()
    output = (directory / "alerts.log").read_text()
    assert status == 0, output
    assert "the alert ServiceDown of b fires (P1" in records.abort_requested(drill["id"]), output
    assert json.loads((directory / "alerts.jsonl").read_text()) == {"monitor": "mon-1", "problem": ""}
    assert "service_down" not in " ".join(map(str, process.args))
