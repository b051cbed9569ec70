"""Checks between the plan and the change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import apt
from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    apt_sources,
    driver_change,
    driver_inspection,
    driver_plan,
    driver_record,
    kernels,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_error import DriverError
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_record import Record
from ansible_collections.katago.fleet.plugins.modules import gpu_driver_record
from tests.unit.gpu import places
from tests.unit.gpu.hosts import (
    BARE,
    DEFAULTS,
    KERNEL,
    OFFERED,
    PASCAL,
    THEIRS,
    VERSION,
    done,
    installed_of,
    stub_programs,
)


def test_start_is_recorded_once_and_does_not_count_as_an_interrupted_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = done(held=())
    places.move(monkeypatch, tmp_path)
    monkeypatch.setattr(driver_inspection, "inspect", lambda _: replace(host, record=driver_record.read()))
    monkeypatch.setattr(apt, "query", lambda: apt.Packages(host.installed, host.installed, ()))
    monkeypatch.setattr(driver_change, "configure", lambda *_: None)
    monkeypatch.setattr(driver_change, "verify_build", lambda *_: None)
    driver_record.write(Record(components=apt_sources.COMPONENTS))
    assert gpu_driver_record.record(DEFAULTS, service=True, write=True) == {"continued": False}
    assert gpu_driver_record.record(DEFAULTS, service=False, write=True) == {"continued": True}
    assert (driver_record.read().unfinished, driver_record.read().service) == (True, True)
    assert not driver_change.install(DEFAULTS, continued=False).installs


def test_module_of_another_version_is_built_again_or_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    old = f"nvidia-current/535.261.03, {KERNEL}, x86_64: installed\n"
    commands = stub_programs(monkeypatch, dkms=(0, old))
    monkeypatch.setattr(kernels, "bootable", lambda: [KERNEL])
    monkeypatch.setattr(apt, "query", lambda: apt.Packages({"nvidia-kernel-dkms": VERSION}, {}, ()))
    with pytest.raises(DriverError, match=r"535\.309\.01 is not built for .* Built for it: 535\.261\.03"):
        driver_change.verify_build(driver_plan.plan(DEFAULTS, done()))
    assert ["dkms", "autoinstall", "-k", KERNEL] in commands


@pytest.mark.parametrize(
    ("version", "facts", "problem"),
    [
        ("580.95.05-1", {"available": OFFERED}, None),
        ("595.45.04-1", {"available": OFFERED}, "nvidia-kernel-dkms 595.45.04-1"),
        ("580.95.05-1", {"elsewhere": ("580.95.05-1",)}, "nvidia-kernel-dkms 580.95.05-1"),
    ],
)
def test_simulation_must_install_the_planned_branch_and_source(
    version: str, facts: dict[str, Any], problem: str | None
) -> None:
    host = replace(BARE, devices=(PASCAL,), **facts)
    plan = driver_plan.plan(THEIRS, host)
    changes = [apt.Change(name, "", version) for name in ("nvidia-kernel-dkms", "libcuda1")]
    changes.append(apt.Change("nvidia-modprobe", "", "595.45.04-1"))
    if problem is None:
        driver_change.check_branch(changes, plan, host, host.installed)
    else:
        with pytest.raises(DriverError, match=problem):
            driver_change.check_branch(changes, plan, host, host.installed)


def test_simulation_that_keeps_a_driver_of_another_branch_is_refused() -> None:
    host = installed_of("595.45.04-1", THEIRS)
    plan = driver_plan.plan(replace(THEIRS, branch="580"), host)
    with pytest.raises(DriverError, match="apt-cache policy nvidia-kernel-dkms"):
        driver_change.check_branch([], plan, host, host.installed)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (apt.Change("linux-image-6.12.118-amd64", "", "6.12.118-1"), "would also install the kernel"),
        (apt.Change("xserver-xorg-core", "21.1", ""), "APT would remove xserver-xorg-core 21.1"),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_changes_beyond_the_driver_are_refused_even_when_forced(
    change: apt.Change, problem: str, force: bool
) -> None:
    with pytest.raises(DriverError, match=problem):
        driver_change.check([change], replace(DEFAULTS, force=force), {})


def test_branches_replace_each_other_if_the_previous_one_can_be_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = "570.195.03-0ubuntu0.24.04.1"
    installed = {"nvidia-dkms-570-server": old, "nvidia-utils-570-server": old, "nvidia-cuda-toolkit": "12.0"}
    gone = [apt.Change(name, version, "") for name, version in installed.items()]
    monkeypatch.setattr(apt, "versions", lambda name: [installed[name]])
    driver_change.check(gone[:2], DEFAULTS, installed)
    with pytest.raises(DriverError, match="APT would remove nvidia-cuda-toolkit"):
        driver_change.check(gone, DEFAULTS, installed)
    monkeypatch.setattr(apt, "versions", lambda _: [])
    with pytest.raises(DriverError, match="would be removed, and it could not be restored: no archive"):
        driver_change.check(gone[:2], DEFAULTS, installed)
    driver_change.check(gone[:2], replace(DEFAULTS, force=True), installed)
