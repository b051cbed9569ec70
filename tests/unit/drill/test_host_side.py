"""The modules, the program's helpers, the freezer, and the parts that the fake host replaces."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.action import drill_fault as action
from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.drill import (
    faults,
    program,
    snapshot,
    step,
    steps_files,
    steps_units,
    undo,
)
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import Host
from ansible_collections.katago.fleet.plugins.module_utils.procedure import drill_state
from ansible_collections.katago.fleet.plugins.modules import drill_fault, drill_snapshot
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer import zipapps
from tests.stubs import action_result, module_result
from tests.unit.drill import world as worlds
from tests.unit.drill.world import FakeHost, World

ARGUMENTS: dict[str, Any] = {"drill": "2026-11-30-1", "fault": "engine_hung", "ttl": 300}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    built = worlds.build(tmp_path, monkeypatch)
    for module in (drill_fault, drill_snapshot):
        monkeypatch.setattr(module, "Host", lambda: FakeHost(built))
    return built


def run(monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> dict[str, Any]:
    return module_result(monkeypatch, drill_fault, **arguments)


def test_module_leads_through_a_drill(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    none = run(monkeypatch, state="info")
    assert (none["changed"], none["active"], none["landed"]) == (False, None, False)
    armed = run(monkeypatch, state="armed", **ARGUMENTS)
    assert (armed["changed"], armed["landed"], armed["active"]["injected"]) == (True, False, None)
    injected = run(monkeypatch, state="injected", **ARGUMENTS)
    assert (injected["changed"], injected["landed"]) == (True, True)
    assert "stopped processes of katago-mcp.service" in injected["seen"]
    assert run(monkeypatch, state="info")["landed"]
    undone = run(monkeypatch, state="undone", drill="2026-11-30-1")
    assert (undone["changed"], undone["landed"], undone["active"]["undone_by"]) == (True, False, "request")
    assert run(monkeypatch, state="undone")["changed"] is False
    assert {
        "drill",
        "fault",
        "phase",
        "armed",
        "injected",
        "expires",
        "undone",
        "undone_by",
        "problem",
    } == set(undone["active"])


@pytest.mark.parametrize("state_", ["armed", "injected", "undone"])
def test_check_mode_of_the_module_predicts(
    world: World, monkeypatch: pytest.MonkeyPatch, state_: str
) -> None:
    for earlier in ("armed", "injected"):
        if earlier == state_:
            break
        run(monkeypatch, state=earlier, **ARGUMENTS)
    before = worlds.state(world)
    assert module_result(monkeypatch, drill_fault, check=True, state=state_, **ARGUMENTS)["changed"]
    assert worlds.state(world) == before


def test_refusal_names_reason_and_that_nothing_changed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = run(monkeypatch, state="injected", **ARGUMENTS)
    assert refused["refused"]
    assert refused["msg"].startswith("Refused; nothing was changed on this host. Its undo is not armed")


def test_another_drill_is_not_undone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, state="armed", **ARGUMENTS)
    refused = run(monkeypatch, state="undone", drill="other")
    assert "The drill on this host is 2026-11-30-1, not other" in refused["msg"]
    assert run(monkeypatch, state="undone")["changed"]


def test_lost_record_is_reported(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, state="armed", **ARGUMENTS)
    for name in drill_state.FILES:
        (worlds.places(world.root).directory / name).write_text("{")
    assert "The fault of the drill is not undone" in run(monkeypatch, state="undone")["msg"]
    assert "cannot be used" in run(monkeypatch, state="info")["msg"]


def test_snapshot_module_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "take", lambda host: {"boot id": host.boot()[0]})
    assert module_result(monkeypatch, drill_snapshot) == {
        "changed": False,
        "snapshot": {"boot id": worlds.BOOT},
    }


def answering(calls: list[tuple[str, Mapping[str, Any]]], **program_answer: Any) -> Any:
    def answer(name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        calls.append((name, arguments))
        return (
            {"present": True, **program_answer} if name == "katago.fleet.host_program" else {"landed": True}
        )

    return answer


def test_program_is_installed_before_the_undo_is_armed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Mapping[str, Any]]] = []
    result = action_result(monkeypatch, action, answering(calls), **ARGUMENTS, state="armed")
    assert [name for name, _ in calls] == ["katago.fleet.host_program", "katago.fleet.drill_fault"]
    assert calls[0][1]["path"] == str(paths.DRILL_PROGRAM)
    assert calls[1][1]["run"]
    assert result["landed"]


@pytest.mark.parametrize("state_", ["injected", "undone", "info"])
def test_program_is_not_sent_later(monkeypatch: pytest.MonkeyPatch, state_: str) -> None:
    calls: list[tuple[str, Mapping[str, Any]]] = []
    action_result(monkeypatch, action, answering(calls), **ARGUMENTS, state=state_)
    assert [name for name, _ in calls] == ["katago.fleet.drill_fault"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            {
                "present": False,
                "security_mode": {"since": "2026-11-30T01:00:00Z", "who": "anna", "why": "odd logins"},
            },
            "security mode",
        ),
        ({"failed": True, "msg": "the disk is full"}, "the disk is full"),
    ],
)
def test_nothing_is_armed_without_the_program(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], message: str
) -> None:
    calls: list[tuple[str, Mapping[str, Any]]] = []
    result = action_result(monkeypatch, action, answering(calls, **answer), **ARGUMENTS, state="armed")
    assert result["failed"]
    assert message in result["msg"]
    assert len(calls) == 1


def test_program_has_no_fault_that_it_could_inject() -> None:
    needed = zipapps.needed("drill.program")
    assert "drill.undo" in needed
    assert {each for each in needed if each.startswith(("drill.fault", "drill.inject"))} == set()


def test_helper_kills_the_service_until_systemd_gives_up(world: World) -> None:
    class Restarting(FakeHost):
        """systemd starts the service again three times."""

        left = 3

        def pause(self, seconds: float) -> None:
            self.left -= 1
            if self.left:
                self.world.start(worlds.SERVICE)
            else:
                self.world.units[worlds.SERVICE] = "failed"

    host = Restarting(world)
    host.places.volatile.mkdir()
    assert program.main(["kill-service"], host) == 0
    assert (host.places.volatile / program.KILLS).read_text() == "3\n"


class EndedError(Exception):
    """The unit of the helper ended."""


def test_helper_kills_every_new_engine_and_nothing_else(world: World) -> None:
    class Killing(FakeHost):
        killed: list[int] = []  # noqa: RUF012 (of this test alone)

        def signal(self, pid: int, number: signal.Signals) -> None:
            assert number == signal.SIGKILL
            self.killed.append(pid)
            self.world.processes.pop(pid)

        def pause(self, seconds: float) -> None:
            if len(self.killed) == 3:
                raise EndedError
            pid = next(self.world.pids)
            self.world.processes[pid] = worlds.Process(worlds.SERVICE, start=1, is_engine=True)

    host = Killing(world)
    host.places.volatile.mkdir()
    others = [pid for pid, each in world.processes.items() if not each.is_engine]
    with pytest.raises(EndedError):
        program.main(["kill-engines"], host)
    assert sorted(world.processes) == sorted(others)
    assert (host.places.volatile / program.KILLS).read_text() == "3\n"


def test_helper_keeps_the_service_busy(world: World) -> None:
    class Busy(FakeHost):
        calls = 0

        def analyse(self, number: int, deadline: float) -> None:
            self.calls += 1

        def pause(self, seconds: float) -> None:
            if self.calls == 2:
                raise EndedError

    with pytest.raises(EndedError):
        program.main(["keep-busy"], Busy(world))


def test_helper_lets_the_engine_work_a_part_of_the_time(world: World) -> None:
    class Slowed(FakeHost):
        seconds: dict[str | None, float] = {}  # noqa: RUF012 (of this test alone)

        def pause(self, seconds: float) -> None:
            (engine,) = self.engines()
            state = self.process_state(engine)
            self.seconds[state] = self.seconds.get(state, 0) + seconds
            if sum(self.seconds.values()) > 5:
                raise EndedError

    host = Slowed(world)
    with pytest.raises(EndedError):
        program.main(["slow-engines", "25"], host)
    assert host.seconds["S"] / sum(host.seconds.values()) == pytest.approx(0.25, abs=0.05)


def test_control_group_is_frozen_where_the_kernel_has_a_freezer(world: World) -> None:
    host = FakeHost(world)
    group = host.places.control_groups[0] / "system.slice" / worlds.SERVICE
    group.mkdir(parents=True)
    (group / "cgroup.freeze").write_text("0\n")
    frozen = steps_units.Frozen(worlds.SERVICE)
    assert frozen.remains(host) == ""
    frozen.apply(host)
    assert (group / "cgroup.freeze").read_text() == "1"
    assert frozen.remains(host) == "katago-mcp.service is frozen"
    for _ in range(2):
        frozen.undo(host)
        assert (group / "cgroup.freeze").read_text() == "0"


def test_a_process_with_a_pid_that_was_used_again_is_not_continued(world: World) -> None:
    host = FakeHost(world)
    (engine,) = host.engines()
    hung = steps_units.Hung(worlds.SERVICE, ((engine, host.process_start(engine) + 1),))
    hung.apply(host)
    assert host.process_state(engine) == "S"


def test_own_processes_are_read_and_signalled() -> None:
    host = Host()
    pid = os.getpid()
    assert host.process_start(pid) > 0
    assert host.process_start(2**22 + 1) == 0
    assert host.process_state(pid) in ("R", "S")
    host.signal(2**22 + 1, signal.SIGCONT)
    identity, uptime = host.boot()
    assert len(identity) == 36
    assert uptime > 0


def test_a_program_that_fails_shows_its_output() -> None:
    with pytest.raises(OSError, match=r"`sh -c .* failed with status 3: no room"):
        Host().require("sh", "-c", "echo no room; exit 3")


def test_mounts_are_read_with_their_sources(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/mountinfo").write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "40 22 0:50 / /var/a\\040b rw - tmpfs katago-drill rw,size=1k\n"
    )
    assert step.mounts(tmp_path) == {"/": ["/dev/sda1"], "/var/a b": ["katago-drill"]}


def test_only_small_files_are_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "below").mkdir(parents=True)
    target.mkdir()
    (source / "below/small").write_bytes(b"x")
    (source / "large").write_bytes(b"x" * 1000)
    (source / "link").symlink_to("large")
    (source / "below/small").chmod(0o600)
    steps_files.copy_small(source, target, 100)
    assert sorted(path.name for path in target.rglob("*")) == ["below", "small"]
    assert (target / "below/small").stat().st_mode & 0o777 == 0o600


def test_kept_file_that_was_damaged_is_not_restored(world: World) -> None:
    host = FakeHost(world)
    name = step.keep(host, b"original")
    assert step.kept(host, name) == b"original"
    (host.places.directory / drill_state.KEPT / name).write_bytes(b"other")
    with pytest.raises(OSError, match="is damaged, so the original cannot be restored"):
        step.kept(host, name)


def test_record_is_private_and_has_two_copies(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, state="armed", **ARGUMENTS)
    directory = worlds.places(world.root).directory
    assert directory.stat().st_mode & 0o777 == 0o700
    first, second = ((directory / name) for name in drill_state.FILES)
    assert first.read_bytes() == second.read_bytes()
    assert {each.stat().st_mode & 0o777 for each in (first, second)} == {0o600}
    assert json.loads(first.read_text())["drill"]["fault"] == "engine_hung"


def test_another_process_waits_for_the_guard(world: World) -> None:
    host = FakeHost(world)
    with undo.guarded(host), pytest.raises(TimeoutError), undo.guarded(host, 0.05):
        pass


def test_every_fault_is_described() -> None:
    for each in faults.FAULTS.values():
        assert each.description.endswith(".")
        assert each.needs
        assert each.name == each.name.lower()
        for parameter in each.parameters:
            assert parameter.parsed(parameter.default) == parameter.default
