"""The packages of drivers and of kernels' headers, by system."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    devices,
    driver_packages,
    driver_plan,
    kernels,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.devices import Device
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_host import Host
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import Settings
from tests.unit.gpu.hosts import BARE, DEFAULTS, KERNEL, NEXT, TRIXIE, aged, problems


def test_headers_that_would_bring_another_kernel_are_left_out() -> None:
    newer = replace(BARE, header_versions={"linux-headers-cloud-amd64": ("6.1.200-1",)})
    assert "linux-headers-cloud-amd64" not in driver_plan.plan(DEFAULTS, newer).packages
    assert f"linux-headers-{KERNEL}" in driver_plan.plan(DEFAULTS, newer).packages


def test_missing_headers_are_refused_with_the_commands_that_upgrade_the_kernel() -> None:
    alone = aged(kernels=(KERNEL,))
    (problem,) = problems(DEFAULTS, alone)
    assert f"No archive of the host has linux-headers-{KERNEL}" in problem
    assert "apt-get install linux-image-cloud-amd64; reboot" in problem
    having = {f"linux-headers-{KERNEL}": "6.1.192-2"}
    assert problems(DEFAULTS, replace(alone, installed=having)) == ()
    unread = replace(alone, header_versions={})
    assert problems(DEFAULTS, unread) == ()


def test_headers_of_a_kernel_that_will_not_boot_again_are_not_installed() -> None:
    reboots = driver_plan.plan(Settings(reboot="when_needed"), aged())
    assert (reboots.problems, bool(reboots.reboot)) == ((), True)
    offered = {f"linux-headers-{each}": ("1",) for each in (KERNEL, NEXT)}
    for plan in (
        reboots,
        driver_plan.plan(Settings(reboot="when_needed"), aged(header_versions=offered)),
        driver_plan.plan(Settings(expected=0), aged()),
    ):
        assert [each for each in plan.packages if "headers" in each] == [f"linux-headers-{NEXT}"]
        assert plan.problems == ()
    gone = aged(header_versions={f"linux-headers-{NEXT}": ()})
    assert f"has linux-headers-{NEXT}. The module" in problems(Settings(expected=0), gone)[0]


def test_ubuntu_keeps_the_branch_that_is_installed() -> None:
    host = replace(BARE, system="ubuntu", release="24.04", installed={"nvidia-dkms-570-server": "570.1-1"})
    assert driver_packages.branch_of(DEFAULTS, host) == "570-server"


def test_ubuntu_gets_its_server_branch() -> None:
    host = replace(BARE, system="ubuntu", release="24.04", codename="noble")
    plan = driver_plan.plan(DEFAULTS, host)
    assert plan.problems == ()
    assert {"nvidia-dkms-580-server", "nvidia-utils-580-server"} <= set(plan.packages)
    assert plan.components == ()
    is_open = driver_plan.plan(Settings(kernel_module="open"), host)
    assert "nvidia-headless-no-dkms-580-server-open" in is_open.packages


@pytest.mark.parametrize(
    ("host", "vendor", "opencl", "package"),
    [
        (BARE, "amd", "", "mesa-opencl-icd"),
        (TRIXIE, "amd", "rocm", "rocm-opencl-icd"),
        (BARE, "intel", "", "intel-opencl-icd"),
        (TRIXIE, "intel", "", "mesa-opencl-icd"),
    ],
)
def test_other_vendors_get_opencl(host: Host, vendor: devices.Vendor, opencl: str, package: str) -> None:
    bare = replace(host, devices=(Device("0000:03:00.0", vendor, "74a1"),))
    plan = driver_plan.plan(Settings(opencl=opencl), bare)
    assert package in plan.packages
    assert (plan.reboot, plan.problems, plan.dkms_package) == ("", (), "")
    after = replace(bare, installed=dict.fromkeys(plan.packages, "1"))
    assert not driver_plan.plan(Settings(opencl=opencl), after).acts


def test_headers_follow_the_kernels_of_ubuntus_releases() -> None:
    kernel = "6.8.0-45-generic"
    names = ("generic-hwe-22.04", "virtual", f"unsigned-{kernel}")
    host = replace(
        BARE,
        system="ubuntu",
        release="22.04",
        codename="jammy",
        running=kernel,
        kernels=(kernel,),
        image_packages={f"linux-image-{name}": "6.8.0.45" for name in names},
        header_versions={
            "linux-headers-generic-hwe-22.04": ("6.8.0.45",),
            "linux-headers-virtual": ("6.8.0.45",),
        },
    )
    headers, problems = driver_packages.headers_of(DEFAULTS, host, kernel)
    assert headers == (
        f"linux-headers-{kernel}",
        "linux-headers-generic-hwe-22.04",
        "linux-headers-virtual",
    )
    assert problems == []


def test_kernel_that_boots_is_the_highest_version() -> None:
    assert kernels.newest(["6.1.0-9-amd64", "6.1.0-56-amd64", "5.10.0-30-amd64"]) == "6.1.0-56-amd64"
    assert kernels.newest([]) == ""
