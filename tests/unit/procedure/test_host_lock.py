"""One procedure at a time, and a lock that is taken over only by whom it may be."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import threading
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock
from ansible_collections.katago.fleet.plugins.module_utils.procedure.host_lock import Holder
from ansible_collections.katago.fleet.plugins.plugin_utils.run import runs

FORK = multiprocessing.get_context("fork")
MOMENT = 0.5
"""Seconds in which another process would do what it must not be able to do."""
ANNA = Holder("anna@control", "restart", "boot/1:42:4711", "2026-01-01T00:00:00Z")
BERTA = Holder("berta@control", "restart", "boot/1:43:4712", "2026-01-01T00:05:00Z")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock.json"


def test_first_gets_the_lock_and_the_second_learns_who_has_it(path: Path) -> None:
    assert host_lock.take(ANNA, path) == ANNA
    assert host_lock.take(BERTA, path) == ANNA
    assert sorted(each.name for each in path.parent.iterdir()) == ["lock.json", "lock.json.guard"]


def test_run_that_holds_the_lock_keeps_it_as_it_is(path: Path) -> None:
    host_lock.take(ANNA, path)
    later = Holder(ANNA.owner, "rollback", ANNA.run, "2026-01-01T01:00:00Z")
    assert host_lock.take(later, path).run == ANNA.run
    assert host_lock.holder(path) == ANNA


def test_lock_is_given_back_by_its_run_only(path: Path) -> None:
    host_lock.take(ANNA, path)
    assert not host_lock.release(BERTA.run, path)
    assert host_lock.holder(path) == ANNA
    assert host_lock.release(ANNA.run, path)
    assert host_lock.holder(path) is None
    assert not host_lock.release(ANNA.run, path)


def test_lock_is_taken_from_the_named_holder_and_from_nobody_else(path: Path) -> None:
    host_lock.take(ANNA, path)
    other = Holder("carla@control", "restart", "boot/1:44:4713", ANNA.since)
    assert host_lock.take(BERTA, path, instead_of=other) == ANNA
    assert host_lock.take(BERTA, path, instead_of=ANNA) == BERTA
    assert host_lock.holder(path) == BERTA


@pytest.fixture
def slow_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at the lock then waits until all three have, or for a moment where they cannot."""
    barrier = FORK.Barrier(3)
    look = host_lock.holder

    def looking(path: Path) -> Holder | None:
        seen = look(path)
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait(MOMENT)
        return seen

    monkeypatch.setattr(host_lock, "holder", looking)


@pytest.mark.usefixtures("slow_look")
@pytest.mark.parametrize("broken", [ANNA, None], ids=["taken over", "free"])
def test_of_three_who_saw_the_same_lock_one_gets_it(path: Path, broken: Holder | None) -> None:
    if broken:
        path.write_text(json.dumps(asdict(broken)))
    claimants = [Holder(f"{name}@control", "restart", name, BERTA.since) for name in "bcd"]
    told = FORK.SimpleQueue()

    def claim(wanted: Holder) -> None:
        told.put((wanted.run, host_lock.take(wanted, path, instead_of=broken).run))

    processes = [FORK.Process(target=claim, args=(wanted,)) for wanted in claimants]
    for process in processes:
        process.start()
    answers = dict(told.get() for _ in processes)
    for process in processes:
        process.join()
    (winner,) = {run for run, holding in answers.items() if run == holding}
    assert set(answers.values()) == {winner}
    assert json.loads(path.read_text())["run"] == winner


def test_lock_that_was_taken_over_is_not_released_by_who_had_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_lock.take(ANNA, path)
    look = host_lock.holder
    looked, taken = FORK.Event(), FORK.Event()

    def looking(path: Path) -> Holder | None:
        seen = look(path)
        looked.set()
        taken.wait(MOMENT)
        return seen

    with monkeypatch.context() as slow:
        slow.setattr(host_lock, "holder", looking)
        releasing = FORK.Process(target=host_lock.release, args=(ANNA.run, path))
        releasing.start()
    assert looked.wait(60)
    assert host_lock.take(BERTA, path, instead_of=ANNA) == BERTA
    taken.set()
    releasing.join()
    assert host_lock.holder(path) == BERTA


def test_guard_that_is_not_to_be_had_is_an_error_that_names_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_lock.take(ANNA, path)
    monkeypatch.setattr(host_lock, "GUARD_SECONDS", 0)
    with path.with_name(path.name + host_lock.GUARD).open() as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        for step in (
            lambda: host_lock.take(BERTA, path, instead_of=ANNA),
            lambda: host_lock.release(ANNA.run, path),
        ):
            with pytest.raises(TimeoutError, match=r"takes or releases the lock .*lock\.json\.guard"):
                step()
    assert host_lock.release(ANNA.run, path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"owner": "anna"}'])
def test_lock_that_cannot_be_read_is_held_all_the_same(path: Path, content: str) -> None:
    path.write_text(content)
    assert host_lock.take(ANNA, path).owner == "unknown"
    assert host_lock.take(ANNA, path, instead_of=host_lock.holder(path)) == ANNA


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
    holder: Holder, life: host_lock.Life, breaking: str, expected: bool
) -> None:
    claimant = Holder("anna@control", "restart", "boot/1:99:1", "2026-01-01T02:00:00Z")
    assert host_lock.may_take_over(holder, claimant, life, breaking) is expected


def test_refusal_names_owner_age_life_and_the_way_on() -> None:
    message = host_lock.refusal(asdict(ANNA), 754, "dead", "katago-1", "")
    assert "katago-1 is locked by anna@control for restart since 2026-01-01T00:00:00Z (12 min ago)" in message
    assert "That run is dead" in message
    assert message.endswith("-e break_lock=anna@control")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-3, "0 s"), (119, "119 s"), (120, "2 min"), (7140, "119 min"), (11100, "3 h 5 min")],
)
def test_age_is_told_in_words(seconds: float, expected: str) -> None:
    assert host_lock.words(seconds) == expected


def test_age_is_counted_from_when_it_was_taken() -> None:
    assert ANNA.age(datetime(2026, 1, 1, 0, 10, tzinfo=UTC)) == 600


def test_run_of_a_process_that_is_gone_is_dead_and_one_elsewhere_is_unknown() -> None:
    mine = runs.this_run()
    assert runs.life(mine) == "alive"
    machine, pid, started = mine.rsplit(":", 2)
    assert runs.life(f"{machine}:{pid}:{int(started) + 1}") == "dead"
    assert runs.life(f"{machine}:4194305:1") == "dead"
    assert runs.life(f"elsewhere/1:{pid}:{started}") == "unknown"


def test_lock_on_disk_is_json_for_people_too(path: Path) -> None:
    host_lock.take(ANNA, path)
    assert json.loads(path.read_text()) == asdict(ANNA)
