"""What a host reports about itself, also before the first event and when a reading fails."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, prometheus, unit_state
from ansible_collections.katago.fleet.plugins.module_utils.monitoring import host_metrics
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import budget, fleet_state, policy
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import state as healing_state
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.alerts import ALERTS

NOW = 1764435600.0

# What a host reads on which nothing was ever deployed, backed up or locked.
BARE: dict[str, Any] = {
    "service": {"deployed": False, "active": False, "failed": 0},
    "release": {
        "current": None,
        "running": None,
        "since": "",
        "verdict": None,
        "previous": None,
        "target": None,
    },
    "files": 0,
    "override": 0.0,
    "lock": 0.0,
    "security_mode": False,
    "backup": {"set_up": False, "last": None, "verified_at": "", "snapshot": ""},
    "self_healing": None,
    "fleet_healing": None,
    "fleet_healing_units": False,
    "reboot": False,
    "certificate": 0.0,
    "gpu": None,
}


def scraped(**readings: Any) -> prometheus.Scrape:
    """The metrics of a bare host with other readings."""
    entries = {name: {"value": value} for name, value in {**BARE, **readings}.items()}
    return prometheus.parse(host_metrics.exposition(entries, NOW))


def test_every_reading_has_a_writer() -> None:
    assert host_metrics.readers(host_metrics.Places()).keys() == BARE.keys() == host_metrics._WRITERS.keys()


def test_every_metric_has_a_value_before_its_first_event() -> None:
    scrape = scraped()
    of_gpus_and_releases = {
        metric.name for metric in host_metrics.METRICS if metric.labels and metric.labels[0] == "device"
    }
    expected = (
        {metric.name for metric in host_metrics.METRICS} - of_gpus_and_releases - {"katago_host_release_info"}
    )
    assert {name for name, _ in scrape.samples} == expected
    assert scrape.value("katago_host_backup_verified_timestamp_seconds") == 0
    assert scrape.value("katago_host_release_verdict", verdict="none") == 1
    assert scrape.value("katago_host_gpu_xids", fatal="yes") == 0


def test_alerts_use_only_metrics_that_are_written() -> None:
    used = {name for alert in ALERTS for name in re.findall(r"katago_host_\w+", alert.expression)}
    assert used <= {metric.name for metric in host_metrics.METRICS}


def test_failed_reading_is_a_metric() -> None:
    entries: dict[str, Any] = {name: {"value": value} for name, value in BARE.items()}
    entries["backup"] = {"unknown": "the file is damaged", "seconds": 0.1}
    scrape = prometheus.parse(host_metrics.exposition(entries, NOW))
    assert scrape.value("katago_host_reading_ok", reading="backup") == 0
    assert scrape.value("katago_host_reading_ok", reading="lock") == 1
    # A value from before would hide the failure.
    assert scrape.value("katago_host_backup_set_up") is None
    assert scrape.value("katago_host_readings_timestamp_seconds") == NOW


def test_deployed_host_names_its_release() -> None:
    release = {
        **BARE["release"],
        "current": "0.2.0-abc",
        "running": "0.2.0-old",
        "verdict": "bad",
        "version": "0.2.0",
        "engine_version": "1.18.1",
        "assets": {"engines": ["a" * 64], "networks": ["b" * 64]},
    }
    scrape = scraped(release=release)
    labels = {"release": "0.2.0-abc", "version": "0.2.0", "engine": "a" * 12, "network": "b" * 12}
    assert scrape.value("katago_host_release_info", **labels) == 1
    assert scrape.value("katago_host_release_running") == 0
    verdicts = {
        name: scrape.value("katago_host_release_verdict", verdict=name)
        for name in ("validated", "rejected", "none")
    }
    assert verdicts == {"validated": 0, "rejected": 1, "none": 0}


def test_failed_backup_keeps_the_time_of_the_verified_one() -> None:
    backup = {
        "set_up": True,
        "last": {"at": "2026-11-24T06:00:00Z", "ok": False, "message": "no space"},
        "verified_at": "2026-11-23T06:00:00Z",
        "snapshot": "1",
    }
    scrape = scraped(backup=backup)
    assert scrape.value("katago_host_backup_last_success") == 0
    at = scrape.value("katago_host_backup_last_timestamp_seconds")
    verified = scrape.value("katago_host_backup_verified_timestamp_seconds")
    assert at is not None and verified is not None and at - verified == 86400


def test_gpu_that_responds_has_values_of_its_own() -> None:
    gpu = {
        "devices": 2,
        "trouble": None,
        "cards": [
            {"address": "00000000:01:00.0", "temperature": 71, "memory_mb": 1000, "memory_used_mb": None}
        ],
        "conditions": [{"address": "00000000:01:00.0", "slowed": ["hw_thermal_slowdown"]}],
        "xids": [{"count": 2, "fatal": True}, {"count": 5, "fatal": False}],
    }
    scrape = scraped(gpu=gpu)
    device = {"device": "00000000:01:00.0"}
    assert scrape.value("katago_host_gpu_devices") == 2
    assert scrape.value("katago_host_gpu_responding") == 1
    assert scrape.value("katago_host_gpu_temperature_celsius", **device) == 71
    assert scrape.value("katago_host_gpu_memory_bytes", **device) == 1000 << 20
    assert scrape.value("katago_host_gpu_memory_used_bytes", **device) is None
    assert scrape.value("katago_host_gpu_slowed", **device) == 1
    assert scrape.value("katago_host_gpu_xids", fatal="yes") == 2
    assert scrape.value("katago_host_gpu_responding") is not None
    assert scraped(gpu={**gpu, "trouble": "lost"}).value("katago_host_gpu_responding") == 0


def test_override_counts_until_it_expires(tmp_path: Path) -> None:
    file = tmp_path / "overlay.json"
    assert host_metrics.override_expiry(file, datetime(2026, 1, 1, tzinfo=UTC)) == 0
    file.write_text(json.dumps({"set": {}, "expiresAt": "2026-01-01T10:00:00Z", "why": "", "who": ""}))
    expires = datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert host_metrics.override_expiry(file, datetime(2026, 1, 1, 9, tzinfo=UTC)) == expires.timestamp()
    assert host_metrics.override_expiry(file, expires) == 0


@pytest.fixture
def layout(tmp_path: Path) -> release_layout.Layout:
    """A host with a release that has one file, and depends on another one."""
    layout = release_layout.Layout(tmp_path / "opt")
    network = tmp_path / "network"
    network.write_text("weights")
    files = {"config.json": digest.of_text("{}")}
    inputs = {"engine_version": "1", "files": files, "stands_on": {str(network): digest.of_path(network)}}
    name = release_layout.name("1", inputs)
    directory = layout.release(name)
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "manifest.json").write_text(json.dumps({"name": name, "version": "1", **inputs}))
    layout.current.symlink_to(directory)
    return layout


def changed(layout: release_layout.Layout, now: float = NOW) -> int:
    return host_metrics.changed_files(layout, layout.root.parent / "run" / "checked.json", now)


def test_changed_file_of_a_release_is_counted(layout: release_layout.Layout) -> None:
    assert changed(layout) == 0
    file = layout.current / "config.json"
    before = file.stat()
    file.write_text("[]")
    # An intruder can restore the time of the modification, but not that of the change.
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changed(layout) == 1


def test_changed_network_is_counted(layout: release_layout.Layout, tmp_path: Path) -> None:
    assert changed(layout) == 0
    (tmp_path / "network").write_text("other!!")
    assert changed(layout) == 1


def test_release_is_not_read_again_while_nothing_looks_changed(
    layout: release_layout.Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    damage = release_layout.damage

    def counted(directory: Path) -> list[str]:
        reads.append(directory)
        return damage(directory)

    monkeypatch.setattr(release_layout, "damage", counted)
    changed(layout)
    changed(layout, NOW + 60)
    assert len(reads) == 1
    # Damage of the disk changes no time.
    changed(layout, NOW + host_metrics.RECHECK_SECONDS)
    # A clock that was set back.
    changed(layout, NOW - 60)
    assert len(reads) == 3


def test_host_without_a_release_has_no_changed_files(tmp_path: Path) -> None:
    assert changed(release_layout.Layout(tmp_path / "opt")) == 0


def healed(tmp_path: Path, state: healing_state.State | None) -> prometheus.Scrape:
    """The metrics of a host with self-healing that recorded this state."""
    settings, file = tmp_path / "settings.json", tmp_path / "state.json"
    settings.write_text("{}")
    if state:
        healing_state.save(state, file)
    return scraped(self_healing=host_metrics.self_healing(settings, file))


def clock(total: float) -> budget.Clock:
    return budget.Clock("boot", total, total)


def test_host_without_self_healing_has_no_status_and_counts_from_zero(tmp_path: Path) -> None:
    assert host_metrics.self_healing(tmp_path / "settings.json", tmp_path / "state.json") is None
    scrape = scraped()
    assert scrape.value("katago_host_healing_set_up") == 0
    statuses = [each["status"] for each in scrape.labels("katago_host_healing_status")]
    assert statuses == list(get_args(healing_state.Status))
    assert {scrape.value("katago_host_healing_status", status=each) for each in statuses} == {0}
    for repair in get_args(policy.Name):
        for result in ("repaired", "failed", "interrupted"):
            assert scrape.value("katago_host_healing_repairs_total", repair=repair, result=result) == 0


def test_new_self_healing_has_its_whole_budget(tmp_path: Path) -> None:
    scrape = healed(tmp_path, healing_state.State(clock(5.0), "2026-11-30T03:00:00Z"))
    assert scrape.value("katago_host_healing_set_up") == 1
    assert scrape.value("katago_host_healing_status", status="idle") == 1
    assert scrape.value("katago_host_healing_budget_left", period="hour") == budget.PER_HOUR
    assert scrape.value("katago_host_healing_budget_left", period="day") == budget.PER_DAY
    checked = datetime(2026, 11, 30, 3, tzinfo=UTC).timestamp()
    assert scrape.value("katago_host_healing_checked_timestamp_seconds") == checked


def test_repair_is_counted_and_lowers_the_budget_of_its_hour_and_day(tmp_path: Path) -> None:
    state = healing_state.State(clock(100.0), "2026-11-30T03:00:00Z").started("1", "restart", "it failed")
    state = state.finished("1", "failed").having("stopped", "the repair failed")
    soon = healed(tmp_path, replace(state, clock=clock(200.0)))
    later = healed(tmp_path, replace(state, clock=clock(100.0 + budget.HOUR)))
    assert soon.value("katago_host_healing_repairs_total", repair="restart", result="failed") == 1
    assert soon.value("katago_host_healing_repairs_total", repair="restart", result="repaired") == 0
    assert soon.value("katago_host_healing_status", status="stopped") == 1
    assert soon.value("katago_host_healing_budget_left", period="hour") == budget.PER_HOUR - 1
    assert later.value("katago_host_healing_budget_left", period="hour") == budget.PER_HOUR
    assert later.value("katago_host_healing_budget_left", period="day") == budget.PER_DAY - 1


def test_fault_that_is_left_to_a_person_is_a_metric(tmp_path: Path) -> None:
    state = healing_state.State(clock(5.0), "2026-11-30T03:00:00Z")
    escalation = healing_state.Escalation("2026-11-30T03:00:00Z", "files were changed", stops=False)
    assert healed(tmp_path, state).value("katago_host_healing_escalated") == 0
    assert healed(tmp_path, replace(state, escalation=escalation)).value("katago_host_healing_escalated") == 1


def test_state_that_is_missing_is_a_failed_reading(tmp_path: Path) -> None:
    with pytest.raises(healing_state.StateError, match="cannot be used"):
        healed(tmp_path, None)


def healed_fleet(
    tmp_path: Path,
    state: fleet_state.State | None,
    *,
    paused: bool = False,
    dry_run: bool = False,
    uptime: float = 5.0,
) -> prometheus.Scrape:
    """The metrics of a monitoring host that repairs the fleet and recorded this state."""
    settings, file, pause = (tmp_path / f"fleet-{name}" for name in ("settings.json", "state.json", "paused"))
    own = fleet_state.Settings(("page",), ("a",), "/records", paused=paused, dry_run=dry_run)
    settings.write_text(json.dumps(asdict(own)))
    os.utime(settings, (NOW, NOW))
    if state:
        healing_state.save(state, file)
    return scraped(fleet_healing=host_metrics.fleet_healing(settings, file, [pause], ("boot", uptime)))


def test_host_that_does_not_repair_the_fleet_counts_from_zero(tmp_path: Path) -> None:
    missing = tmp_path / "settings.json", tmp_path / "state.json"
    assert host_metrics.fleet_healing(*missing, [], ("boot", 5.0)) is None
    scrape = scraped()
    flags = ("set_up", "running", "dry_run", "paused", "stopped", "escalated")
    for name in (*flags, "paused_since_timestamp_seconds"):
        assert scrape.value(f"katago_host_fleet_healing_{name}") == 0
    for period in ("hour", "day"):
        assert scrape.value("katago_host_fleet_healing_budget_left", period=period) == 0
    for result in ("repaired", "failed", "refused", "interrupted"):
        assert scrape.value("katago_host_fleet_healing_repairs_total", result=result) == 0


def test_repairs_of_the_fleet_are_counted_by_result_and_apart_from_those_of_the_host(tmp_path: Path) -> None:
    counts = {"drain": {"repaired": 2, "failed": 1}, "mitigate": {"repaired": 3}}
    scrape = healed_fleet(tmp_path, fleet_state.State(clock(5.0), "2026-11-30T03:00:00Z", counts=counts))
    assert scrape.value("katago_host_fleet_healing_set_up") == 1
    results = {
        result: scrape.value("katago_host_fleet_healing_repairs_total", result=result)
        for result in ("repaired", "failed", "refused", "interrupted")
    }
    assert results == {"repaired": 5, "failed": 1, "refused": 0, "interrupted": 0}
    assert scrape.value("katago_host_healing_set_up") == 0


def test_pause_of_the_fleet_counts_at_once_by_file_and_by_variable(tmp_path: Path) -> None:
    # The program runs only when alerts fire, so its recorded status may be old.
    state = fleet_state.State(clock(5.0), "2026-11-30T03:00:00Z")
    assert healed_fleet(tmp_path, state).value("katago_host_fleet_healing_paused") == 0
    assert healed_fleet(tmp_path, state, paused=True).value("katago_host_fleet_healing_paused") == 1
    (tmp_path / "fleet-paused").touch()
    assert healed_fleet(tmp_path, state).value("katago_host_fleet_healing_paused") == 1


@pytest.mark.parametrize(
    ("content", "since"),
    [
        ('{"since": "2026-11-29T03:00:00Z", "who": "anna", "why": "a disk"}', 1795921200.0),
        # Made by hand, also by somebody who made up a time.
        ("", NOW - 60),
        ('{"since": "yesterday", "who": "anna", "why": "a disk"}', NOW - 60),
    ],
)
def test_pause_of_the_fleet_has_the_time_since_when(tmp_path: Path, content: str, since: float) -> None:
    state = fleet_state.State(clock(5.0), "2026-11-30T03:00:00Z")
    name = "katago_host_fleet_healing_paused_since_timestamp_seconds"
    assert healed_fleet(tmp_path, state).value(name) == 0
    # The settings are as old as the variable that pauses.
    assert healed_fleet(tmp_path, state, paused=True).value(name) == NOW
    (tmp_path / "fleet-paused").write_text(content)
    os.utime(tmp_path / "fleet-paused", (NOW - 60, NOW - 60))
    assert healed_fleet(tmp_path, state).value(name) == since


def test_dry_run_of_the_fleet_is_a_metric(tmp_path: Path) -> None:
    state = fleet_state.State(clock(5.0), "2026-11-30T03:00:00Z")
    assert healed_fleet(tmp_path, state).value("katago_host_fleet_healing_dry_run") == 0
    assert healed_fleet(tmp_path, state, dry_run=True).value("katago_host_fleet_healing_dry_run") == 1


def test_budget_of_the_fleet_recovers_although_the_program_does_not_run(tmp_path: Path) -> None:
    repair = fleet_state.FleetRepair("1", "drain", "a", "ProbeWrong", "2026-11-30T03:00:00Z", 90.0, "failed")
    state = fleet_state.State(budget.Clock("boot", 100.0, 100.0), "2026-11-30T03:00:00Z", repairs=(repair,))
    name = "katago_host_fleet_healing_budget_left"
    soon, later = (healed_fleet(tmp_path, state, uptime=100.0 + seconds) for seconds in (60.0, budget.HOUR))
    assert soon.value(name, period="hour") == budget.FLEET_PER_HOUR - 1
    assert later.value(name, period="hour") == budget.FLEET_PER_HOUR
    assert later.value(name, period="day") == budget.FLEET_PER_DAY - 1


@pytest.mark.parametrize(
    ("receiver", "path", "program", "running"),
    [
        ("active", "active", ("inactive", "dead"), True),
        ("active", "active", ("activating", "start"), True),
        ("failed", "active", ("inactive", "dead"), False),
        ("activating", "active", ("inactive", "dead"), False),
        ("active", "inactive", ("inactive", "dead"), False),
        ("active", "active", ("failed", "failed"), False),
        # It failed, and systemd waits before it starts it again.
        ("active", "active", ("activating", "auto-restart"), False),
    ],
)
def test_program_of_the_fleet_runs_if_alerts_reach_it_and_it_does_not_fail(
    monkeypatch: pytest.MonkeyPatch, receiver: str, path: str, program: tuple[str, str], running: bool
) -> None:
    shown = {
        paths.FLEET_HEALING_RECEIVER: {"ActiveState": receiver},
        paths.FLEET_HEALING_PATH_UNIT: {"ActiveState": path},
        paths.FLEET_HEALING_UNIT: dict(zip(("ActiveState", "SubState"), program, strict=True)),
    }
    monkeypatch.setattr(unit_state, "properties", lambda unit, *_names: shown[unit])
    assert host_metrics.runs_fleet_healing() is running


@pytest.mark.parametrize("stops", [True, False])
def test_fleet_has_stopped_only_if_a_person_must_resume(tmp_path: Path, stops: bool) -> None:
    escalation = healing_state.Escalation("2026-11-30T03:00:00Z", "a repair failed", stops=stops)
    state = fleet_state.State(clock(5.0), "2026-11-30T03:00:00Z", escalation=escalation)
    scrape = healed_fleet(tmp_path, state)
    assert scrape.value("katago_host_fleet_healing_stopped") == stops
    assert scrape.value("katago_host_fleet_healing_escalated") == 1


def test_state_of_the_fleet_that_is_missing_is_a_failed_reading(tmp_path: Path) -> None:
    with pytest.raises(healing_state.StateError, match="cannot be used"):
        healed_fleet(tmp_path, None)
