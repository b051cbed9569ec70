"""A host's lock: one procedure at a time, and rules for taking it over."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import threading
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock
from ansible_collections.katago.fleet.plugins.module_utils.procedure.host_lock import Holder
from ansible_collections.katago.fleet.plugins.plugin_utils.run import runs

FORK = multiprocessing.get_context("fork")
MOMENT = 0.5
"""Seconds that other processes get to do what the lock must prevent."""
ANNA = Holder("anna@control", "restart", "boot/1:42:4711", "2026-01-01T00:00:00Z")
WITH_ID = replace(ANNA, id="5e1f00d1", session="terminal pts/3, process 42")
BERTA = Holder("berta@control", "restart", "boot/1:43:4712", "2026-01-01T00:05:00Z")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock.json"


def test_first_run_gets_the_lock_and_the_second_sees_the_holder(path: Path) -> None:
    assert host_lock.take(ANNA, path) == ANNA
    assert host_lock.take(BERTA, path) == ANNA
    assert sorted(each.name for each in path.parent.iterdir()) == ["lock.json", "lock.json.guard"]


def test_lock_is_unchanged_if_its_own_run_takes_it_again(path: Path) -> None:
    host_lock.take(ANNA, path)
    later = Holder(ANNA.owner, "rollback", ANNA.run, "2026-01-01T01:00:00Z")
    assert host_lock.take(later, path).run == ANNA.run
    assert host_lock.holder(path) == ANNA


def test_only_the_run_that_holds_the_lock_releases_it(path: Path) -> None:
    host_lock.take(ANNA, path)
    assert not host_lock.release(BERTA.run, path)
    assert host_lock.holder(path) == ANNA
    assert host_lock.release(ANNA.run, path)
    assert host_lock.holder(path) is None
    assert not host_lock.release(ANNA.run, path)


def test_lock_is_broken_only_for_the_named_holder(path: Path) -> None:
    host_lock.take(ANNA, path)
    other = Holder("carla@control", "restart", "boot/1:44:4713", ANNA.since)
    assert host_lock.take(BERTA, path, instead_of=other) == ANNA
    assert host_lock.take(BERTA, path, instead_of=ANNA) == BERTA
    assert host_lock.holder(path) == BERTA


@pytest.fixture
def slow_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process that reads the lock waits until all three have read it, or for `MOMENT` seconds."""
    barrier = FORK.Barrier(3)
    read = host_lock.holder

    def slow_read(path: Path) -> Holder | None:
        holder = read(path)
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait(MOMENT)
        return holder

    monkeypatch.setattr(host_lock, "holder", slow_read)


@pytest.mark.usefixtures("slow_look")
@pytest.mark.parametrize("broken", [ANNA, None], ids=["taken over", "free"])
def test_exactly_one_of_three_simultaneous_claimants_gets_the_lock(path: Path, broken: Holder | None) -> None:
    if broken:
        path.write_text(json.dumps(asdict(broken)))
    claimants = [Holder(f"{name}@control", "restart", name, BERTA.since) for name in "bcd"]
    results = FORK.SimpleQueue()

    def claim(claimant: Holder) -> None:
        results.put((claimant.run, host_lock.take(claimant, path, instead_of=broken).run))

    processes = [FORK.Process(target=claim, args=(claimant,)) for claimant in claimants]
    for process in processes:
        process.start()
    answers = dict(results.get() for _ in processes)
    for process in processes:
        process.join()
    (winner,) = {run for run, holding in answers.items() if run == holding}
    assert set(answers.values()) == {winner}
    assert json.loads(path.read_text())["run"] == winner


def test_former_holder_cannot_release_a_lock_that_was_taken_over(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_lock.take(ANNA, path)
    read = host_lock.holder
    was_read, was_taken = FORK.Event(), FORK.Event()

    def slow_read(path: Path) -> Holder | None:
        holder = read(path)
        was_read.set()
        was_taken.wait(MOMENT)
        return holder

    with monkeypatch.context() as slow:
        slow.setattr(host_lock, "holder", slow_read)
        releasing = FORK.Process(target=host_lock.release, args=(ANNA.run, path))
        releasing.start()
    assert was_read.wait(60)
    assert host_lock.take(BERTA, path, instead_of=ANNA) == BERTA
    was_taken.set()
    releasing.join()
    assert host_lock.holder(path) == BERTA


def test_guard_that_stays_taken_is_an_error_with_its_path(
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
            with pytest.raises(TimeoutError, match=r"locked it for 0 s; .* `fuser .*lock\.json\.guard`"):
                step()
    assert host_lock.release(ANNA.run, path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"owner": "anna"}'])
def test_unreadable_lock_counts_as_held(path: Path, content: str) -> None:
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
        (WITH_ID, "alive", "5e1f00d1", True),
        (WITH_ID, "alive", "5e1f00d2", False),
        (WITH_ID, "alive", "anna@control", False),
        (WITH_ID, "dead", "", True),
    ],
)
def test_takeover_needs_a_dead_run_of_the_same_person_and_procedure_or_the_name_of_the_lock(
    holder: Holder, life: host_lock.Life, breaking: str, expected: bool
) -> None:
    claimant = Holder("anna@control", "restart", "boot/1:99:1", "2026-01-01T02:00:00Z")
    assert host_lock.may_take_over(holder, claimant, life, breaking.split()) is expected


def test_several_locks_are_broken_by_their_ids() -> None:
    assert host_lock.may_take_over(WITH_ID, BERTA, "alive", ["5e1f00d0", "5e1f00d1"])


def test_refusal_shows_owner_age_run_state_and_the_next_step() -> None:
    message = host_lock.refusal(ANNA, 754, "dead", "katago-1", [], "fleet restart --break-lock x")
    assert "katago-1 is locked by anna@control for restart since 2026-01-01T00:00:00Z (12 min ago)" in message
    assert "That run is dead" in message
    assert message.endswith("or break the lock: fleet restart --break-lock x")


def test_refusal_shows_the_terminal_and_the_process_of_the_holder() -> None:
    message = host_lock.refusal(WITH_ID, 754, "alive", "katago-1", ["anna@control"], "")
    assert "locked by anna@control (terminal pts/3, process 42) for restart" in message
    assert "That run is still active" in message
    assert "break_lock is anna@control, which is not the id of this lock." in message


def test_refusal_says_that_the_host_repairs_itself() -> None:
    own = Holder("self-healing@katago-1", "self_healing", "self-healing:5e1f00d1", ANNA.since, "5e1f00d1")
    message = host_lock.refusal(own, 19, "unknown", "katago-1", [], "fleet restart --break-lock 5e1f00d1")
    assert "katago-1 has been repairing itself since 2026-01-01T00:00:00Z (19 s ago)." in message
    assert "journalctl --unit='katago-self-healing@*' --follow" in message
    assert "ask self-healing@" not in message


def test_lock_of_the_version_before_and_of_a_later_one_are_read(path: Path) -> None:
    before = {name: value for name, value in asdict(ANNA).items() if name not in ("id", "session")}
    path.write_text(json.dumps(before))
    assert host_lock.holder(path) == ANNA
    assert ANNA.name == "anna@control"
    path.write_text(json.dumps({**asdict(WITH_ID), "colour": "red"}))
    assert host_lock.holder(path) == WITH_ID
    assert WITH_ID.name == "5e1f00d1"


def test_every_lock_has_an_id_of_its_own() -> None:
    assert len({host_lock.new_id() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-3, "0 s"), (119, "119 s"), (120, "2 min"), (7140, "119 min"), (11100, "3 h 5 min")],
)
def test_duration_is_readable(seconds: float, expected: str) -> None:
    assert host_lock.duration(seconds) == expected


def test_age_is_the_time_since_the_lock_was_taken() -> None:
    assert ANNA.age(datetime(2026, 1, 1, 0, 10, tzinfo=UTC)) == 600


def test_run_without_a_process_is_dead_and_a_run_on_another_machine_is_unknown() -> None:
    mine = runs.this_run()
    assert runs.life(mine) == "alive"
    machine, pid, started = mine.rsplit(":", 2)
    assert runs.life(f"{machine}:{pid}:{int(started) + 1}") == "dead"
    assert runs.life(f"{machine}:4194305:1") == "dead"
    assert runs.life(f"elsewhere/1:{pid}:{started}") == "unknown"


def test_lock_file_is_json(path: Path) -> None:
    host_lock.take(ANNA, path)
    assert json.loads(path.read_text()) == asdict(ANNA)
