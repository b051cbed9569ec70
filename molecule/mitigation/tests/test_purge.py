"""Caches are cleared and verified, damaged ones are quarantined unchanged, and links are not followed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab import runtime
from lab.hosts import Host
from tests import fleet, hosts
from tests.hosts import CACHE_FILE

FIRST, SECOND = fleet.LAB.hosts()
SERVICE = "katago-mcp.service"
CACHE = "/var/cache/katago-mcp"
QUARANTINE = "/var/cache/katago-mcp-quarantine"
VERIFY = (
    "KATAGO_SERVER_HOST=127.0.0.1 setpriv --reuid=katago-mcp --regid=katago-mcp --clear-groups"
    " katago-mcp cache verify --json"
)


@pytest.fixture(scope="module", autouse=True)
def _filled() -> None:
    """Every service has cached some answers."""
    run = fleet.play("validate.yml")
    assert run.returncode == 0, run.output


def on(target: Host, command: str) -> str:
    """The output of a shell command on a host."""
    return runtime.exec_in(target.container, ["sh", "-c", command])


def damage(target: Host) -> str:
    """Flip a bit of the cache's file; return the new digest of the file."""
    return hosts.damage_cache(hosts.connect(target.name))


def digest(target: Host, path: str) -> str:
    return on(target, f"sha256sum {path}").split()[0]


def verdict(target: Host) -> dict[str, Any]:
    """The server's own report on the file."""
    answer: dict[str, Any] = json.loads(on(target, f"{VERIFY} || true"))
    return answer


def server(target: Host) -> int:
    return int(on(target, f"systemctl show {SERVICE} --property=MainPID --value"))


def engine(target: Host) -> int:
    pid: int = json.loads(fleet.get(target, "/health")[1])["engine"]["pid"]
    return pid


def kernels(target: Host) -> str:
    """The inode of the directory of compiled kernels."""
    return on(target, f"stat -c %i {CACHE}/pocl")


def quarantined(target: Host) -> set[str]:
    """The caches in quarantine."""
    return set(on(target, f"ls {QUARANTINE}/*-answers.sqlite3 2>/dev/null || true").split())


def entries(target: Host) -> float:
    count = fleet.metric(target, "katago_cache_entries")
    assert count is not None
    return count


def purge(target: Host, *arguments: str, variables: dict[str, Any] | None = None) -> fleet.Run:
    run = fleet.play("purge_cache.yml", f"--limit={target.name}", *arguments, variables=variables)
    assert on(target, "cat /etc/katago-mcp/credentials/operator.token") not in run.output
    return run


def output(run: fleet.Run) -> str:
    return " ".join(run.output.split())


def expect_sound(target: Host) -> None:
    """Expect an intact cache with the right owner and mode."""
    assert verdict(target)["problems"] == []
    assert on(target, f"stat -c '%U %G %a' {CACHE}") == "katago-mcp katago-mcp 755"
    assert on(target, f"stat -c '%U %a' {CACHE_FILE}") == "katago-mcp 600"


def test_check_mode_predicts_and_changes_nothing() -> None:
    before = (server(FIRST), engine(FIRST), entries(FIRST))
    assert before[2] > 0
    run = purge(FIRST, "--check")
    assert run.returncode == 0, run.output
    assert f"The cache would be cleared: {before[2]:g} answers" in output(run)
    assert "The engine would be replaced." in output(run)
    assert (server(FIRST), engine(FIRST), entries(FIRST)) == before


def test_intact_cache_is_cleared_through_the_service_and_the_engine_is_replaced() -> None:
    before, quarantine = (server(FIRST), engine(FIRST)), quarantined(FIRST)
    run = purge(FIRST)
    assert run.returncode == 0, run.output
    assert f"The engine {engine(FIRST)} replaced {before[1]}. The cache was cleared: " in output(run)
    assert server(FIRST) == before[0]
    assert engine(FIRST) != before[1]
    # The validation's own analyses.
    assert 0 < entries(FIRST) < 5
    assert quarantined(FIRST) == quarantine
    expect_sound(FIRST)


def test_frozen_engine_is_replaced_without_a_restart_of_the_service() -> None:
    before = (server(SECOND), engine(SECOND))
    on(SECOND, f"kill -STOP {before[1]}")
    assert on(SECOND, f"cut -d' ' -f3 /proc/{before[1]}/stat") == "T"
    run = purge(SECOND)
    assert run.returncode == 0, run.output
    assert f"The engine {engine(SECOND)} replaced " in output(run)
    assert server(SECOND) == before[0]
    assert on(SECOND, f"ls -d /proc/{before[1]} 2>/dev/null || true") == ""


def test_engine_stays_on_request_and_a_damaged_cache_of_a_running_service_is_quarantined() -> None:
    run = purge(SECOND, variables={"replace_engine": False})
    assert run.returncode == 0, run.output
    before, quarantine = (server(SECOND), engine(SECOND), kernels(SECOND)), quarantined(SECOND)
    assert "replaced" not in output(run)
    damage(SECOND)
    assert verdict(SECOND)["damagedEntries"] == 1
    run = purge(SECOND, variables={"replace_engine": False})
    assert run.returncode == 0, run.output
    assert "The service is restarted because the cache is damaged (1 entries are damaged)." in output(run)
    assert server(SECOND) != before[0]
    assert kernels(SECOND) == before[2]
    assert len(quarantined(SECOND) - quarantine) == 1
    expect_sound(SECOND)


def test_damaged_cache_of_a_stopped_service_is_quarantined_unchanged_wherever_runs_are_killed() -> None:
    on(FIRST, f"systemctl stop {SERVICE}")
    before, quarantine = kernels(FIRST), quarantined(FIRST)
    damaged = damage(FIRST)
    assert verdict(FIRST)["damagedEntries"] == 1
    assert digest(FIRST, CACHE_FILE) == damaged
    limit = f"--limit={FIRST.name}"
    fleet.killed_everywhere(lambda tasks: fleet.play("purge_cache.yml", limit, kill_before=tasks), 60)
    (moved,) = quarantined(FIRST) - quarantine
    assert digest(FIRST, moved) == damaged
    assert on(FIRST, f"stat -c '%U %a' {QUARANTINE}") == "root 700"
    assert kernels(FIRST) == before
    assert entries(FIRST) > 0
    expect_sound(FIRST)


@pytest.fixture
def linked() -> Iterator[str]:
    """The cache's directory as a symlink to another directory, whose content must stay."""
    on(FIRST, f"mv {CACHE} /srv/cache && ln -s /srv/cache {CACHE}")
    yield "/srv/cache"
    on(FIRST, f"rm {CACHE} && mv /srv/cache {CACHE}")


def test_symlink_is_refused_and_not_followed(linked: str) -> None:
    before = (server(FIRST), engine(FIRST), on(FIRST, f"ls -lA --time-style=full-iso {linked}"))
    run = purge(FIRST)
    assert run.returncode != 0
    assert "Refused; nothing was changed on this host." in output(run)
    assert f"{CACHE} is a symlink to {linked}, which systemd does not follow" in output(run)
    assert "mount that disk there" in output(run)
    assert (server(FIRST), engine(FIRST), on(FIRST, f"ls -lA --time-style=full-iso {linked}")) == before


# The file keeps the pages of a table that is deleted, so it is large and intact.
GROW = (
    "import sqlite3; db = sqlite3.connect('{file}'); db.execute('CREATE TABLE filler (content)');"
    " db.execute('INSERT INTO filler VALUES (zeroblob(8 << 20))'); db.execute('DROP TABLE filler');"
    " db.commit()"
)


@pytest.fixture
def full() -> Iterator[str]:
    """The cache on a file system of its own that other files and a large cache fill; the other files."""
    filler = f"{CACHE}/pocl/filler"
    copy = f"cp -a {CACHE} /srv/kept && mount -t tmpfs -o size=64m,mode=755 tmpfs {CACHE}"
    grow = f'cp -a /srv/kept/. {CACHE} && python3 -c "{GROW.format(file=CACHE_FILE)}"'
    fill = f"chown -R katago-mcp: {CACHE} && mkdir -p {CACHE}/pocl && cat /dev/zero > {filler} || true"
    on(SECOND, f"systemctl stop {SERVICE} && {copy} && {grow} && {fill}")
    assert "100%" in on(SECOND, f"df --output=pcent {CACHE}")
    yield filler
    on(SECOND, f"systemctl stop {SERVICE}; umount {CACHE} && rm -r /srv/kept; systemctl start {SERVICE}")


@pytest.mark.parametrize("running", [True, False])
def test_purge_makes_room_on_a_full_disk(full: str, running: bool) -> None:
    if running:
        # The engine starts where there is room; then the disk fills up again.
        on(SECOND, f"rm {full} && systemctl start {SERVICE}")
        fleet.eventually(
            lambda: fleet.get(SECOND, "/ready")[0] == 200, within=120, what="the service is ready"
        )
        on(SECOND, f"cat /dev/zero > {full} || true")
    assert "100%" in on(SECOND, f"df --output=pcent {CACHE}")
    run = purge(SECOND)
    assert run.returncode == 0, run.output
    assert "The cache was cleared: " in output(run)
    assert "100%" not in on(SECOND, f"df --output=pcent {CACHE}")
    expect_sound(SECOND)


def test_disk_that_other_files_fill_is_reported_and_the_service_is_not_restarted(full: str) -> None:
    on(SECOND, f"rm {CACHE_FILE}* && cat /dev/zero >> {full} || true")
    run = purge(SECOND)
    assert run.returncode != 0
    assert "The disk still has no room: " in output(run), run.output
    assert "No space left on device" in output(run)
    assert on(SECOND, f"systemctl is-active {SERVICE} || true").strip() == "inactive"
