"""Which driver a host gets, the reasons, and when a reboot is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.evidence import items
from ansible_collections.katago.fleet.plugins.module_utils.gpu import driver_plan, driver_record
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_record import Record
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import Settings
from tests.unit.gpu.hosts import A40, BARE, DEFAULTS, KERNEL, NEXT, OPEN, done, opened, pending


def test_bare_host_gets_driver_headers_and_components() -> None:
    plan = driver_plan.plan(DEFAULTS, BARE)
    assert plan.problems == ()
    assert plan.installs
    assert {"nvidia-kernel-dkms", f"linux-headers-{KERNEL}", "linux-headers-cloud-amd64"} <= set(
        plan.packages
    )
    assert plan.components == ("contrib", "non-free", "non-free-firmware")
    assert not plan.stops_service


def test_second_run_has_nothing_to_do() -> None:
    plan = driver_plan.plan(DEFAULTS, done())
    assert (plan.because, plan.acts, plan.reboot, plan.problems) == ((), False, "", ())


@pytest.mark.parametrize("settings", [DEFAULTS, Settings(vendor="none")])
def test_host_without_a_gpu_is_not_changed(settings: Settings) -> None:
    host = BARE if settings.vendor == "none" else replace(BARE, devices=())
    plan = driver_plan.plan(settings, host)
    assert (plan.acts, plan.problems, plan.vendor) == (False, (), "none")
    assert plan.text() == ["no GPU: nothing to do"]


def test_plan_names_device_drivers_target_and_reboot() -> None:
    device = replace(A40, driver="nouveau")
    text = driver_plan.plan(
        Settings(reboot="when_needed"), replace(BARE, devices=(device,), nouveau=True)
    ).text()
    assert text[0] == "device: nvidia 2235 at 0000:01:00.0, ampere"
    assert "driver in use: nouveau; loaded: none" in text
    assert any(line.startswith("driver installed: none; target: NVIDIA's driver 535") for line in text)
    assert text[-1] == "reboot: nouveau is loaded, and cannot be unloaded while a console uses it"


def test_every_deviation_from_the_plan_is_a_reason_to_act() -> None:
    whole = done()
    for changes, reason in (
        ({"held": ()}, "not held"),
        ({"modules": {}}, f"the module for {KERNEL} is not built"),
        ({"modules": {KERNEL: "535.261.03"}}, "has version 535.261.03, but 535.309.01 is installed"),
        ({"persistence": False}, "nvidia-persistenced is not enabled"),
        ({"stale": (KERNEL,)}, "initramfs"),
        ({"files": {}}, "is missing or differs from what this role writes"),
        ({"loaded": None}, "is not loaded"),
    ):
        plan = driver_plan.plan(Settings(reboot="when_needed"), replace(whole, **changes))
        assert reason in " ".join(plan.because), changes
        assert not plan.installs


def test_interrupted_run_is_continued() -> None:
    record = Record(unfinished=True, begun="2026-11-24T12:00:00Z")
    plan = driver_plan.plan(DEFAULTS, replace(BARE, record=record, held=("nvidia-smi",)))
    assert plan.installs
    assert "was not finished" in plan.because[0]
    assert plan.problems == ()


def test_host_without_expected_devices_needs_no_reboot() -> None:
    host = replace(BARE, running="6.18.0-other", nouveau=True)
    plan = driver_plan.plan(Settings(expected=0), host)
    assert (plan.reboot, plan.problems, plan.expected) == ("", (), 0)


@pytest.mark.parametrize(
    ("loaded", "will_change", "target", "reason"),
    [
        (None, True, None, ""),
        ("535.309.01", False, "535.309.01", ""),
        ("535.261.03", False, "535.309.01", "the driver 535.261.03 is loaded, but 535.309.01 is installed"),
        ("535.261.03", True, "535.261.03", "the loaded driver 535.261.03 is replaced"),
    ],
)
def test_reboot_depends_on_the_loaded_driver(
    loaded: str | None, will_change: bool, target: str | None, reason: str
) -> None:
    host = replace(BARE, loaded=loaded)
    assert driver_plan.reboot_reason(host, KERNEL, will_change=will_change, target=target) == reason


def test_loaded_module_of_the_other_kind_needs_a_reboot() -> None:
    plan = driver_plan.plan(OPEN, opened("proprietary"))
    assert plan.reboot == "the proprietary kernel module is loaded, but the open one is installed"
    assert plan.reboot in plan.because
    assert plan.stops_service
    for kind in ("open", None):
        assert driver_plan.plan(OPEN, opened(kind)).reboot == ""


def test_newer_kernel_that_waits_for_a_reboot_is_reported_and_not_refused() -> None:
    plan = driver_plan.plan(DEFAULTS, pending())
    assert (plan.because, plan.problems, plan.reboot) == ((), (), "")
    assert f"kernel that will boot: {NEXT}; running: {KERNEL}" in plan.text()
    unbuilt = driver_plan.plan(DEFAULTS, pending(modules={KERNEL: "535.309.01"}))
    assert unbuilt.because == (f"the module for {NEXT} is not built",)
    assert (unbuilt.problems, unbuilt.stops_service) == ((), False)


def test_installing_a_missing_opencl_loader_neither_stops_the_service_nor_reboots() -> None:
    host = done()
    installed = {name: version for name, version in host.installed.items() if name != "ocl-icd-libopencl1"}
    plan = driver_plan.plan(DEFAULTS, replace(host, installed=installed))
    assert plan.because == ("not installed: ocl-icd-libopencl1",)
    assert (plan.installs, plan.stops_service, plan.reboot, plan.problems) == (True, False, "", ())


def test_service_is_stopped_before_every_reboot() -> None:
    permitted = Settings(reboot="when_needed")
    reboots = driver_plan.plan(permitted, done(loaded="535.261.03"))
    assert (reboots.installs, reboots.stops_service) == (False, True)
    assert driver_plan.plan(permitted, replace(BARE, nouveau=True)).stops_service
    assert not driver_plan.plan(permitted, done()).stops_service


def test_stopped_persistence_daemon_matters_only_if_a_device_is_expected() -> None:
    assert driver_plan.plan(DEFAULTS, done(persistence=False)).acts
    assert not driver_plan.plan(Settings(expected=0), done(persistence=False)).acts


def test_reboot_that_an_interrupted_run_needed_is_still_planned() -> None:
    plan = driver_plan.plan(Settings(reboot="when_needed"), done(loaded="535.261.03"))
    assert plan.acts
    assert "535.309.01 is installed" in plan.reboot


def test_evidence_contains_the_state_of_the_driver() -> None:
    by_name = {each.name: each for each in items.ALL}
    assert by_name["gpu.txt"].command == ("nvidia-smi", "--query")
    assert by_name["dkms.txt"].command == ("dkms", "status")
    assert str(driver_record.RECORD) in by_name["gpu-driver.txt"].files
