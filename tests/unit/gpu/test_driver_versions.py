"""Which version of a driver is requested, available, kept and restored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import apt
from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    apt_sources,
    driver_change,
    driver_files,
    driver_packages,
    driver_plan,
    driver_restore,
    driver_settings,
    driver_versions,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_error import DriverError
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_record import Record
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import Settings
from ansible_collections.katago.fleet.plugins.modules import gpu_driver_plan
from tests.unit.gpu.hosts import (
    BARE,
    DEFAULTS,
    OFFERED,
    PASCAL,
    THEIRS,
    VERSION,
    done,
    installed_of,
    pins,
    problems,
)


def test_driver_is_upgraded_only_on_request() -> None:
    newer = done(available=("535.400.01-1", VERSION))
    assert not driver_plan.plan(DEFAULTS, newer).acts
    permitted = Settings(version="latest", reboot="when_needed")
    plan = driver_plan.plan(permitted, newer)
    assert plan.installs
    assert plan.stops_service
    assert driver_plan.plan(replace(permitted, version="535.400.01"), newer).installs
    assert not driver_plan.plan(replace(permitted, version="535.309.01"), newer).installs


@pytest.mark.parametrize(
    ("version", "pinned"), [("", "535.309.01"), ("latest", ""), ("535.400.01", "535.400.01")]
)
def test_installing_a_missing_package_does_not_upgrade_the_driver(version: str, pinned: str) -> None:
    settings = Settings(version=version)
    assert driver_versions.wanted_version(settings, done()) == pinned
    assert driver_versions.wanted_version(Settings(), BARE) == ""


def test_driver_of_another_branch_is_replaced_when_a_branch_is_requested() -> None:
    settings = replace(THEIRS, branch="580", reboot="when_needed")
    plan = driver_plan.plan(settings, installed_of("595.45.04-1", THEIRS))
    assert "the branch 580 is requested" in " ".join(plan.because)
    assert plan.installs
    assert "version 580.*" in pins(settings, installed_of("595.45.04-1", THEIRS))


def test_installed_driver_stays_and_its_branch_must_support_the_devices() -> None:
    host = installed_of("595.45.04-1", THEIRS)
    assert driver_packages.branch_of(THEIRS, host) == "595"
    assert not driver_plan.plan(THEIRS, host).installs
    assert "595 is too new. Set gpu_driver_branch" in " ".join(
        problems(THEIRS, replace(host, devices=(PASCAL,)))
    )


def test_latest_means_the_newest_of_the_branch() -> None:
    latest = replace(THEIRS, version="latest", branch="580", reboot="when_needed")
    assert not driver_plan.plan(latest, installed_of("580.95.05-1", THEIRS)).installs
    assert driver_plan.plan(latest, installed_of("580.65.06-1", THEIRS)).installs


def test_driver_of_another_source_is_replaced_and_not_pinned() -> None:
    host = installed_of("535.309.01-1", DEFAULTS, available=(), elsewhere=("535.309.01-1",))
    plan = driver_plan.plan(replace(THEIRS, reboot="when_needed"), host)
    assert "which is not NVIDIA's package" in " ".join(plan.because)
    assert plan.branch == "580"
    assert driver_versions.wanted_version(THEIRS, host) == ""


def test_version_that_no_archive_has_is_refused_with_the_available_versions() -> None:
    settings = Settings(version="535.261.03", reboot="when_needed")
    problem = "535.261.03, but no archive has nvidia-kernel-dkms in that version. Available: 535.309.01-1."
    host = replace(BARE, lacking_components=(), available=("535.309.01-1",))
    assert problem in " ".join(problems(settings, host))
    assert "Available: none." in " ".join(problems(settings, replace(host, available=())))
    assert problems(settings, BARE) == ()
    there = replace(host, installed={"nvidia-kernel-dkms": "535.261.03-1"})
    kept = replace(host, record=Record(earlier={"nvidia-kernel-dkms": "535.261.03-1"}))
    for fits in (there, kept, replace(host, available=("535.309.01-1", "535.261.03-1"))):
        assert problems(settings, fits) == ()
    theirs = replace(THEIRS, version="580.65.06", reboot="when_needed")
    assert problems(theirs, replace(BARE, available=OFFERED)) == ()
    source = {str(driver_files.SOURCES): apt_sources.nvidia_source("debian", "12", "")}
    assert "no archive has" in " ".join(problems(theirs, replace(BARE, available=OFFERED, files=source)))


@pytest.mark.parametrize(
    ("version", "updates"), [("", 0), ("535.309.01", 0), ("535.261.03", 1), (driver_settings.LATEST, 1)]
)
def test_archives_are_read_again_before_a_version_is_refused(
    version: str, updates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(apt_sources, "index_targets", lambda *_: "")
    monkeypatch.setattr(apt, "get", lambda *arguments, **_: calls.append(arguments))
    host = done(lacking_components=())
    assert gpu_driver_plan.refresh(Settings(version=version), host) is bool(updates)
    assert calls == [("update",)] * updates
    assert not gpu_driver_plan.refresh(Settings(version="latest"), replace(host, devices=()))


def test_branch_of_a_half_installed_driver_is_checked() -> None:
    plan = driver_plan.plan(DEFAULTS, BARE)
    driver_change.check_branch([], plan, BARE, {"nvidia-kernel-dkms": "535.309.01-0+deb12u1"})
    with pytest.raises(DriverError, match=r"branch, source or version: nvidia-kernel-dkms 550\.163\.01"):
        driver_change.check_branch([], plan, BARE, {"nvidia-kernel-dkms": "550.163.01-2"})


def test_restore_covers_only_the_changed_packages() -> None:
    changed = {"libcuda1": "535.261.03-1", "ocl-icd-libopencl1": "2", "nvidia-smi": "", "libcuda1:i386": ""}
    now = {
        "libcuda1": "535.309.01-1",
        "nvidia-smi": "535.309.01-1",
        "openssl": "3.0.17-2",
        "postgresql-15": "15.14",
    }
    assert driver_restore.restoration(changed, {}, now) == (
        ["libcuda1:i386", "nvidia-smi"],
        {"libcuda1": "535.261.03-1", "ocl-icd-libopencl1": "2"},
    )
    assert driver_restore.restoration(changed, {}, {})[1].keys() == {"libcuda1", "ocl-icd-libopencl1"}
    assert driver_restore.restoration(changed, {}, {})[0] == []
    brought = {"openssl": "3.0.17-1", "libcuda1": "535.300-1"}
    upgraded = {"openssl": "3.0.16-1", "libcuda1": "535.261.03-1"}
    assert driver_restore.restoration(upgraded, brought, now) == ([], {"libcuda1": "535.261.03-1"})
    again = driver_restore.restoration(upgraded, brought, {**now, "openssl": "3.0.17-1"})
    assert again == ([], upgraded)
