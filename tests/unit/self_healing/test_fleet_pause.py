"""A person pauses, resumes and reads fleet healing; a lost state is never replaced silently."""

from __future__ import annotations

import fcntl
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.self_healing import (
    fleet_pause,
    fleet_state,
    overview,
)
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import state as healing_state
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.budget import Clock
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.guard import BusyError
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.state import Escalation, Pause
from ansible_collections.katago.fleet.plugins.modules import fleet_healing
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import healing_table

NOW = "2026-11-29T17:00:00Z"
PAUSE = Pause(NOW, "anna@control", "a disk is replaced")


@pytest.fixture
def places(tmp_path: Path) -> fleet_pause.Places:
    made = fleet_pause.Places(
        settings=tmp_path / "settings.json",
        state=tmp_path / "state.json",
        guard=tmp_path / "guard",
        pause=(tmp_path / "paused.volatile", tmp_path / "paused"),
    )
    settings = fleet_state.Settings(("drain",), ("katago-1",), "/records")
    made.settings.write_text(json.dumps(asdict(settings)))
    return made


def repaired(seconds_ago: float, host: str = "katago-1") -> fleet_state.FleetRepair:
    return fleet_state.FleetRepair("a", "drain", host, "ProbeWrong", NOW, 90_000 - seconds_ago, "repaired")


def save(places: fleet_pause.Places, **changes: Any) -> None:
    state = fleet_state.State(Clock("first", 100, 90_000), NOW, counts={"drain": {"repaired": 2}})
    healing_state.save(replace(state, **changes), places.state)
    places.guard.touch()


def read(places: fleet_pause.Places) -> overview.Healing:
    return overview.of_fleet(overview.Places(places.settings, places.state, places.pause), "first", 100)


def test_state_is_created_once(places: fleet_pause.Places) -> None:
    assert fleet_pause.create_state(places, check=True)
    assert not places.state.exists()
    assert fleet_pause.create_state(places, check=False)
    assert not fleet_pause.create_state(places, check=False)


def test_lost_state_is_not_replaced(places: fleet_pause.Places) -> None:
    fleet_pause.create_state(places, check=False)
    places.state.unlink()
    assert not fleet_pause.create_state(places, check=False)
    assert not places.state.exists()


def test_pause_is_written_twice_and_ended_by_resume(places: fleet_pause.Places) -> None:
    save(places)
    parameters = {"why": "a disk", "who": "anna@control", "incident": ""}
    assert fleet_healing.paused(places, parameters, check=True)[0]
    assert read(places).paused == ""
    assert fleet_healing.paused(places, parameters, check=False)[0]
    assert all(path.exists() for path in places.pause)
    assert not fleet_healing.paused(places, parameters, check=False)[0]
    assert "anna@control: a disk" in read(places).paused
    changed, message = fleet_healing.resumed(places, check=False)
    assert changed and "paused since" in message
    assert not any(path.exists() for path in places.pause)


def test_resume_ends_a_stop_and_keeps_the_budget(places: fleet_pause.Places) -> None:
    save(places, repairs=(repaired(60),), escalation=Escalation(NOW, "a repair failed", stops=True))
    assert read(places).stopped == f"stopped since {NOW}: a repair failed"
    assert fleet_pause.resume(places, check=False) == [f"stopped since {NOW}: a repair failed"]
    assert read(places).stopped == ""
    assert read(places).left == {"hour": 3, "day": 7}
    assert fleet_pause.resume(places, check=False) == []


def test_resume_replaces_a_lost_state(places: fleet_pause.Places) -> None:
    save(places)
    places.state.write_text("{")
    assert "cannot be used" in read(places).problem
    (reason,) = fleet_pause.resume(places, check=False)
    assert "cannot be used" in reason
    assert read(places).problem == ""


def test_resume_with_damaged_settings_refuses_before_it_changes_anything(places: fleet_pause.Places) -> None:
    save(places, escalation=Escalation(NOW, "a repair failed", stops=True))
    places.settings.write_text("{")
    with pytest.raises(healing_state.StateError):
        fleet_healing.resumed(places, check=False)
    assert fleet_state.load(places.state).is_stopped


def test_resume_waits_for_a_run(places: fleet_pause.Places, monkeypatch: pytest.MonkeyPatch) -> None:
    save(places)
    monkeypatch.setattr(fleet_pause, "_GUARD_SECONDS", 0)
    with places.guard.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BusyError):
            fleet_pause.resume(places, check=False)


def test_budget_that_is_left_grows_while_the_host_runs(places: fleet_pause.Places) -> None:
    save(places, repairs=(repaired(3500), repaired(60)))
    of_fleet = overview.Places(places.settings, places.state, places.pause)
    assert overview.of_fleet(of_fleet, "first", 100).left == {"hour": 2, "day": 6}
    assert overview.of_fleet(of_fleet, "first", 300).left == {"hour": 3, "day": 6}


def shown(**hosts: Any) -> str:
    results = {name.replace("_", "-"): each for name, each in hosts.items()}
    return healing_table.render(healing_table.gather(results, ["katago-1", "katago-2"]))


OFF = asdict(overview.Healing())


def test_table_has_the_fleet_every_host_and_the_reasons(places: fleet_pause.Places) -> None:
    save(places, repairs=(repaired(60, "katago-2"),))
    healing_state.write_pause(PAUSE, places.pause, check=False)
    fleet = json.loads(json.dumps(asdict(read(places))))
    on = {**OFF, "installed": True, "mode": "active", "left": {"hour": 2, "day": 4}}
    stopped = {**on, "stopped": f"stopped since {NOW}: the repair failed"}
    text = shown(
        mon_1={"host": OFF, "fleet": fleet},
        katago_1={"host": stopped, "fleet": OFF},
        katago_2={"unreachable": True, "msg": "no route to host"},
    )
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert f"fleet, by mon-1 paused 3, 7 drain of katago-2, {NOW}: repaired" in lines
    assert "katago-1 stopped 2, 4" in lines
    assert "katago-2 unknown" in lines
    assert f"katago-1: stopped since {NOW}: the repair failed" in lines
    assert "katago-2: no route to host" in lines
    assert any(line.startswith("fleet, by mon-1: paused since") for line in lines)
    assert "mon-1 off" not in lines


def test_malformed_answer_is_unknown() -> None:
    assert "its answer is malformed" in shown(katago_1={"host": {"x": 1}, "fleet": OFF})
