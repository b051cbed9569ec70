"""One procedure at a time, and a lock that is taken over only by whom it may be."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.action import lock
from ansible_collections.katago.fleet.plugins.module_utils import locks
from ansible_collections.katago.fleet.plugins.module_utils.locks import Holder

ANNA = Holder("anna@control", "restart", "boot/1:42:4711", "2026-01-01T00:00:00Z")
BERTA = Holder("berta@control", "restart", "boot/1:43:4712", "2026-01-01T00:05:00Z")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock.json"


def test_first_gets_the_lock_and_the_second_learns_who_has_it(path: Path) -> None:
    assert locks.take(ANNA, path) == ANNA
    assert locks.take(BERTA, path) == ANNA
    assert [each.name for each in path.parent.iterdir()] == ["lock.json"]


def test_run_that_holds_the_lock_keeps_it_as_it_is(path: Path) -> None:
    locks.take(ANNA, path)
    later = Holder(ANNA.owner, "rollback", ANNA.run, "2026-01-01T01:00:00Z")
    assert locks.take(later, path).run == ANNA.run
    assert locks.holder(path) == ANNA


def test_lock_is_given_back_by_its_run_only(path: Path) -> None:
    locks.take(ANNA, path)
    assert not locks.release(BERTA.run, path)
    assert locks.holder(path) == ANNA
    assert locks.release(ANNA.run, path)
    assert locks.holder(path) is None
    assert not locks.release(ANNA.run, path)


def test_lock_is_taken_from_the_named_holder_and_from_nobody_else(path: Path) -> None:
    locks.take(ANNA, path)
    other = Holder("carla@control", "restart", "boot/1:44:4713", ANNA.since)
    assert locks.take(BERTA, path, instead_of=other) == ANNA
    assert locks.take(BERTA, path, instead_of=ANNA) == BERTA
    assert locks.holder(path) == BERTA


@pytest.mark.parametrize("content", ["", "{", "[]", '{"owner": "anna"}'])
def test_lock_that_cannot_be_read_is_held_all_the_same(path: Path, content: str) -> None:
    path.write_text(content)
    assert locks.take(ANNA, path).owner == "unknown"
    assert locks.take(ANNA, path, instead_of=locks.holder(path)) == ANNA


@pytest.mark.parametrize(
    ("holder", "life", "breaking", "expected"),
    [
        (ANNA, "dead", "", True),
        (ANNA, "alive", "", False),
        (ANNA, "unknown", "", False),
        (Holder("anna@control", "rollback", "x", ANNA.since), "dead", "", False),
        (BERTA, "dead", "", False),
        (BERTA, "alive", "berta@control", True),
        (BERTA, "dead", "carla@control", False),
    ],
)
def test_takeover_is_for_ones_own_dead_run_of_the_same_procedure_or_by_name(
    holder: Holder, life: locks.Life, breaking: str, expected: bool
) -> None:
    claimant = Holder("anna@control", "restart", "boot/1:99:1", "2026-01-01T02:00:00Z")
    assert locks.may_take_over(holder, claimant, life, breaking) is expected


def test_refusal_names_owner_age_life_and_the_way_on() -> None:
    message = locks.refusal(asdict(ANNA), 754, "dead", "katago-1", "")
    assert "katago-1 is locked by anna@control for restart since 2026-01-01T00:00:00Z (12 min ago)" in message
    assert "That run is dead" in message
    assert message.endswith("-e break_lock=anna@control")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-3, "0 s"), (119, "119 s"), (120, "2 min"), (7140, "119 min"), (11100, "3 h 5 min")],
)
def test_age_is_told_in_words(seconds: float, expected: str) -> None:
    assert locks.words(seconds) == expected


def test_age_is_counted_from_when_it_was_taken() -> None:
    assert ANNA.age(datetime(2026, 1, 1, 0, 10, tzinfo=UTC)) == 600


def test_run_of_a_process_that_is_gone_is_dead_and_one_elsewhere_is_unknown() -> None:
    mine = lock.this_run()
    assert lock.life(mine) == "alive"
    machine, pid, started = mine.rsplit(":", 2)
    assert lock.life(f"{machine}:{pid}:{int(started) + 1}") == "dead"
    assert lock.life(f"{machine}:4194305:1") == "dead"
    assert lock.life(f"elsewhere/1:{pid}:{started}") == "unknown"


def test_lock_on_disk_is_json_for_people_too(path: Path) -> None:
    locks.take(ANNA, path)
    assert json.loads(path.read_text()) == asdict(ANNA)
