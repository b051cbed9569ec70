"""A state that is lost or damaged never restores the budget; a pause by any file counts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import state as healing_state
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.budget import Clock
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.state import (
    Pause,
    Settings,
    State,
    StateError,
)

NOW, LATER = "2026-11-29T17:00:00Z", "2026-11-29T17:01:00Z"
STATE = State(Clock("boot", 100.0, 5000.0), NOW, since=NOW)
FULL = STATE.started("a1", "restart", "it failed").finished("a1", "repaired")


def changed(**changes: Any) -> bytes:
    return json.dumps({**asdict(FULL), **changes}).encode()


def repair(**changes: Any) -> list[dict[str, Any]]:
    return [{**asdict(FULL.repairs[0]), **changes}]


def test_state_survives_writing_and_reading(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    healing_state.save(FULL, path)
    assert healing_state.load(path) == FULL
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\x00" * 300,
        changed(format=2),
        changed(repairs=None),
        changed(status="fine"),
        changed(clock={"boot": "boot", "uptime": 1.0}),
        changed(clock={"boot": "boot", "uptime": 1.0, "total": float("nan")}),
        changed(clock={"boot": "boot", "uptime": -1.0, "total": 5000.0}),
        changed(clock={"boot": "boot", "uptime": 1.0, "total": float("inf")}),
        changed(repairs=repair(total=5001.0)),
        changed(repairs=repair(total=float("nan"))),
        changed(repairs=repair(total=-1.0)),
        changed(repairs=repair(result="done")),
        changed(repairs=repair() * 101),
        changed(counts={"restart": {"repaired": -1}}),
        changed(extra=1),
    ],
)
def test_damaged_state_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    with pytest.raises(StateError, match="cannot be used"):
        healing_state.load(path)


def test_missing_state_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"state\.json cannot be used: .*No such file"):
        healing_state.load(tmp_path / "state.json")


@given(st.data())
def test_state_that_was_cut_is_an_error(data: st.DataObject) -> None:
    whole = json.dumps(asdict(FULL)).encode()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(ValueError, match=r"."):
        shape.record(State, shape.parsed(cut))


def test_repairs_of_an_earlier_day_are_dropped_but_still_counted() -> None:
    day_later = FULL.at(Clock("boot", 86500.0, 91400.0), LATER)
    assert day_later.repairs == ()
    assert day_later.counts == {"restart": {"repaired": 1}}
    assert FULL.at(Clock("boot", 86499.0, 91399.0), LATER).repairs == FULL.repairs


def test_status_keeps_its_beginning_until_it_changes() -> None:
    waiting = FULL.at(FULL.clock, LATER).having("waiting", "x")
    assert waiting.since == LATER
    assert waiting.at(FULL.clock, "2026-11-29T17:02:00Z").having("waiting", "x").since == LATER


@pytest.mark.parametrize("content", ["", "{}", "stop it", '{"since": 1}', "\xff"])
def test_any_file_pauses(tmp_path: Path, content: str) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    assert healing_state.pause((first, second)) is None
    second.write_text(content)
    pause = healing_state.pause((first, second))
    assert pause is not None
    assert str(pause) == f"paused since an unknown time by somebody: the file {second} exists"


def test_pause_says_who_paused_since_when_and_why(tmp_path: Path) -> None:
    path = tmp_path / "paused"
    path.write_text(json.dumps(asdict(Pause(NOW, "anna@control", "a disk is replaced", "2026-11-29-1"))))
    pause = healing_state.pause((path,))
    assert str(pause) == (f"paused since {NOW} by anna@control: a disk is replaced (incident 2026-11-29-1)")


@pytest.mark.parametrize("content", ["", "[]", '{"dry_run": "no"}', '{"dryrun": true}'])
def test_damaged_settings_are_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(content)
    with pytest.raises(StateError, match="cannot be used"):
        healing_state.settings(path)
    path.write_text('{"dry_run": true, "paused": false}')
    assert healing_state.settings(path) == Settings(dry_run=True)


@pytest.mark.parametrize("why", ["", "  \n ", "x" * 1001])
def test_pause_needs_a_reason_of_reasonable_length(why: str) -> None:
    with pytest.raises(ValueError, match="give the reason in 1 to 1000 characters"):
        healing_state.reason(why)
