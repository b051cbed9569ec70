"""Each repair makes the steps of its procedure, and fails if the service does not work afterwards."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import procfs
from ansible_collections.katago.fleet.plugins.module_utils.release import history
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import repairs
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    cache,
    control,
    limits,
    overlay_apply,
    switch,
    unit,
    validation,
)
from ansible_collections.katago.fleet.plugins.module_utils.service import restart as service_restart
from tests.unit.release.test_layout import built

CONFIG: dict[str, Any] = {
    "katago": {"maxVisits": 1000, "defaultVisits": 200, "maxConcurrent": 4},
    "cache": {},
}


class Service:
    """Records what is done to the service. `failures`: of its validation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self.failures = ""
        self.active = "failed"
        self.free_percent = 50.0
        self.lowered: list[limits.Request] = []
        self.before: object = None

        def step(name: str, answer: Any = None) -> Callable[..., Any]:
            def record(*_: Any, **__: Any) -> Any:
                self.steps.append(name)
                return answer

            return record

        def lower(request: limits.Request, who: str) -> overlay_apply.Lowered:
            self.steps.append("lower")
            self.lowered.append(request)
            document: limits.Document = {"set": {}, "expiresAt": "", "why": request.why, "who": who}
            return overlay_apply.Lowered(CONFIG, None, limits.in_force(CONFIG, request.limits), document)

        def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            self.steps.append(" ".join(command[:2]))
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(service_restart, "prepare", step("prepare"))
        monkeypatch.setattr(service_restart, "load_problem", lambda: None)
        monkeypatch.setattr(unit, "control_group", lambda: "group")
        monkeypatch.setattr(unit, "state", lambda: unit.State(self.active, 0))
        monkeypatch.setattr(control, "restart", step("restart"))
        monkeypatch.setattr(control, "stop", step("stop"))
        monkeypatch.setattr(control, "start", step("start"))
        monkeypatch.setattr(control, "start_deadline", lambda: 1.0)
        monkeypatch.setattr(validation, "failures", self.validate)
        monkeypatch.setattr(overlay_apply, "look", lambda: (CONFIG, self.before))
        monkeypatch.setattr(overlay_apply, "lower", lower)
        monkeypatch.setattr(subprocess, "run", run)
        monkeypatch.setattr(
            procfs, "filesystems", lambda _: [{"paths": ["/var"], "free_percent": self.free_percent}]
        )

    def validate(self, _layout: object) -> str:
        self.steps.append("validate")
        return self.failures


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Service:
    monkeypatch.setattr(paths, "RELEASE_ROOT", tmp_path)
    return Service(monkeypatch)


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A validated release, and a newer one that is current. Switching is recorded only."""
    good, bad = built(tmp_path, "{}"), built(tmp_path, "{ }")
    for directory in (good, bad):
        (directory / paths.SERVICE_UNIT).write_text("[Service]\n")
    monkeypatch.setattr(release_layout, "damage", lambda _: [])
    (tmp_path / "current").symlink_to(f"releases/{bad.name}")
    monkeypatch.setattr(paths, "HISTORY", tmp_path / "history.jsonl")
    for name in (good.name, bad.name):
        record = history.Record("2026-11-29T16:00:00Z", "anna", name, None, "validated", "good")
        history.append(record, paths.HISTORY)
    return good.name, bad.name


def test_restart_is_by_force_and_validated(service: Service) -> None:
    assert "is validated" in repairs.restart("x")
    assert service.steps == ["prepare", "restart", "validate"]


@pytest.mark.parametrize("repair", ["restart", "lower_limits"])
def test_repair_fails_if_the_service_does_not_work_afterwards(service: Service, repair: Any) -> None:
    service.failures = "- ready: no"
    with pytest.raises(repairs.RepairError, match="does not work afterwards: - ready: no"):
        repairs.REPAIRS[repair]("x")


def test_rollback_rejects_the_release_and_validates_the_target(
    service: Service, releases: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good, bad = releases
    monkeypatch.setattr(switch, "require_start", lambda *_: service.steps.append("start check"))

    def record_switch(_layout: object, record: history.Record, path: Path) -> None:
        service.steps.append("switch")
        history.append(record, path)

    monkeypatch.setattr(switch, "switch", record_switch)
    message = repairs.roll_back("it failed")
    assert f"{bad} was rejected" in message
    assert service.steps == ["start check", "switch", "prepare", "restart", "validate"]
    made = [(each.release, each.verdict, each.how) for each in history.read(paths.HISTORY)[2:]]
    assert made == [(bad, "bad", "deployment"), (good, None, "rollback"), (good, "good", "deployment")]


def test_release_that_would_not_start_is_not_switched_to(
    service: Service, releases: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise switch.SwitchError("the service would not start")

    monkeypatch.setattr(switch, "require_start", refuse)
    before = history.read(paths.HISTORY)
    with pytest.raises(repairs.RepairError, match="could not be rolled back: the service would not start"):
        repairs.roll_back("x")
    assert (history.read(paths.HISTORY), service.steps) == (before, [])


def test_rollback_target_that_fails_is_not_accepted(
    service: Service, releases: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switch, "require_start", lambda *_: None)
    monkeypatch.setattr(switch, "switch", lambda _, record, path: history.append(record, path))
    service.failures = "- ready: no"
    with pytest.raises(repairs.RepairError):
        repairs.roll_back("x")
    assert history.read(paths.HISTORY)[-1].verdict is None


@pytest.fixture
def cached(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The problems of the new cache, and an error of the renames."""
    found: dict[str, Any] = {"problems": [], "error": None}

    def move(_directory: Path, _at: str) -> list[Path]:
        service.steps.append("move")
        if found["error"]:
            raise found["error"]
        return [tmp_path / "a"]

    monkeypatch.setattr(cache, "directory", lambda *_: tmp_path)
    monkeypatch.setattr(cache, "move_to_quarantine", move)
    monkeypatch.setattr(cache, "verified", lambda *_: {"problems": found["problems"]})
    monkeypatch.setattr(cache, "content", lambda _: {"answers.sqlite3": 64 << 20})
    return found


def test_cache_is_moved_while_the_service_is_stopped(service: Service, cached: dict[str, Any]) -> None:
    assert "1 files of the cache were quarantined" in repairs.quarantine_cache("x")
    assert service.steps == ["prepare", "stop", "move", "start", "validate"]


def test_service_is_started_again_although_the_cache_cannot_be_moved(
    service: Service, cached: dict[str, Any]
) -> None:
    cached["error"] = OSError(30, "Read-only file system")
    with pytest.raises(OSError, match="Read-only"):
        repairs.quarantine_cache("x")
    assert service.steps[-1] == "start"


def test_new_cache_that_is_damaged_too_is_a_failure(service: Service, cached: dict[str, Any]) -> None:
    cached["problems"] = ["malformed"]
    with pytest.raises(repairs.RepairError, match="damaged too: malformed"):
        repairs.quarantine_cache("x")


def test_limits_are_halved_for_an_hour_and_lowered_only(service: Service) -> None:
    message = repairs.lower_limits("the engine failed 3 times")
    assert "katago.maxVisits 1000 to 500" in message
    (request,) = service.lowered
    assert request.limits == {"katago.maxVisits": 500, "katago.maxConcurrent": 1}
    assert (request.minutes, request.why) == (60.0, "self-healing: the engine failed 3 times")


def test_limits_of_a_person_stay(service: Service) -> None:
    service.before = {"keys": {}}
    with pytest.raises(overlay_apply.RefusedError, match="lowered already"):
        repairs.lower_limits("x")
    assert service.lowered == []


@pytest.mark.parametrize(
    ("active", "steps"),
    [
        ("active", ["journalctl --vacuum-size=67108864", "lower", "validate"]),
        ("failed", ["journalctl --vacuum-size=67108864", "prepare", "restart", "validate"]),
    ],
)
def test_disk_is_freed_and_a_failed_service_started(
    service: Service, cached: dict[str, Any], monkeypatch: pytest.MonkeyPatch, active: str, steps: list[str]
) -> None:
    monkeypatch.setitem(CONFIG["cache"], "maxSizeBytes", 256 << 20)
    service.active = active
    repairs.free_disk("x")
    assert service.steps == steps
    assert [request.limits for request in service.lowered] == (
        [{"cache.maxSizeBytes": 32 << 20}] if active == "active" else []
    )


def test_disk_that_is_still_full_is_a_failure(service: Service, cached: dict[str, Any]) -> None:
    service.free_percent = 4.9
    with pytest.raises(repairs.RepairError, match=r"still nearly full \(/var: 4\.9 % free\)"):
        repairs.free_disk("x")
    assert "restart" not in service.steps


def test_every_error_of_a_repair_has_a_message() -> None:
    for kind in repairs.FAILURES:
        assert repairs.message(kind(["x"])) != ""
