"""A run repairs at most one fault, records it before it starts, and stops rather than guess."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.procedure import drill_state, host_lock
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import budget, log, policy
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import state as healing_state
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.healer import Healer, Host, Places
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.policy import Case
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.repairs import RepairError
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts
from tests.unit.self_healing.test_policy import SWITCHED, case, failed

NOW = "2026-11-29T17:00:00Z"
ANNA = host_lock.Holder("anna@control", "deploy", "machine:1:2", NOW, "deadbeef")
HEALTHY, FAILED = case(), failed()
DAMAGED = case(cache=["malformed"], journal={"cache_trouble": "malformed"})


@dataclass
class World:
    """A host: what is measured there, and what was done. `repairs`: makes the host healthy by default."""

    root: Path
    present: Case = field(default_factory=lambda: HEALTHY)
    uptime: float = 1000
    boot: str = "first"
    done: list[str] = field(default_factory=list)
    lines: list[tuple[int, str]] = field(default_factory=list)
    repair: Callable[[str], str] | None = None
    at_examination: Callable[[], None] = lambda: None
    at_evidence: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.places = Places(
            state=self.root / "state.json",
            settings=self.root / "settings.json",
            log=self.root / "repairs.jsonl",
            evidence=self.root / "evidence",
            pause=(self.root / "paused.volatile", self.root / "paused"),
            security_mode=(self.root / "security.volatile", self.root / "security"),
            lock=self.root / "lock",
            drill=self.root / "drill",
        )
        self.set()
        clock = budget.Clock(self.boot, self.uptime, 0)
        healing_state.save(healing_state.State(clock, NOW, since=NOW), self.places.state)

    def set(self, **settings: bool) -> None:
        self.places.settings.write_text(json.dumps(asdict(healing_state.Settings(**settings))))

    def drill(self, name: str, *, is_undone: bool = False) -> None:
        """Have a drill on the host."""
        phase: drill_state.Phase = "undone" if is_undone else "injected"
        drill = drill_state.Drill(name, "service_killed", {}, NOW, NOW, 600, self.boot, self.uptime, phase)
        drill_state.save(drill, self.places.drill)

    def repaired(self, name: policy.Name) -> Callable[[str], str]:
        def repair(fault: str) -> str:
            self.done.append(name)
            if self.repair:
                return self.repair(fault)
            self.present = HEALTHY
            return "done."

        return repair

    def examine(self, _candidate: policy.Name) -> Case:
        self.at_examination()
        return self.present

    def keep_evidence(self, root: Path, name: str) -> Path:
        self.at_evidence()
        self.done.append("evidence")
        return root / name

    def run(self, seconds: float = 60) -> healing_state.State:
        """Run the program once, some time after the last run."""
        self.uptime += seconds
        host = Host(
            look=lambda: self.present,
            examine=self.examine,
            keep_evidence=self.keep_evidence,
            repairs={each.name: self.repaired(each.name) for each in policy.ALLOWED},
            clock=lambda: (self.boot, self.uptime),
            now=lambda: NOW,
            journal=lambda level, text: self.lines.append((level, text)),
        )
        assert Healer(self.places, host).run() == 0
        return self.state

    @property
    def state(self) -> healing_state.State:
        return healing_state.load(self.places.state)

    @property
    def events(self) -> list[str]:
        return [event.event for event in log.newest(self.places.log)]

    @property
    def escalations(self) -> list[str]:
        """The lines of the journal that call a person."""
        return [text for level, text in self.lines if level <= 2]


def fails(_fault: str) -> str:
    raise RepairError("The service does not work afterwards.")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_healthy_host_is_left_alone(world: World) -> None:
    state = world.run()
    assert (state.status, state.clock.total, world.done, world.lines) == ("idle", 60, [], [])


@pytest.mark.parametrize(
    ("host", "repair"),
    [(FAILED, "restart"), (failed(history=SWITCHED), "roll_back"), (DAMAGED, "quarantine_cache")],
)
def test_evidence_is_kept_before_the_repair(world: World, host: Case, repair: str) -> None:
    world.present = host
    state = world.run()
    assert world.done == ["evidence", repair]
    assert (state.status, state.counts) == ("idle", {repair: {"repaired": 1}})
    assert world.events == ["started", "repaired"]
    assert not world.places.lock.exists()


def test_repair_is_on_disk_and_the_host_locked_before_it_starts(world: World) -> None:
    seen = []

    def repair(_fault: str) -> str:
        holder = host_lock.holder(world.places.lock)
        seen.append((world.state.status, world.state.repairs[0].result, holder and holder.procedure))
        return "done."

    world.present, world.repair = FAILED, repair
    world.run()
    assert seen == [("repairing", "started", "self_healing")]


def test_repair_that_fails_stops_the_program_until_a_person_resumes(world: World) -> None:
    def repair(_fault: str) -> str:
        raise RepairError("The service does not work afterwards:\n- ready: no\nIts last log lines:\n{}")

    world.present, world.repair = FAILED, repair
    states = [world.run(), world.run(7200), world.run(90000)]
    assert [state.status for state in states] == ["stopped"] * 3
    assert world.done == ["evidence", "restart"]
    assert world.events == ["started", "failed", "escalated"]
    (line,) = world.escalations
    assert "has stopped on this host: katago-mcp.service is failed" in line
    assert "does not work afterwards: - ready: no. Run playbooks/triage.yml" in line
    assert "Its last log lines" in log.newest(world.places.log)[1].message
    assert "healing_resume.yml" in line


def test_bug_in_a_repair_is_a_failed_repair(world: World) -> None:
    def repair(_fault: str) -> str:
        raise KeyError("x")

    world.present, world.repair = FAILED, repair
    state = world.run()
    assert (state.status, state.repairs[0].result) == ("stopped", "failed")
    assert not world.places.lock.exists()


def test_fault_that_returns_within_an_hour_stops_the_program(world: World) -> None:
    world.present = FAILED
    world.run()
    world.present = FAILED
    assert world.run().status == "stopped"
    assert world.done == ["evidence", "restart"]
    assert "did not last" in world.escalations[0]


def test_another_fault_waits_for_the_cool_down(world: World) -> None:
    world.present = FAILED
    world.run()
    world.present = DAMAGED
    assert [world.run(300).status, world.run(299).status, world.run(2).status] == ["waiting"] * 2 + ["idle"]
    assert world.done == ["evidence", "restart", "evidence", "quarantine_cache"]
    assert world.escalations == []


def test_failures_that_the_journal_still_has_are_no_new_ones(world: World) -> None:
    world.present, world.repair = case(engine_journal={"failures": 3}), lambda fault: "done."
    assert [world.run(seconds).status for seconds in (60, 60, 539, 1)] == [
        *("idle", "waiting", "waiting"),
        "stopped",
    ]
    assert world.done == ["evidence", "lower_limits"]


def test_used_up_budget_stops_the_program(world: World) -> None:
    for host in (FAILED, DAMAGED, failed(history=SWITCHED)):
        world.present = host
        state = world.run(700)
    assert (state.status, state.is_stopped) == ("stopped", True)
    assert world.done.count("evidence") == 2
    assert "budget of 2 repairs in an hour is used up" in world.escalations[0]


def test_budget_holds_after_a_reboot_and_any_jump_of_the_wall_clock(world: World) -> None:
    world.present = FAILED
    world.run()
    world.boot, world.uptime, world.present = "second", 0, FAILED
    assert world.run(30).status == "stopped"


@given(st.lists(st.tuples(st.integers(0, 90000), st.booleans(), st.booleans()), max_size=25))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_failing_repairs_are_never_repeated(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, bool, bool]]
) -> None:
    world = World(tmp_path_factory.mktemp("host"))

    def repair(_fault: str) -> str:
        raise OSError(5, os.strerror(5))

    world.repair = repair
    for seconds, reboots, has_fault in runs:
        if reboots:
            world.boot, world.uptime = f"{world.boot}+", 0
        world.present = FAILED if has_fault else HEALTHY
        world.run(seconds)
    assert len(world.done) <= 2


def test_flapping_fault_is_repaired_twice_at_most_before_a_person_is_called(world: World) -> None:
    for number in range(100):
        world.present = (FAILED, DAMAGED)[number % 2]
        world.run(30)
        world.present = HEALTHY
        world.run(30)
    assert world.done.count("evidence") <= 2
    assert len(world.escalations) == 1


@pytest.mark.parametrize("name", ["paused.volatile", "paused"])
def test_kill_switch_keeps_the_program_from_everything(world: World, name: str) -> None:
    world.present = FAILED
    (world.root / name).touch()
    assert world.run().status == "paused"
    assert (world.done, world.escalations) == ([], [])
    (world.root / name).unlink()
    assert world.run().status == "idle"
    assert world.done == ["evidence", "restart"]


def test_variable_pauses_the_program(world: World) -> None:
    world.present = FAILED
    world.set(paused=True)
    assert (world.run().why, world.done) == ("paused by the variable self_healing_paused", [])


def test_dry_run_says_once_what_it_would_do(world: World) -> None:
    world.present = FAILED
    world.set(dry_run=True)
    assert [world.run().status, world.run(9000).status] == ["would_repair"] * 2
    assert (world.done, world.state.repairs, world.events) == ([], (), ["would_repair"])
    assert "would restart the service by force" in world.state.why
    assert not world.places.lock.exists()
    world.present = HEALTHY
    assert world.run().status == "idle"


def test_locked_host_is_left_to_the_procedure(world: World) -> None:
    world.present = FAILED
    host_lock.take(ANNA, world.places.lock)
    state = world.run()
    assert (state.status, world.done, world.escalations) == ("blocked", [], [])
    assert "anna@control has locked the host for deploy" in state.why
    assert host_lock.holder(world.places.lock) == ANNA


def test_procedure_that_was_faster_keeps_its_lock(world: World) -> None:
    world.present = FAILED
    world.at_examination = lambda: _ignored(host_lock.take(ANNA, world.places.lock))
    assert (world.run().status, world.done) == ("blocked", [])
    assert host_lock.holder(world.places.lock) == ANNA


def test_procedure_that_locks_the_host_at_the_last_moment_keeps_its_lock(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = host_lock.take
    monkeypatch.setattr(host_lock, "take", lambda claim, path: (take(ANNA, path), take(claim, path))[1])
    world.present = FAILED
    assert (world.run().status, world.done) == ("blocked", [])
    assert host_lock.holder(world.places.lock) == ANNA


def _ignored(_value: object) -> None:
    pass


def test_host_in_security_mode_is_evidence(world: World) -> None:
    world.present = FAILED
    world.places.security_mode[1].write_text("{}")
    state = world.run()
    assert (state.status, world.done) == ("blocked", [])
    assert state.escalation is not None
    assert "security mode" in world.escalations[0]


@pytest.mark.parametrize("name", ["security", "paused"])
def test_somebody_who_interferes_before_the_repair_is_obeyed(world: World, name: str) -> None:
    world.present = FAILED
    world.at_examination = lambda: _ignored((world.root / name).write_text("{}"))
    assert world.run().status in ("blocked", "paused")
    assert world.done == []
    assert not world.places.lock.exists()


def test_fault_that_is_gone_before_the_repair_is_not_repaired(world: World) -> None:
    world.present = FAILED
    looks = iter([FAILED, HEALTHY])
    host = Host(
        look=lambda: next(looks),
        examine=world.examine,
        keep_evidence=world.keep_evidence,
        repairs={},
        clock=lambda: (world.boot, world.uptime),
        now=lambda: NOW,
        journal=lambda level, text: None,
    )
    assert Healer(world.places, host).run() == 0
    assert (world.state.status, world.done) == ("idle", [])
    assert not world.places.lock.exists()


def test_host_that_cannot_be_measured_is_unknown_and_keeps_its_escalation(world: World) -> None:
    world.present = failed(release={"damage": ["venv/cli.py was changed"]})
    escalation = world.run().escalation
    values = {name: value for name, value in HEALTHY.facts.values.items() if name != "unit"}
    world.present = Case(facts.Facts(values, {"unit": "it took too long"}))  # type: ignore[arg-type]
    state = world.run()
    assert (state.status, state.why, state.escalation) == ("unknown", "it took too long", escalation)


def test_suspicious_host_is_reported_once_and_not_touched(world: World) -> None:
    world.present = failed(release={"damage": ["venv/cli.py was changed"]})
    assert [world.run().status, world.run().status] == ["blocked"] * 2
    assert (world.done, len(world.escalations)) == ([], 1)
    world.present = HEALTHY
    assert world.run().escalation is None


def test_repair_without_evidence_is_not_made(world: World) -> None:
    def full() -> None:
        raise OSError(28, os.strerror(28))

    world.present, world.at_evidence = FAILED, full
    assert (world.run().status, world.done) == ("blocked", [])
    assert "evidence cannot be kept" in world.escalations[0]


def test_repair_that_cannot_be_recorded_is_not_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_state: healing_state.State, _path: Path) -> None:
        raise OSError(28, os.strerror(28))

    world.present = FAILED
    monkeypatch.setattr(healing_state, "save", full)
    with pytest.raises(AssertionError):
        world.run()
    assert world.done == ["evidence"]
    assert "cannot record repairs" in world.escalations[0]
    assert not world.places.lock.exists()


def test_killed_repair_is_interrupted_and_its_lock_released(world: World) -> None:
    def killed(_fault: str) -> str:
        raise KeyboardInterrupt

    world.present, world.repair = FAILED, killed
    with pytest.raises(KeyboardInterrupt):
        world.run()
    host_lock.take(replace(ANNA, owner="self-healing@katago-1", run="self-healing:1"), world.places.lock)
    assert world.state.status == "repairing"
    state = world.run()
    assert (state.status, state.repairs[0].result) == ("stopped", "interrupted")
    assert world.events == ["started", "interrupted", "escalated"]
    assert not world.places.lock.exists()


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\x00\x00"])
def test_lost_state_stops_the_program_and_is_kept(world: World, content: bytes | None) -> None:
    world.present = FAILED
    world.places.state.unlink()
    if content is not None:
        world.places.state.write_bytes(content)
    assert [world.run().status, world.run(90000).status] == ["stopped"] * 2
    assert (world.done, len(world.escalations)) == ([], 1)
    kept = [path.read_bytes() for path in world.root.glob("state.json.damaged-*")]
    assert kept == ([] if content is None else [content])


def test_damaged_settings_keep_the_program_from_everything(world: World) -> None:
    world.present = FAILED
    world.places.settings.write_text('{"dry_run": maybe}')
    assert (world.run().status, world.done, len(world.escalations)) == ("blocked", [], 1)


def test_status_is_in_the_journal_only_when_it_changes(world: World) -> None:
    world.present = FAILED
    world.set(paused=True)
    times = iter(f"2026-11-29T17:0{minute}:00Z" for minute in range(9))
    for _ in range(3):
        host = Host(
            look=lambda: world.present,
            clock=lambda: (world.boot, world.uptime),
            now=lambda: next(times),
            journal=lambda level, text: world.lines.append((level, text)),
        )
        Healer(world.places, host).run()
    assert [text for _, text in world.lines] == ["paused: paused by the variable self_healing_paused"]


def test_event_in_a_timeline_names_host_repair_and_evidence(world: World) -> None:
    world.present = FAILED
    world.run()
    started, repaired = [log.timeline(each, "katago-1") for each in log.newest(world.places.log)]
    assert (started["result"], repaired["result"]) == ("begun", "changed")
    assert started["run"] == repaired["run"]
    assert "restart: done. Evidence on the host: " in repaired["message"]


def test_line_of_the_log_that_was_cut_is_skipped(world: World) -> None:
    world.present = FAILED
    world.run()
    with world.places.log.open("a") as file:
        file.write('{"at": "2026')
    assert world.events == ["started", "repaired"]


def test_old_events_are_not_added_to_a_timeline(tmp_path: Path) -> None:
    path = tmp_path / "repairs.jsonl"
    log.append(log.Event("2020-01-01T00:00:00Z", "repaired", "x"), path)
    new = log.Event(timestamps.now(), "repaired", "y")
    log.append(new, path)
    assert log.fetch(path) == [asdict(new)]
    assert log.fetch(tmp_path / "none") == []


def test_repairs_of_drills_do_not_count_towards_the_budget(world: World) -> None:
    for number in range(budget.PER_DAY + 1):
        world.drill(f"drill-{number}")
        world.present = FAILED
        assert world.run().status == "idle"
        world.drill(f"drill-{number}", is_undone=True)
    assert world.done.count("restart") == budget.PER_DAY + 1
    assert world.run().repairs == ()
    world.present = FAILED
    assert world.run().status == "idle"
    assert world.done.count("restart") == budget.PER_DAY + 2


def test_repair_before_a_drill_counts_after_it(world: World) -> None:
    world.present = FAILED
    world.run()
    world.drill("drill-1")
    world.present = FAILED
    assert world.run().status == "idle"
    assert world.done.count("restart") == 2
    world.drill("drill-1", is_undone=True)
    world.present = FAILED
    assert world.run().is_stopped


def test_drill_has_a_budget_of_its_own(world: World) -> None:
    world.drill("drill-1")
    world.present = FAILED
    world.run()
    world.present = FAILED
    state = world.run()
    assert state.is_stopped
    assert world.done.count("restart") == 1


def test_stop_during_a_drill_ends_with_it(world: World) -> None:
    world.drill("drill-1")
    world.repair = fails
    world.present = FAILED
    assert world.run().is_stopped
    assert world.run().is_stopped
    world.present = HEALTHY
    world.drill("drill-1", is_undone=True)
    state = world.run()
    assert (state.status, state.escalation) == ("idle", None)


def test_stop_before_a_drill_lasts(world: World) -> None:
    world.repair = fails
    world.present = FAILED
    assert world.run().is_stopped
    world.drill("drill-1")
    assert world.run().is_stopped
    world.drill("drill-1", is_undone=True)
    assert world.run().is_stopped


@pytest.mark.parametrize(("is_undone", "stops"), [(True, False), (False, True)])
def test_repair_that_the_drill_interrupted_stops_nothing_after_it(
    world: World, is_undone: bool, stops: bool
) -> None:
    state = world.state.started("a1", "restart", "the service failed", "drill-1")
    healing_state.save(state, world.places.state)
    world.drill("drill-1", is_undone=is_undone)
    assert world.run().is_stopped is stops
    assert world.events[0] == "interrupted"
