"""Installing again keeps the budget; a pause works on a bad disk; a resume ends every stop."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import files, unit_state
from ansible_collections.katago.fleet.plugins.module_utils.removal import parts
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import install, policy, units
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import state as healing_state
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.guard import BusyError
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.state import (
    Escalation,
    Pause,
    Settings,
)

NOW = "2026-11-29T17:00:00Z"
PAUSE = Pause(NOW, "anna@control", "a disk is replaced")


@pytest.fixture
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Puts everything below a directory; returns the commands of systemctl."""
    given: list[str] = []
    timer: dict[str, str] = {}

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        given.append(" ".join(command[1:]))
        if command[1] == "enable":
            timer.update(ActiveState="active", UnitFileState="enabled")
        return subprocess.CompletedProcess(command, 0, "", "")

    def shown(unit: str, *_: str) -> dict[str, str]:
        return timer if unit == paths.SELF_HEALING_TIMER else {}

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(unit_state, "properties", shown)
    for name, value in list(vars(paths).items()):
        if name.startswith("SELF_HEALING_") and isinstance(value, Path):
            monkeypatch.setattr(paths, name, tmp_path / value.relative_to("/"))
    pause = tuple(tmp_path / path.relative_to("/") for path in paths.SELF_HEALING_PAUSE)
    monkeypatch.setattr(paths, "SELF_HEALING_PAUSE", pause)
    monkeypatch.setattr(paths, "SYSTEM_UNITS", tmp_path / "etc/systemd/system")
    for directory in ("etc/systemd/system", "run", "usr/local/sbin", "var/lib"):
        (tmp_path / directory).mkdir(parents=True)
    return given


def stop(why: str) -> None:
    state = healing_state.load(paths.SELF_HEALING_STATE)
    stopped = state.started("a", "restart", "x").finished("a", "failed")
    escalation = Escalation(NOW, why, stops=True)
    healing_state.save(replace(stopped, escalation=escalation), paths.SELF_HEALING_STATE)


def test_check_mode_predicts_and_changes_nothing(orders: list[str], tmp_path: Path) -> None:
    assert install.install(Settings(), check=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    install.install(Settings(), check=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    orders.clear()
    assert install.install(Settings(dry_run=True), check=True)
    assert install.remove(check=True)
    assert install.pause(PAUSE, check=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert orders == []


def test_repeated_installation_keeps_the_budget(orders: list[str]) -> None:
    assert install.install(Settings(), check=False)
    assert orders == ["daemon-reload", f"enable --now {paths.SELF_HEALING_TIMER}"]
    stop("the repair failed")
    before = paths.SELF_HEALING_STATE.read_bytes()
    assert not install.install(Settings(), check=False)
    assert install.install(Settings(dry_run=True), check=False)
    assert paths.SELF_HEALING_STATE.read_bytes() == before
    assert healing_state.settings(paths.SELF_HEALING_SETTINGS) == Settings(dry_run=True)


def test_installation_that_was_killed_before_systemd_read_the_units_is_completed(
    orders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(install, "_systemctl", killed)
        install.install(Settings(), check=False)
    assert install.install(Settings(), check=True)
    assert install.install(Settings(), check=False)
    assert orders == ["daemon-reload", f"enable --now {paths.SELF_HEALING_TIMER}"]
    assert not install.install(Settings(), check=False)


def test_installation_does_not_replace_a_lost_state(orders: list[str]) -> None:
    install.install(Settings(), check=False)
    paths.SELF_HEALING_STATE.unlink()
    assert not install.install(Settings(), check=False)
    assert install.install(Settings(dry_run=True), check=False)
    assert not paths.SELF_HEALING_STATE.exists()


def test_removal_leaves_only_the_records(orders: list[str], tmp_path: Path) -> None:
    install.install(Settings(), check=False)
    paths.SELF_HEALING_PROGRAM.touch()
    paths.SELF_HEALING_LOG.touch()
    install.pause(PAUSE, check=False)
    assert install.remove(check=False)
    left = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {paths.SELF_HEALING_STATE, paths.SELF_HEALING_LOG}
    assert not paths.SELF_HEALING_DROP_IN.parent.exists()
    assert not install.remove(check=False)


def test_pause_of_somebody_stays(orders: list[str]) -> None:
    install.install(Settings(), check=False)
    assert install.pause(PAUSE, check=False)
    assert not install.pause(replace(PAUSE, who="berta"), check=False)
    assert healing_state.pause(paths.SELF_HEALING_PAUSE) == PAUSE
    for path in paths.SELF_HEALING_PAUSE:
        assert json.loads(path.read_text())["why"] == "a disk is replaced"


@pytest.mark.parametrize("broken", [1, 2])
def test_pause_needs_one_of_its_files(
    orders: list[str], monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    install.install(Settings(), check=False)
    write, left = files.write, [broken]

    def failing(path: Path, content: bytes, *, mode: int) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError(28, os.strerror(28), str(path))
        write(path, content, mode=mode)

    monkeypatch.setattr(files, "write", failing)
    if broken == 1:
        assert install.pause(PAUSE, check=False)
        assert healing_state.pause(paths.SELF_HEALING_PAUSE) == PAUSE
    else:
        with pytest.raises(OSError, match="No space left"):
            install.pause(PAUSE, check=False)


def test_resume_ends_pause_and_stop_and_keeps_the_budget(orders: list[str]) -> None:
    install.install(Settings(), check=False)
    assert install.resume(check=False) == []
    stop("the repair failed")
    install.pause(PAUSE, check=False)
    reasons = install.resume(check=True)
    assert reasons == [str(PAUSE), f"stopped since {NOW}: the repair failed"]
    assert install.resume(check=False) == reasons
    state = healing_state.load(paths.SELF_HEALING_STATE)
    assert (state.escalation, len(state.repairs)) == (None, 1)
    assert healing_state.pause(paths.SELF_HEALING_PAUSE) is None


def test_resume_replaces_a_lost_state(orders: list[str]) -> None:
    install.install(Settings(), check=False)
    paths.SELF_HEALING_STATE.write_text("{")
    (reason,) = install.resume(check=False)
    assert "cannot be used" in reason
    assert not healing_state.load(paths.SELF_HEALING_STATE).is_stopped


def test_resume_waits_for_a_running_repair(orders: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    install.install(Settings(), check=False)
    monkeypatch.setattr(install, "_GUARD_SECONDS", 0)
    with paths.SELF_HEALING_GUARD.open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="A repair is running"):
            install.resume(check=False)


def test_units_start_the_program_after_a_failure_and_by_a_timer_without_the_calendar() -> None:
    content = units.files()
    assert content[paths.SELF_HEALING_DROP_IN] == "[Unit]\nOnFailure=katago-self-healing@failure.service\n"
    timer = content[paths.SYSTEM_UNITS / paths.SELF_HEALING_TIMER]
    assert "OnCalendar" not in timer
    assert "Unit=katago-self-healing@check.service" in timer


def test_every_unit_and_path_is_removed_with_the_host() -> None:
    assert [path for path in units.files() if not parts.removes(path)] == []


def test_unit_may_write_what_the_repairs_write() -> None:
    unit = units.files()[paths.SYSTEM_UNITS / paths.SELF_HEALING_UNIT]
    writable = {
        Path(path.lstrip("-"))
        for line in re.findall(r"^ReadWritePaths=(.*)$", unit, re.M)
        for path in line.split()
    }
    written = (
        *(paths.RELEASE_ROOT / "current", paths.COMMAND, paths.CONFIG, paths.SERVICE_UNIT_FILE),
        *(paths.HISTORY, paths.OVERLAY, paths.CACHE, Path(policy.JOURNAL), paths.HOST_LOCK),
    )
    assert [path for path in written if not any(path.is_relative_to(each) for each in writable)] == []
    assert not any(each in writable for each in (Path("/"), Path("/etc"), Path("/var"), Path("/usr")))
