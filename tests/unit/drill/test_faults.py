"""Every fault lands, and its undo leaves the host as it was, wherever an earlier run was killed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.drill import (
    faults,
    inject,
    program,
    steps,
    steps_files,
    undo,
)
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import RefusedError
from ansible_collections.katago.fleet.plugins.module_utils.procedure import (
    drill_state,
    host_lock,
    security_mode,
)
from ansible_collections.katago.fleet.plugins.module_utils.release import history
from ansible_collections.katago.fleet.plugins.module_utils.service import overlay_apply
from tests.unit.drill import world as worlds
from tests.unit.drill.world import FakeHost, KilledError, World, asked

REQUESTS = [
    asked("service_down"),
    asked("service_killed"),
    asked("engine_crash_loop", seconds=20),
    asked("engine_hung"),
    asked("engine_slow", percent=5),
    asked("error_burst"),
    asked("load_balancer_down"),
    asked("release_bad"),
    asked("release_bad", damage="engine"),
    asked("config_corrupted"),
    asked("config_corrupted", damage="invalid"),
    asked("cache_corrupted"),
    asked("disk_full"),
    asked("inodes_full"),
    asked("backup_repository_lost"),
    asked("backup_repository_lost", what="password"),
    asked("credentials_rotated"),
    asked("certificate_expired"),
    asked("host_frozen"),
    asked("network_cut"),
    asked("network_cut", scope="all"),
    asked("host_lost"),
    asked("clock_skewed", seconds=-600),
]
# An engine that does not read its configuration in the fake still works; a file that is full does too.
UNSEEN = {("release_bad", "engine"), ("disk_full", ""), ("inodes_full", "")}


def name_of(request: inject.Asked) -> str:
    return "-".join([request.name, *map(str, request.parameters.values())])


every_fault = pytest.mark.parametrize("request_", REQUESTS, ids=name_of)
# One of each fault.
each_fault = pytest.mark.parametrize(
    "request_", list({request.name: request for request in REQUESTS}.values()), ids=name_of
)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a certificate and its key."""
    directory = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-keyout", "tls.key", "-out", "tls.crt", "-subj", "/CN=katago-1"),
            *("-addext", "subjectAltName=DNS:katago-1"),
        ],
        cwd=directory,
        check=True,
        capture_output=True,
    )
    return directory


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: Path) -> World:
    built = worlds.build(tmp_path, monkeypatch)
    where = worlds.places(tmp_path)
    shutil.copy(certificate / "tls.crt", where.certificate)
    shutil.copy(certificate / "tls.key", where.key)
    return built


def armed(world: World, request: inject.Asked) -> FakeHost:
    host = FakeHost(world)
    assert inject.arm(host, request)
    return host


def injected(world: World, request: inject.Asked) -> FakeHost:
    host = armed(world, request)
    assert inject.inject(host, request)
    return host


def test_every_fault_is_tested() -> None:
    assert {request.name for request in REQUESTS} == faults.FAULTS.keys()


@every_fault
def test_fault_lands_and_is_undone(world: World, request_: inject.Asked) -> None:
    before = worlds.state(world)
    host = armed(world, request_)
    assert {**worlds.state(world), **without_timer(before)} == worlds.state(world)
    assert inject.info(host)[1].landed is False
    inject.inject(host, request_)
    seen = inject.info(host)[1]
    damage = str(request_.parameters.get("damage", ""))
    assert seen.landed or (request_.name, damage) in UNSEEN, seen.text
    assert seen.text
    active = inject.info(host)[0]
    assert active is not None
    assert (active["phase"], active["undone_by"]) == ("injected", "")
    assert undo.undo(FakeHost(world), "request")
    assert worlds.state(world) == before
    active, seen = inject.info(host)
    assert active is not None
    assert (active["phase"], active["undone_by"], seen.landed) == ("undone", "request", False)


OVERRIDE = {
    "set": {"katago.maxVisits": 250},
    "expiresAt": "2026-11-30T12:00:00Z",
    "why": "the engine failed",
    "who": "self-healing",
}


def lowered(world: World, **values: object) -> Path:
    """Limits that are lowered already; the file of the override."""
    file = worlds.places(world.root).overlay
    file.write_text(json.dumps({**OVERRIDE, **values}, indent=1) + "\n")
    return file


def test_limits_that_self_healing_had_lowered_are_lowered_again_after_a_burst_of_errors(world: World) -> None:
    later = timestamps.stamp(FakeHost(world).time() + 600)
    file = lowered(world, expiresAt=later)
    before = worlds.state(world), file.read_bytes()
    host = injected(world, asked("error_burst"))
    assert inject.info(host)[1].landed
    assert json.loads(file.read_text())["why"].startswith("drill ")
    undo.undo(host, "expiry")
    assert (worlds.state(world), file.read_bytes()) == before


def test_lowered_limits_that_ended_during_a_burst_of_errors_are_not_lowered_again(world: World) -> None:
    file = lowered(world, expiresAt=timestamps.stamp(FakeHost(world).time() - 1))
    undo.undo(injected(world, asked("error_burst")), "expiry")
    assert not file.exists()


def test_service_follows_the_undo_also_if_the_timer_of_the_override_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = injected(world, asked("error_burst"))
    sent: list[tuple[str, ...]] = []
    monkeypatch.setattr(host, "systemctl", lambda *words, **_: sent.append(words))

    def fail() -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr(overlay_apply, "disarm", fail)
    with pytest.raises(OSError, match="read-only"):
        steps_files.Lowered(asked("error_burst").drill, {}, 1.0).undo(host)
    assert [words[0] for words in sent] == ["reload"]


@pytest.mark.parametrize(
    ("content", "who"),
    [
        (json.dumps({**OVERRIDE, "who": "anna@ops"}), "anna@ops"),
        (json.dumps({**OVERRIDE, "expiresAt": "soon"}), "an unknown program"),
        (json.dumps({"who": "self-healing"}), "an unknown program"),
        ("{", "an unknown program"),
        ("[]", "an unknown program"),
    ],
)
def test_burst_of_errors_is_refused_where_a_person_has_lowered_the_limits(
    world: World, content: str, who: str
) -> None:
    file = lowered(world)
    file.write_text(content)
    with pytest.raises(RefusedError, match=rf"lowered already by {who}.*mitigate_undo\.yml"):
        inject.arm(FakeHost(world), asked("error_burst"))
    assert file.read_text() == content


def without_timer(before: dict[str, object]) -> dict[str, object]:
    """What is on the host before it is armed, apart from the timer."""
    return {key: value for key, value in before.items() if key not in ("units", "enabled")}


@each_fault
def test_steps_survive_their_form_on_disk(world: World, request_: inject.Asked) -> None:
    host = injected(world, request_)
    drill = drill_state.load(host.places.directory)
    assert drill is not None
    assert steps.written(steps.read(drill.steps)) == tuple(
        {**each, **{key: _tuple(value) for key, value in each.items()}} for each in drill.steps
    )


def _tuple(value: object) -> object:
    return tuple(_tuple(each) for each in value) if isinstance(value, list) else value


def killed_at(world: World, number: int, work: Callable[[], object]) -> bool:
    """Whether a process that does this work is killed at its change with this number."""
    world.changes, world.dies_at = 0, number
    try:
        work()
    except KilledError:
        return True
    finally:
        world.dies_at = None
    return False


@each_fault
@pytest.mark.parametrize("work", ["arm", "inject", "undo"])
def test_undo_works_from_wherever_a_run_was_killed(world: World, request_: inject.Asked, work: str) -> None:
    before = worlds.state(world)
    number = 0
    while True:
        if work != "arm":
            armed(world, request_)
        if work == "undo":
            inject.inject(FakeHost(world), request_)
        do: Callable[[], object] = {
            "arm": lambda: inject.arm(FakeHost(world), request_),
            "inject": lambda: inject.inject(FakeHost(world), request_),
            "undo": lambda: undo.undo(FakeHost(world), "request"),
        }[work]
        was_killed = killed_at(world, number, do)
        undo.undo(FakeHost(world), "expiry")
        assert worlds.state(world) == before, f"killed at change {number} of {work}"
        drill = drill_state.load(worlds.places(world.root).directory)
        assert drill is None or drill.is_undone
        if not was_killed:
            break
        number += 1
    assert number > 1


@each_fault
def test_undo_again_changes_nothing(world: World, request_: inject.Asked) -> None:
    host = injected(world, request_)
    assert undo.undo(host, "request")
    before, world.changes = worlds.state(world), 0
    record = drill_state.load(host.places.directory)
    assert not undo.undo(host, "expiry")
    assert world.changes == 0
    assert worlds.state(world) == before
    assert drill_state.load(host.places.directory) == record


@each_fault
def test_host_undoes_an_expired_fault_alone(world: World, request_: inject.Asked) -> None:
    before = worlds.state(world)
    host = injected(world, request_)
    world.pass_time(request_.ttl - 30)
    during = worlds.state(world)
    assert program.main(["expire"], host) == 0
    assert worlds.state(world) == during
    world.pass_time(31)
    assert program.main(["expire"], FakeHost(world)) == 0
    assert worlds.state(world) == before
    active = inject.info(host)[0]
    assert active is not None
    assert active["undone_by"] == "expiry"


@each_fault
def test_fault_is_undone_after_a_reboot(world: World, request_: inject.Asked) -> None:
    before = worlds.state(world)
    host = injected(world, request_)
    world.skew = 0
    world.reboot()
    assert world.units[paths.DRILL_UNDO_TIMER] == "active"
    program.main(["expire"], FakeHost(world))
    drill = drill_state.load(host.places.directory)
    assert drill is not None
    assert not drill.is_undone
    world.pass_time(request_.ttl + 1)
    assert program.main(["expire"], FakeHost(world)) == 0
    assert worlds.state(world) == before


def test_what_a_response_changed_stays(world: World) -> None:
    host = injected(world, asked("config_corrupted"))
    config = host.layout.current / "config.json"
    config.write_text(json.dumps({"server": {"port": 9999}}))
    undo.undo(host, "request")
    assert json.loads(config.read_text()) == {"server": {"port": 9999}}
    assert world.units[worlds.SERVICE] == "active"


def test_release_to_which_a_response_rolled_back_stays(world: World) -> None:
    host = FakeHost(world)
    original = host.layout.current_release()
    assert original is not None
    shutil.copytree(host.layout.release(original), host.layout.releases / "0.1.0-other")
    injected(world, asked("release_bad"))
    host.layout.current.unlink()
    host.layout.current.symlink_to("releases/0.1.0-other")
    world.start(worlds.SERVICE)
    undo.undo(host, "request")
    assert host.layout.current_release() == "0.1.0-other"
    assert sorted(each.name for each in host.layout.releases.iterdir()) == ["0.1.0-other", original]


def test_bad_release_looks_like_a_deployment_and_is_rejected_by_the_undo(world: World) -> None:
    host = FakeHost(world)
    original = host.layout.current_release()
    injected(world, asked("release_bad"))
    bad = host.layout.current_release()
    records = history.read(host.places.history)
    assert (records[-1].release, records[-1].how, records[-1].previous) == (bad, "deployment", original)
    assert history.rollback_targets(records, available=host.layout.complete(), besides=bad) == [original]
    undo.undo(host, "request")
    records = history.read(host.places.history)
    assert (history.standing(records, str(bad)), history.standing(records, str(original))) == ("bad", "good")


def test_damaged_pages_that_were_written_since_stay(world: World) -> None:
    host = injected(world, asked("cache_corrupted"))
    with host.places.answers.open("r+b") as file:
        file.seek(4096)
        file.write(b"new" * 100)
    undo.undo(host, "request")
    content = host.places.answers.read_bytes()
    assert content[:4096] == bytes(4096)
    assert content[4096:4099] == b"new"


def test_cache_that_the_service_replaced_stays(world: World) -> None:
    host = injected(world, asked("cache_corrupted"))
    host.places.answers.rename(host.places.answers.with_name("quarantined"))
    host.places.answers.write_bytes(b"new")
    undo.undo(host, "request")
    assert host.places.answers.read_bytes() == b"new"


def test_covered_directory_has_its_small_files_and_nothing_of_the_original_is_written(world: World) -> None:
    host = injected(world, asked("disk_full"))
    below = world.covered[host.places.cache]
    original = sorted(path.name for path in below.iterdir())
    assert (host.places.cache / "pocl/kernel").read_bytes() == b"compiled"
    assert original == ["answers.sqlite3", "pocl"]


def test_large_file_system_is_not_filled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = worlds.places(world.root).cache
    monkeypatch.setattr(
        "ansible_collections.katago.fleet.plugins.module_utils.drill.step.mounts",
        lambda _: {str(cache): ["/dev/sdb1"]},
    )
    with pytest.raises(RefusedError, match="too large to be filled"):
        inject.arm(FakeHost(world), asked("disk_full"))


@pytest.mark.parametrize("controller", ["cpu", "system.slice/cgroup.controllers"])
def test_engine_is_slowed_by_systemd_where_it_can(world: World, controller: str) -> None:
    group = worlds.places(world.root).control_groups[0]
    if controller == "cpu":
        (group / controller).mkdir(parents=True)
    else:
        (group / "system.slice").mkdir(parents=True)
        (group / controller).write_text("memory cpu pids\n")
    before = worlds.state(world)
    host = injected(world, asked("engine_slow", percent=20))
    file = host.places.runtime_properties / "katago-mcp.service.d/50-CPUQuota.conf"
    assert "CPUQuota=20%" in file.read_text()
    assert inject.info(host)[1].landed
    undo.undo(host, "request")
    assert worlds.state(world) == before


def test_expired_certificate_has_the_same_key_and_names(world: World) -> None:
    host = FakeHost(world)
    original = host.places.certificate
    public = host.require("openssl", "x509", "-in", original, "-noout", "-pubkey")
    injected(world, asked("certificate_expired"))
    shown = host.require("openssl", "x509", "-in", original, "-noout", "-text")
    assert host.require("openssl", "x509", "-in", original, "-noout", "-pubkey") == public
    assert "DNS:katago-1" in shown
    assert host.run("openssl", "x509", "-in", original, "-noout", "-checkend", "0")[0] == 1


def test_host_without_tls_has_no_certificate_to_expire(world: World) -> None:
    worlds.places(world.root).certificate.unlink()
    with pytest.raises(RefusedError, match="does not use TLS"):
        inject.arm(FakeHost(world), asked("certificate_expired"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda world: setattr(world, "is_container", True), "is a container"),
        (
            lambda world: (worlds.places(world.root).proc / "self/status").write_text(
                "CapEff:\t0000000000\n"
            ),
            "CAP_SYS_TIME is missing",
        ),
    ],
)
def test_clock_that_is_not_ours_is_not_moved(
    world: World, change: Callable[[World], object], reason: str
) -> None:
    change(world)
    before = worlds.state(world)
    with pytest.raises(RefusedError, match=reason):
        inject.arm(FakeHost(world), asked("clock_skewed"))
    assert worlds.state(world) == before


def test_timer_that_elapses_at_a_whole_second_undoes_the_fault(world: World) -> None:
    request = asked("engine_hung")
    world.uptime += 0.99
    host = injected(world, request)
    expires = (inject.info(host)[0] or {})["expires"]
    world.pass_time(timestamps.parse(expires).timestamp() - host.time())
    assert program.main(["expire"], host) == 0
    assert (inject.info(host)[0] or {})["undone_by"] == "expiry"


def test_skewed_clock_does_not_move_the_expiry(world: World) -> None:
    request = asked("clock_skewed", seconds=3600)
    host = injected(world, request)
    assert round(world.skew) == 3600
    assert program.main(["expire"], host) == 0
    assert round(world.skew) == 3600
    world.pass_time(request.ttl)
    program.main(["expire"], host)
    assert round(world.skew) == 0


def test_network_cut_leaves_ssh_and_the_host_itself(world: World) -> None:
    injected(world, asked("network_cut", scope="all"))
    lines = [line.strip() for line in world.tables["katago_drill"].splitlines()]
    for direction, interface in (("dport", "iifname"), ("sport", "oifname")):
        begin = lines.index(f'{interface} "lo" accept')
        rules = lines[begin : lines.index("drop", begin)]
        assert f"tcp {direction} {{ 22 }} accept" in rules
        assert "meta l4proto 58 accept" in rules


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (replace(asked("service_down"), drill="a b"), "letters, digits or hyphens"),
        (replace(asked("service_down"), drill=""), "letters, digits or hyphens"),
        (asked("nothing"), "give one of backup_repository_lost, cache_corrupted"),
        (replace(asked("service_down"), ttl=29), "give seconds from 30 to 7200"),
        (replace(asked("service_down"), ttl=7201), "give seconds from 30 to 7200"),
        (asked("engine_slow", percent=0), "whole number from 1 to 90"),
        (asked("engine_slow", percent="much"), "whole number from 1 to 90"),
        (asked("engine_slow", percent=True), "whole number from 1 to 90"),
        (asked("engine_slow", speed=5), "no parameter speed. Its parameters: percent"),
        (asked("service_down", percent=5), "It has no parameters"),
        (asked("network_cut", scope="half"), "one of service, all"),
    ],
)
def test_invalid_request_changes_nothing(world: World, request_: inject.Asked, reason: str) -> None:
    before = worlds.state(world)
    for act in (inject.arm, inject.inject):
        with pytest.raises(RefusedError, match=reason):
            act(FakeHost(world), request_)
    assert worlds.state(world) == before
    assert drill_state.load(worlds.places(world.root).directory) is None


def test_numbers_may_be_texts(world: World) -> None:
    assert inject.arm(FakeHost(world), asked("engine_slow", percent="20"))


def test_arming_and_injecting_again_change_nothing(world: World) -> None:
    request = asked("engine_hung")
    host = armed(world, request)
    assert not inject.arm(host, request)
    assert inject.inject(host, request)
    before, world.changes = worlds.state(world), 0
    assert not inject.inject(host, request)
    assert (worlds.state(world), world.changes) == (before, 0)


def test_injection_needs_an_armed_undo_of_the_same_drill_and_fault(world: World) -> None:
    request = asked("service_down")
    host = FakeHost(world)
    with pytest.raises(RefusedError, match="arm the drill 2026-11-30-1"):
        inject.inject(host, request)
    armed(world, request)
    with pytest.raises(RefusedError, match="arm the drill other"):
        inject.inject(host, replace(request, drill="other"))
    with pytest.raises(RefusedError, match="is armed for service_down"):
        inject.inject(host, asked("engine_hung"))
    assert world.units[worlds.SERVICE] == "active"
    undo.undo(host, "request")
    with pytest.raises(RefusedError, match="arm the drill"):
        inject.inject(host, request)


def test_injection_needs_a_timer_that_runs(world: World) -> None:
    host = armed(world, asked("service_down"))
    world.units[paths.DRILL_UNDO_TIMER] = "inactive"
    with pytest.raises(RefusedError, match="nothing would undo the fault"):
        inject.inject(host, asked("service_down"))
    assert inject.arm(host, asked("service_down"))
    assert inject.inject(host, asked("service_down"))


@pytest.mark.parametrize("change", ["late", "rebooted"])
def test_nothing_is_injected_when_the_time_is_nearly_over(world: World, change: str) -> None:
    request = asked("service_down")
    host = armed(world, request)
    if change == "late":
        world.pass_time(request.ttl - 5)
    else:
        world.reboot()
    with pytest.raises(RefusedError, match="nearly over"):
        inject.inject(host, request)


def test_only_one_drill_at_a_time(world: World) -> None:
    host = injected(world, asked("service_down"))
    with pytest.raises(RefusedError, match="2026-11-30-1 with the fault service_down is on this host"):
        inject.arm(host, replace(asked("engine_hung"), drill="other"))
    undo.undo(host, "request")
    assert inject.arm(host, replace(asked("engine_hung"), drill="other"))


def test_host_in_security_mode_gets_no_fault(world: World) -> None:
    request, host = asked("service_down"), armed(world, asked("service_down"))
    mode = security_mode.Mode("2026-11-30T01:00:00Z", "anna", "odd logins")
    host.places.security_mode[0].write_text(security_mode.as_text(mode))
    for act in (inject.inject, inject.arm):
        with pytest.raises(RefusedError, match="in security mode since"):
            undone = act is inject.arm and undo.undo(host, "request")
            assert undone is not None
            act(host, request)


def test_lock_of_another_run_prevents_a_drill_and_that_of_its_own_run_does_not(world: World) -> None:
    host = FakeHost(world)
    holder = host_lock.Holder("berta@control", "deploy", "run-2", "2026-11-30T01:00:00Z")
    host.places.lock.write_text(json.dumps(holder.__dict__))
    with pytest.raises(RefusedError, match="berta@control has locked the host for deploy"):
        inject.arm(host, asked("service_down"))
    assert inject.arm(host, replace(asked("service_down"), run="run-2"))


def test_unhealthy_host_is_refused_before_anything_changes(world: World) -> None:
    world.units[worlds.SERVICE] = "failed"
    before = worlds.state(world)
    with pytest.raises(RefusedError, match=r"katago-mcp\.service is failed, not active"):
        inject.arm(FakeHost(world), asked("engine_hung"))
    assert worlds.state(world) == before


def test_check_mode_changes_nothing(world: World) -> None:
    request, host = asked("config_corrupted"), FakeHost(world)
    before = worlds.state(world)
    assert inject.arm(host, request, check=True)
    assert worlds.state(world) == before
    armed(world, request)
    before = worlds.state(world)
    assert inject.inject(host, request, check=True)
    assert worlds.state(world) == before
    assert not (host.places.directory / drill_state.KEPT).exists()


@pytest.mark.parametrize("damaged", drill_state.FILES)
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"sha256": "", "drill": {}}', b"\xff"])
def test_one_damaged_copy_of_the_record_does_no_harm(world: World, damaged: str, content: bytes) -> None:
    before = worlds.state(world)
    host = injected(world, asked("config_corrupted"))
    (host.places.directory / damaged).write_bytes(content)
    assert undo.undo(host, "request")
    assert worlds.state(world) == before


@pytest.mark.parametrize(
    "request_",
    [
        asked("network_cut"),
        asked("engine_hung"),
        asked("engine_slow"),
        asked("host_frozen"),
        asked("disk_full"),
    ],
    ids=name_of,
)
def test_lost_record_undoes_what_can_be_recognized_and_asks_for_a_person(
    world: World, request_: inject.Asked
) -> None:
    before = worlds.state(world)
    host = injected(world, request_)
    for name in drill_state.FILES:
        (host.places.directory / name).write_text("{")
    with pytest.raises(undo.LostError, match="compare them with those of the host"):
        undo.undo(host, "request")
    after = worlds.state(world)
    assert {key: after[key] for key in ("processes", "tables", "covered")} == {
        key: before[key] for key in ("processes", "tables", "covered")
    }
    assert program.main(["expire"], host) == 65
    with pytest.raises(RefusedError, match="Undo the drill first"):
        inject.arm(host, replace(asked("service_down"), drill="other"))


def test_failed_undo_is_recorded_and_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    request = asked("network_cut")
    before = worlds.state(world)
    host = injected(world, request)
    with monkeypatch.context() as patch:
        patch.setattr(FakeHost, "_nft", lambda *_: (1, "busy") if "delete" in _[1] else (0, ""))
        with pytest.raises(undo.UndoError, match=r"the table katago_drill drops traffic .*busy"):
            undo.undo(host, "request")
        assert program.main(["expire"], host) == 0
        world.pass_time(request.ttl)
        assert program.main(["expire"], host) == 1
    active = inject.info(host)[0]
    assert active is not None
    assert "drops traffic" in active["problem"]
    with pytest.raises(RefusedError, match="Its last undo failed"):
        inject.arm(host, replace(request, drill="other"))
    assert program.main(["expire"], host) == 0
    assert worlds.state(world) == before


def test_failed_injection_is_undone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = worlds.state(world)
    host = armed(world, asked("host_lost"))
    with monkeypatch.context() as patch:
        patch.setattr(
            "ansible_collections.katago.fleet.plugins.module_utils.drill.steps_units.Blocked.apply",
            lambda *_: (_ for _ in ()).throw(OSError("no room")),
        )
        with pytest.raises(inject.InjectError, match="no room"):
            inject.inject(host, asked("host_lost"))
    assert worlds.state(world) == before


@pytest.mark.parametrize("step_", ["systemctl", "record"])
def test_failed_arming_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch, step_: str) -> None:
    before = worlds.state(world)
    with monkeypatch.context() as patch:
        if step_ == "record":
            patch.setattr(drill_state, "save", lambda *_: (_ for _ in ()).throw(OSError("no room")))
        else:
            patch.setattr(inject, "_is_timer_active", lambda _: False)
        with pytest.raises(OSError, match=r"no room|is not active"):
            inject.arm(FakeHost(world), asked("service_down"))
    assert worlds.state(world) == before
    assert inject.arm(FakeHost(world), replace(asked("engine_hung"), drill="other"))


def test_run_that_waits_in_vain_for_another_one_undoes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = injected(world, asked("engine_hung"))
    during = worlds.state(world)
    guarded = undo.guarded
    monkeypatch.setattr(undo, "guarded", lambda host: guarded(host, 0.05))
    with guarded(host):
        for act in (inject.arm, inject.inject):
            with pytest.raises(TimeoutError):
                act(FakeHost(world), asked("engine_hung"))
    assert worlds.state(world) == during


def test_undo_works_on_a_full_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    host = injected(world, asked("engine_hung"))
    save, left = drill_state.save, [1]

    def failing(drill: drill_state.Drill, directory: Path) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError(28, "No space left on device")
        save(drill, directory)

    monkeypatch.setattr(drill_state, "save", failing)
    assert undo.undo(host, "request")
    assert {each.state for each in world.processes.values()} == {"S"}


def test_units_of_the_undo_survive_a_reboot_and_a_moved_clock(world: World) -> None:
    request = asked("service_down")
    host = armed(world, request)
    timer = (host.places.system_units / paths.DRILL_UNDO_TIMER).read_text()
    active = inject.info(host)[0]
    assert active is not None
    assert f"OnActiveSec={request.ttl}\n" in timer
    assert f"OnCalendar={active['expires'].replace('T', ' ').rstrip('Z')} UTC\n" in timer
    assert "Persistent=true" in timer
    assert paths.DRILL_UNDO_TIMER in world.enabled
    service = (host.places.system_units / paths.DRILL_UNDO_UNIT).read_text()
    assert f"ExecStart={host.places.program} expire\n" in service
