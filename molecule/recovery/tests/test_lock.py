"""Two operators at the same time: the second one is refused; a lock is only broken by its owner's name."""

from __future__ import annotations

import concurrent.futures
import json
from typing import Any

import pytest

from tests import fleet, hosts

TARGET = fleet.LAB.hosts()[0].name
LIMIT = f"--limit={TARGET}"
HELD = {"owner": "berta@elsewhere", "procedure": "rollback", "run": "another-boot/1:42:4711"}


@pytest.fixture
def host() -> Any:
    return hosts.connect(TARGET)


def hold(host: Any, **lock: str) -> None:
    """Create a lock that another operator took 25 minutes ago."""
    since = host.check_output("date --utc --date='25 minutes ago' +%Y-%m-%dT%H:%M:%SZ")
    content = json.dumps({**HELD, **lock, "since": since})
    host.check_output(f"cat > {hosts.LOCK} <<'END'\n{content}\nEND")


@pytest.mark.parametrize("procedure", ["restart.yml", "rollback.yml", "deploy.yml"])
def test_second_operator_is_refused_with_owner_and_age_of_the_lock(host: Any, procedure: str) -> None:
    hold(host)
    try:
        before = hosts.untouched(host)
        run = fleet.play(procedure, LIMIT)
        assert run.returncode != 0
        assert f"{TARGET} is locked by berta@elsewhere for rollback since" in run.output
        assert "(25 min ago)" in run.output
        assert "-e break_lock=berta@elsewhere" in run.output
        assert hosts.untouched(host) == before
    finally:
        host.check_output(f"rm {hosts.LOCK}")


def test_lock_is_broken_only_by_its_owners_name(host: Any) -> None:
    hold(host)
    try:
        refused = fleet.play("restart.yml", LIMIT, variables={"break_lock": "carla@elsewhere"})
        assert "break_lock is carla@elsewhere, which is not the holder" in refused.output
        assert host.file(hosts.LOCK).exists
        run = fleet.play("restart.yml", LIMIT, variables={"break_lock": "berta@elsewhere"})
        assert run.returncode == 0, run.output
        assert "The lock of berta@elsewhere for rollback since" in run.output
    finally:
        host.run(f"rm --force {hosts.LOCK}")


def test_dead_run_is_reported_and_only_its_own_procedure_takes_over_the_lock(host: Any) -> None:
    dead = fleet.play("restart.yml", LIMIT, user="berta", kill_before=3)
    assert dead.returncode == -9, dead.output
    lock = json.loads(host.check_output(f"cat {hosts.LOCK}"))
    assert lock["owner"].startswith("berta@")
    for user, procedure in (("carla", "restart.yml"), ("berta", "rollback.yml")):
        refused = fleet.play(procedure, LIMIT, user=user)
        assert refused.returncode != 0
        assert "That run is dead." in refused.output
        assert json.loads(host.check_output(f"cat {hosts.LOCK}")) == lock
    again = fleet.play("restart.yml", LIMIT, user="berta")
    assert again.returncode == 0, again.output
    assert "is taken over: its run is dead" in again.output
    assert not host.file(hosts.LOCK).exists


def test_one_of_two_simultaneous_runs_is_refused() -> None:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda user: fleet.play("restart.yml", LIMIT, user=user), ("anna", "berta")))
    done, refused = sorted(runs, key=lambda run: run.returncode)
    assert done.returncode == 0, done.output
    assert refused.returncode != 0
    assert "That run is still active." in refused.output
