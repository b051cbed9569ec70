"""A run handles all alerts at once, records each repair before it starts, and stops rather than guess."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils.self_healing import fleet_state
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import state as healing_state
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.budget import HOUR, Clock
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.state import Pause
from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing import allowed, healer
from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing.healer import (
    Healer,
    Places,
    Ran,
    World,
)
from tests.unit.self_healing.test_fleet_decision import BROKEN, HOSTS, NOW, alert, host, message, reason
from tests.unit.self_healing.test_fleet_decision import report as report_of

CHANGES = ("rotation_out", "mitigate", "backup")


@dataclass
class Fleet:
    """A monitoring host and what its program runs. `results`: how procedures end, by name; else well."""

    root: Path
    report: Any = field(default_factory=lambda: report_of(katago_1=BROKEN))
    results: dict[str, Ran] = field(default_factory=dict)
    uptime: float = 1000
    boot: str = "first"
    incident: str = ""
    runs: list[list[str]] = field(default_factory=list)
    lines: list[tuple[int, str]] = field(default_factory=list)
    during: Any = None
    opens: bool = True
    received: int = 0

    def __post_init__(self) -> None:
        self.places = Places(
            work=self.root,
            state=self.root / "state.json",
            settings=self.root / "settings.json",
            log=self.root / "repairs.jsonl",
            events=self.root / "events",
            pause=(self.root / "paused.volatile", self.root / "paused"),
        )
        self.places.events.mkdir()
        self.set()
        new = fleet_state.State(Clock(self.boot, self.uptime, 0), NOW, since=NOW)
        healing_state.save(new, self.places.state)

    def set(self, **changes: Any) -> None:
        content = fleet_state.Settings(
            tuple(allowed.ACTIONS), HOSTS, str(self.root), page="senior", drains=True
        )
        self.places.settings.write_text(json.dumps({**asdict(content), **changes}))

    def _run(self, arguments: Sequence[str]) -> Ran:
        self.runs.append(list(arguments))
        name = arguments[0].removeprefix("katago.fleet.")
        if self.during:
            self.during(name)
        if name == "triage" and self.report is not None:
            (path,) = json.loads(arguments[1].partition("=")[2]).values()
            Path(path).write_text(json.dumps(self.report))
        if name == "incident_open" and self.opens:
            self.incident = "INC-1"
        return self.results.get(name, Ran(0, "ok"))

    def receive(self, *alerts: dict[str, Any]) -> None:
        self.received += 1
        (self.places.events / f"{self.received:06}.json").write_text(quote(json.dumps(message(*alerts))))

    def heal(self, *alerts: dict[str, Any]) -> fleet_state.State:
        """Receive one message and run; return the state. Each time, a new instance of the program."""
        if alerts:
            self.receive(*alerts)
        world = World(
            run=self._run,
            incident=lambda _root, _alert: self.incident,
            clock=lambda: (self.boot, self.uptime),
            now=lambda: NOW,
            journal=lambda level, text: self.lines.append((level, text)),
        )
        assert Healer(self.places, world).run() == 0
        assert list(self.places.events.iterdir()) == []
        return self.state()

    def state(self) -> fleet_state.State:
        return fleet_state.load(self.places.state)

    @property
    def names(self) -> list[str]:
        """The procedures that ran, in order."""
        return [each[0].removeprefix("katago.fleet.") for each in self.runs]

    @property
    def repairs(self) -> list[str]:
        return [name for name in self.names if name in CHANGES]

    @property
    def criticals(self) -> list[str]:
        return [text for level, text in self.lines if level == 2]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def at(minute: int) -> dict[str, Any]:
    """The alert that flaps, as it started in a minute."""
    return {**alert(), "startsAt": f"2026-11-29T{17 + minute // 60}:{minute % 60:02}:00Z"}


def test_bad_host_is_recorded_kept_as_evidence_and_drained(fleet: Fleet) -> None:
    state = fleet.heal(alert())
    assert fleet.names == ["triage", "incident_open", "evidence", "rotation_out"]
    assert fleet.runs[-1][1] == "--limit=katago-1"
    assert [(each.action, each.host, each.result) for each in state.repairs] == [
        ("drain", "katago-1", "repaired")
    ]
    assert state.counts == {"drain": {"repaired": 1}}
    assert state.status == "idle"
    events = [json.loads(line)["event"] for line in fleet.places.log.read_text().splitlines()]
    assert events == ["started", "repaired"]


def test_repair_is_on_disk_before_it_starts(fleet: Fleet) -> None:
    seen = []
    fleet.during = lambda name: seen.append((name, fleet.state().status, len(fleet.state().repairs)))
    fleet.heal(alert())
    assert ("rotation_out", "repairing", 1) in seen


def test_10000_alerts_are_one_run(fleet: Fleet) -> None:
    fleet.heal(*(alert(instance=HOSTS[number % 5], number=str(number)) for number in range(10_000)))
    assert fleet.names.count("triage") == 1
    assert fleet.names.count("incident_open") == 1
    assert fleet.state().runs == 1


def test_10000_messages_are_one_run(fleet: Fleet) -> None:
    for _ in range(10_000):
        fleet.receive(alert())
    fleet.heal()
    assert fleet.names == ["triage", "incident_open", "evidence", "rotation_out"]


def test_repeated_messages_run_nothing(fleet: Fleet) -> None:
    fleet.heal(alert())
    runs = len(fleet.runs)
    for _ in range(20):
        fleet.uptime += 120
        fleet.heal(alert())
    assert len(fleet.runs) == runs


def test_flapping_alert_gets_at_most_two_repairs_and_then_a_person(fleet: Fleet) -> None:
    for minute in range(100):
        fleet.uptime += 60
        fleet.heal({**at(minute), "status": "resolved"})
        fleet.heal(at(minute))
    assert 1 <= len(fleet.repairs) <= 2
    assert fleet.names.count("incident_escalate") == 1
    assert fleet.names.count("incident_open") == 1
    assert fleet.state().is_stopped
    assert len(fleet.criticals) == 1


@given(minutes=st.lists(st.integers(1, 90), min_size=1, max_size=40), restarts=st.sets(st.integers(0, 39)))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_budget_holds_for_any_flapping_over_reboots(
    tmp_path_factory: pytest.TempPathFactory, minutes: list[int], restarts: set[int]
) -> None:
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    made: list[float] = []
    elapsed = 0.0
    for number, gap in enumerate(minutes):
        elapsed += gap * 60
        fleet.uptime += gap * 60
        if number in restarts:
            fleet.boot, fleet.uptime = f"boot-{number}", 5.0
        before = len(fleet.repairs)
        fleet.heal({**alert(), "startsAt": f"start {number}"})
        made += [elapsed] * (len(fleet.repairs) - before)
    assert all(sum(0 <= late - early < HOUR for early in made) <= 2 for late in made)
    assert sum(elapsed - each < 24 * HOUR for each in made) <= 4


def test_resolved_alerts_run_nothing_and_end_a_block(fleet: Fleet) -> None:
    fleet.report = report_of(katago_1=host(reason("release", "P0", suspicious=True)))
    assert fleet.heal(alert()).status == "blocked"
    runs = len(fleet.runs)
    state = fleet.heal(alert(status="resolved"))
    assert len(fleet.runs) == runs
    assert state.status == "idle"
    assert state.escalation is None


def test_suspicious_host_calls_a_person_once_and_changes_nothing(fleet: Fleet) -> None:
    fleet.report = report_of(katago_1=host(reason("release", "P0", suspicious=True), reason("probe")))
    fleet.heal(alert())
    fleet.heal(alert())
    assert fleet.names == ["triage", "incident_open", "evidence", "incident_escalate"]


def test_failed_repair_stops_and_calls_a_person(fleet: Fleet) -> None:
    fleet.results["rotation_out"] = Ran(2, "no load balancer answers {{ x }}")
    state = fleet.heal(alert())
    assert state.is_stopped and "no load balancer answers" in state.why
    assert fleet.names[-1] == "incident_escalate"
    assert "{{" not in fleet.runs[-1][-1]
    runs = len(fleet.runs)
    assert fleet.heal(alert("AnalysisSlow")).status == "stopped"
    assert len(fleet.runs) == runs


def test_procedure_that_refuses_is_reported_and_does_not_stop(fleet: Fleet) -> None:
    fleet.results["rotation_out"] = Ran(2, "Refused; fewer than fleet_min_available hosts would remain")
    state = fleet.heal(alert())
    assert (state.status, state.is_stopped) == ("blocked", False)
    assert state.repairs[0].result == "refused"
    assert fleet.names[-1] == "incident_escalate"


def test_interrupted_repair_stops(fleet: Fleet) -> None:
    def killed(name: str) -> None:
        if name == "rotation_out":
            raise KeyboardInterrupt

    fleet.during = killed
    with pytest.raises(KeyboardInterrupt):
        fleet.heal(alert())
    fleet.during = None
    state = fleet.heal()
    assert state.is_stopped
    assert state.repairs[0].result == "interrupted"
    assert fleet.names.count("rotation_out") == 1
    assert fleet.names[-1] == "incident_escalate"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2}', None])
def test_damaged_or_missing_state_stops(fleet: Fleet, content: str | None) -> None:
    if content is None:
        fleet.places.state.unlink()
    else:
        fleet.places.state.write_text(content)
    fleet.incident = "INC-7"
    state = fleet.heal(alert())
    assert state.is_stopped and "the record of earlier repairs is lost" in state.why
    assert fleet.names == ["incident_escalate"]
    assert fleet.heal(alert()).is_stopped
    assert fleet.names == ["incident_escalate"]


def test_state_from_the_future_stops(fleet: Fleet) -> None:
    fleet.heal(alert())
    content = json.loads(fleet.places.state.read_text())
    content["clock"]["total"] = 0
    content["repairs"][0]["total"] = 10
    fleet.places.state.write_text(json.dumps(content))
    assert fleet.heal(alert()).is_stopped


@pytest.mark.parametrize(
    "name", ["restore", "purge_cache", "remove_host", "security_off", "rollback", "incident_close"]
)
def test_list_that_names_something_else_does_nothing(fleet: Fleet, name: str) -> None:
    fleet.set(actions=[*allowed.ACTIONS, name])
    state = fleet.heal(alert())
    assert fleet.runs == []
    assert state.status == "blocked" and repr(name) in state.why
    assert len(fleet.criticals) == 1


@pytest.mark.parametrize("place", [0, 1])
def test_paused_program_does_nothing(fleet: Fleet, place: int) -> None:
    pause = Pause(NOW, "anna@control", "a disk is replaced")
    fleet.places.pause[place].write_text(json.dumps(asdict(pause)))
    state = fleet.heal(alert())
    assert state.status == "paused" and "anna@control" in state.why
    assert fleet.runs == []
    fleet.places.pause[place].unlink()
    fleet.heal(alert())
    assert fleet.repairs == ["rotation_out"]


def test_variable_pauses(fleet: Fleet) -> None:
    fleet.set(paused=True)
    assert fleet.heal(alert()).status == "paused"
    assert fleet.runs == []


def test_pause_while_triage_runs_is_noticed(fleet: Fleet) -> None:
    fleet.during = lambda name: fleet.places.pause[0].touch()
    assert fleet.heal(alert()).status == "paused"
    assert fleet.names == ["triage"]


def test_dry_run_only_reports_what_it_would_do(fleet: Fleet) -> None:
    fleet.set(dry_run=True)
    state = fleet.heal(alert())
    fleet.heal(alert())
    assert set(fleet.names) == {"triage"}
    assert state.status == "would_repair"
    assert "would open or join an incident for ProbeWrong" in state.why
    assert "katago-1: probe is bad; would take the host out of rotation" in state.why
    assert len(fleet.places.log.read_text().splitlines()) == 1


def test_fleet_that_cannot_be_measured_calls_a_person_and_changes_nothing(fleet: Fleet) -> None:
    fleet.report, fleet.results["triage"] = None, Ran(4, "no host answers")
    state = fleet.heal(alert())
    assert state.status == "unknown" and "no host answers" in state.why
    assert fleet.names == ["triage", "incident_open", "incident_escalate"]


def test_healthy_fleet_gets_the_severity_of_the_alert(fleet: Fleet) -> None:
    fleet.report = {**report_of(), "verdict": "healthy"}
    fleet.heal(alert("ProbeFailed"))
    (opened,) = [each for each in fleet.runs if each[0].endswith("incident_open")]
    assert '--extra-vars={"severity": "P1"}' in opened


def test_second_alert_of_the_same_trouble_joins_its_own_incident(fleet: Fleet) -> None:
    fleet.heal(alert())
    fleet.heal(alert(), alert("EngineDown"))
    opened = [each[1] for each in fleet.runs if each[0].endswith("incident_open")]
    assert opened == ['--extra-vars={"alert": "ProbeWrong"}', '--extra-vars={"alert": "EngineDown"}']


def test_locked_host_is_repaired_later_in_the_same_incident(fleet: Fleet) -> None:
    locked = host(reason("probe"), lock={"owner": "anna@control", "procedure": "deploy"})
    fleet.report = report_of(katago_1=locked)
    assert fleet.heal(alert()).status == "waiting"
    fleet.report = report_of(katago_1=BROKEN)
    fleet.heal(alert())
    assert fleet.repairs == ["rotation_out"]
    assert fleet.names.count("incident_open") == 1
    assert '--extra-vars={"incident": "INC-1"}' in fleet.runs[-1]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"alerts": 1}', b"null"])
def test_message_that_cannot_be_read_is_skipped(fleet: Fleet, content: bytes) -> None:
    (fleet.places.events / "0.json").write_bytes(content)
    fleet.heal(alert())
    assert fleet.repairs == ["rotation_out"]
    assert any("the message 0.json cannot be used" in text for _, text in fleet.lines)


def test_link_in_the_spool_is_not_followed(fleet: Fleet) -> None:
    target = fleet.root / "secret.json"
    target.write_text(json.dumps(message(alert())))
    (fleet.places.events / "0.json").symlink_to(target)
    fleet.heal()
    assert fleet.runs == []
    assert target.exists()


def test_unfinished_message_of_the_receiver_is_left(fleet: Fleet) -> None:
    path = fleet.places.events / ".ansible_tmp"
    path.write_text("{")
    world = World(fleet._run, lambda *_: "", lambda: ("first", 1000), lambda: NOW, lambda *_: None)
    assert Healer(fleet.places, world).run() == 0
    assert path.exists()


def test_nothing_is_repaired_that_cannot_be_recorded(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(healing_state, "save", full)
    fleet.receive(alert())
    world = World(fleet._run, lambda *_: "", lambda: ("first", 1000), lambda: NOW, lambda *_: None)
    assert Healer(fleet.places, world).run() == 1
    assert fleet.repairs == []
    assert len(list(fleet.places.events.iterdir())) == 1


# The program is killed at any point of a run; the next run neither forgets an alert nor repeats a repair.


def killed_in(fleet: Fleet, name: str) -> None:
    """Kill the program while it runs a procedure, and start it again."""

    def kill(running: str) -> None:
        if running == name:
            raise KeyboardInterrupt

    fleet.during = kill
    with pytest.raises(KeyboardInterrupt):
        fleet.heal(alert())
    fleet.during = None


def killed_after_saves(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, saves: int) -> None:
    """Kill the program right after it has recorded its state so many times, and start it again."""
    save, done = healing_state.save, []

    def kill(state: healing_state.Remembered, path: Path) -> None:
        save(state, path)
        done.append(state)
        if len(done) == saves:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(healing_state, "save", kill)
        with pytest.raises(KeyboardInterrupt):
            fleet.heal(alert())


@pytest.mark.parametrize("saves", [1, 2, 3, 4])
def test_kill_at_any_point_loses_no_repair_and_repeats_none(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, saves: int
) -> None:
    killed_after_saves(fleet, monkeypatch, saves)
    state = fleet.heal()
    if state.is_stopped:
        # It was killed while the repair ran: a person decides.
        assert [each.result for each in state.repairs] == ["interrupted"]
        assert fleet.names[-1] == "incident_escalate"
    else:
        assert fleet.repairs == ["rotation_out"]
    assert fleet.names.count("rotation_out") <= 1


def test_kill_before_a_person_is_called_does_not_lose_the_call(fleet: Fleet) -> None:
    fleet.report = report_of(katago_1=host(reason("release", "P0", suspicious=True)))
    killed_in(fleet, "incident_escalate")
    fleet.heal()
    assert fleet.names.count("incident_escalate") == 2
    assert fleet.state().status == "blocked"
    assert fleet.names.count("incident_open") == 1


def test_pause_during_a_run_keeps_it_from_the_next_repair(fleet: Fleet) -> None:
    fleet.report = report_of(katago_1=BROKEN, katago_2=BROKEN)
    fleet.during = lambda name: fleet.places.pause[0].touch() if name == "rotation_out" else None
    assert fleet.heal(alert(), alert(instance="katago-2")).status == "paused"
    assert fleet.repairs == ["rotation_out"]
    fleet.places.pause[0].unlink()
    fleet.during = None
    fleet.heal(alert(), alert(instance="katago-2"))
    assert [each[1] for each in fleet.runs if each[0].endswith("rotation_out")] == [
        "--limit=katago-1",
        "--limit=katago-2",
    ]


def test_pause_while_the_incident_is_opened_keeps_it_from_the_first_repair(fleet: Fleet) -> None:
    fleet.during = lambda name: fleet.places.pause[0].touch() if name == "incident_open" else None
    assert fleet.heal(alert()).status == "paused"
    assert fleet.repairs == []


def test_repair_counts_from_its_own_start(fleet: Fleet) -> None:
    def slow(_name: str) -> None:
        fleet.uptime += 600

    fleet.during = slow
    state = fleet.heal(alert())
    # Triage, the incident and the evidence took 30 minutes.
    assert state.repairs[0].total == 1800


def test_full_disk_is_noticed_before_anything_runs(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(healing_state, "save", full)
    fleet.receive(alert())
    world = World(fleet._run, lambda *_: "", lambda: ("first", 1000), lambda: NOW, lambda *_: None)
    assert Healer(fleet.places, world).run() == 1
    assert fleet.runs == []


def test_incident_that_could_not_be_opened_is_opened_with_the_next_message(fleet: Fleet) -> None:
    fleet.report = {**report_of(), "verdict": "healthy"}
    fleet.results["incident_open"] = Ran(2, "another run has locked the records")
    fleet.opens = False
    fleet.heal(alert("ProbeFailed"))
    fleet.results.clear()
    fleet.opens = True
    fleet.heal(alert("ProbeFailed"))
    assert fleet.names.count("incident_open") == 2
    fleet.heal(alert("ProbeFailed"))
    assert fleet.names.count("incident_open") == 2


# Messages that are damaged, huge, or overtaken by others.


def test_alert_that_was_resolved_meanwhile_leads_to_nothing(fleet: Fleet) -> None:
    fleet.receive({**alert(status="resolved"), "endsAt": NOW})
    fleet.receive(alert())
    fleet.receive(alert())
    fleet.receive({**alert(status="resolved"), "endsAt": NOW})
    assert fleet.heal().status == "idle"
    assert fleet.runs == []


def test_alert_that_fires_again_after_it_was_resolved_is_decided_on(fleet: Fleet) -> None:
    fleet.receive({**at(0), "status": "resolved"})
    fleet.receive(at(5))
    fleet.heal()
    assert fleet.repairs == ["rotation_out"]


def test_resolved_alert_hides_no_other_of_the_same_name_and_host(fleet: Fleet) -> None:
    fleet.receive({**alert(device="0"), "status": "resolved"}, alert(device="1"))
    fleet.heal()
    assert fleet.repairs == ["rotation_out"]


def test_newest_messages_are_read_whatever_their_names(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healer, "MOST_MESSAGES", 2)
    contents = {"zz": message(), "b": message(), "a": message(alert())}
    for number, (name, content) in enumerate(contents.items()):
        path = fleet.places.events / f"{name}.json"
        path.write_text(quote(json.dumps(content)))
        os.utime(path, (number, number))
    fleet.heal()
    assert fleet.repairs == ["rotation_out"]


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"alerts": ' * 100_000])
def test_deeply_nested_message_is_skipped(fleet: Fleet, content: bytes) -> None:
    (fleet.places.events / "0.json").write_bytes(content)
    fleet.heal(alert())
    assert fleet.repairs == ["rotation_out"]


def test_message_that_cannot_be_read_is_not_taken_for_the_end_of_all_alerts(fleet: Fleet) -> None:
    fleet.report = report_of(katago_1=host(reason("release", "P0", suspicious=True)))
    fleet.heal(alert())
    (fleet.places.events / "0.json").write_bytes(b"{")
    assert fleet.heal().status == "blocked"
    fleet.heal(alert(status="resolved"))
    (fleet.places.events / "0.json").write_bytes(b"{")
    state = fleet.heal()
    assert state.status == "unknown"
    assert "0.json" in state.why and "it is not JSON" in state.why


def test_pipe_in_the_spool_does_not_block_the_program(fleet: Fleet) -> None:
    os.mkfifo(fleet.places.events / "0.json")
    fleet.heal(alert())
    assert fleet.repairs == ["rotation_out"]
