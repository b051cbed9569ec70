"""What a drill left changed is found; what changes without it is left out."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.drill import inject, snapshot, undo
from tests.unit.drill import world as worlds
from tests.unit.drill.world import FakeHost, World, asked


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return worlds.build(tmp_path, monkeypatch)


def take(world: World) -> dict[str, str]:
    """A snapshot of the host below the directory of the test."""
    where = worlds.places(world.root)
    return snapshot.take(
        FakeHost(world),
        snapshot.Places(
            files=(where.tokens.parent, where.certificate, where.backup_secrets),
            override=where.overlay,
            marks=where.security_mode,
            accounts=(world.root / "passwd",),
            disks=(world.root, where.cache),
            unit_directories=(where.system_units, where.runtime_units),
        ),
    )


def test_healthy_host_has_no_unknown_part(world: World) -> None:
    taken = take(world)
    assert [what for what in taken if what.endswith(" unknown")] == []
    assert taken["unit katago-mcp.service"] == "active, enabled"
    assert taken["release current"] == FakeHost(world).layout.current_release()
    assert taken[f"mount {world.root.anchor}"] == "/dev/sda1"
    assert f"file {worlds.places(world.root).tokens}" in taken
    assert all(isinstance(value, str) for value in taken.values())


@pytest.mark.parametrize(
    "request_",
    [
        asked("service_down"),
        asked("service_killed"),
        asked("engine_hung"),
        asked("error_burst"),
        asked("load_balancer_down"),
        asked("release_bad"),
        asked("config_corrupted"),
        asked("disk_full"),
        asked("backup_repository_lost"),
        asked("credentials_rotated"),
        asked("host_frozen"),
        asked("network_cut"),
        asked("host_lost"),
        asked("clock_skewed"),
    ],
    ids=lambda request: request.name,
)
def test_fault_shows_until_it_is_undone(world: World, request_: inject.Asked) -> None:
    before = take(world)
    host = FakeHost(world)
    inject.arm(host, request_)
    inject.inject(host, request_)
    assert snapshot.compare(before, take(world))
    undo.undo(host, "request")
    assert snapshot.compare(before, take(world)) == []


def undo_timer_left(world: World) -> None:
    (worlds.places(world.root).system_units / paths.DRILL_UNDO_TIMER).write_text("[Timer]")


def kept_file_left(world: World) -> None:
    kept = worlds.places(world.root).directory / "kept"
    kept.mkdir(parents=True)
    (kept / "a").touch()


def helper_left(world: World) -> None:
    world.units[paths.DRILL_HELPER_UNIT] = "active"


def process_left(world: World) -> None:
    process = worlds.places(world.root).proc / "7"
    process.mkdir()
    program = worlds.places(world.root).program
    (process / "cmdline").write_bytes(f"/usr/bin/python3\0-I\0{program}\0kill-engines\0".encode())


def copied_release_left(world: World) -> None:
    (worlds.places(world.root).releases / "releases/.drill-0.2.0-x").mkdir()


def process_stopped(world: World) -> None:
    host = FakeHost(world)
    host.signal(host.processes(paths.LOAD_BALANCER_UNIT)[0], signal.SIGSTOP)


def unit_disabled(world: World) -> None:
    world.enabled.discard(worlds.SERVICE)


def token_readable(world: World) -> None:
    worlds.places(world.root).tokens.chmod(0o644)


def account_added(world: World) -> None:
    (world.root / "passwd").write_text("root\nmallory\n")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (undo_timer_left, "katago-drill-undo.timer"),
        (kept_file_left, "kept"),
        (helper_left, "unit katago-drill-helper.service"),
        (process_left, "drill process"),
        (copied_release_left, "release .drill-0.2.0-x"),
        (process_stopped, "frozen haproxy.service"),
        (unit_disabled, "unit katago-mcp.service"),
        (token_readable, "tokens.json"),
        (account_added, "accounts"),
    ],
)
def test_leftover_is_a_difference(world: World, change: Callable[[World], None], what: str) -> None:
    (world.root / "passwd").write_text("root\n")
    before = take(world)
    change(world)
    (difference,) = snapshot.compare(before, take(world))
    assert what in difference["what"]
    assert difference["before"] != difference["after"]


def restarted(world: World) -> None:
    world.kill(worlds.SERVICE)
    world.start(worlds.SERVICE)


def cache_used(world: World) -> None:
    worlds.places(world.root).answers.write_bytes(b"other answers")


def rolled_back(world: World) -> None:
    host = FakeHost(world)
    current = host.layout.current
    other = host.layout.releases / "0.1.0-other"
    shutil.copytree(current.resolve(), other)
    (other / "config.json").write_text("{}")
    current.unlink()
    current.symlink_to("releases/0.1.0-other")


def rebooted(world: World) -> None:
    world.reboot()
    world.pass_time(100)


def clock_slewed(world: World) -> None:
    world.skew += 1


def watch_installed(world: World) -> None:
    (worlds.places(world.root).system_units / paths.WATCH_UNIT).write_text("[Unit]")
    world.units[paths.WATCH_UNIT] = "active"


@pytest.mark.parametrize(
    "change", [restarted, cache_used, rolled_back, rebooted, clock_slewed, watch_installed]
)
def test_what_a_response_or_time_changes_is_left_out(world: World, change: Callable[[World], None]) -> None:
    before = take(world)
    change(world)
    assert snapshot.compare(before, take(world)) == []


@pytest.mark.parametrize(
    ("before", "after", "different"),
    [
        ("free", "full", True),
        ("free", "scarce", True),
        ("full", "free", False),
        ("scarce", "scarce", False),
    ],
)
def test_only_a_fuller_disk_is_a_difference(before: str, after: str, different: bool) -> None:
    differences = snapshot.compare({"disk /": before}, {"disk /": after})
    assert bool(differences) is different


@pytest.mark.parametrize(
    ("content", "left"),
    [
        # Whoever responds to the drill may lower limits for a while.
        ({"who": "self-healing", "why": "the engine failed", "expiresAt": "2026-11-30T12:00:00Z"}, []),
        (
            {"who": "drill", "why": "drill drill-1", "expiresAt": "2026-11-30T12:00:00Z"},
            ["override drill: drill drill-1"],
        ),
        ({"who": "self-healing"}, ["override drill: unreadable"]),
    ],
)
def test_override_of_the_drill_is_a_difference(
    world: World, content: dict[str, str], left: list[str]
) -> None:
    before = take(world)
    worlds.places(world.root).overlay.write_text(json.dumps(content))
    after = take(world)
    assert [each["what"] for each in snapshot.compare(before, after)] == left
    # It ended automatically.
    assert snapshot.compare(after, before) == []


@pytest.mark.parametrize("unit", ["unit katago-mcp-overlay-expiry.timer", "unit file /etc/{}.timer"])
@pytest.mark.parametrize(
    ("before", "override", "after", "left"),
    [
        ("active", False, None, False),
        (None, True, "active", False),
        ("active", True, "active, another one", False),
        (None, False, "active", True),
        ("active", True, None, True),
    ],
)
def test_timer_of_an_override_is_a_difference_without_the_override(
    unit: str, before: str | None, override: bool, after: str | None, left: bool
) -> None:
    name = unit.format("katago-mcp-overlay-expiry")
    lowered = {"override self-healing: the engine failed": "until 2026-11-30T12:00:00Z"}
    former = {name: before} if before else {}
    later = {**({name: after} if after else {}), **(lowered if override else {})}
    found = [each["what"] for each in snapshot.compare(former, later)]
    assert (name in found) is left


def test_mark_that_is_new_is_a_difference() -> None:
    assert snapshot.compare({"mark /a": "1"}, {}) == []
    assert snapshot.compare({}, {"mark /a": "1"}) == [{"what": "mark /a", "before": "absent", "after": "1"}]


def test_configuration_that_differs_within_a_release_is_a_difference() -> None:
    same = {"release current": "0.2.0-a"}
    before = {**same, "release configuration": "1"}
    after = {**same, "release configuration": "2"}
    assert [each["what"] for each in snapshot.compare(before, after)] == ["release configuration"]
