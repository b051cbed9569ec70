"""Problems that are refused before any change, and their remedies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.gpu import driver_plan
from ansible_collections.katago.fleet.plugins.module_utils.gpu.devices import Device
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_error import DriverError
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import Settings
from tests.unit.gpu.hosts import A40, BARE, DEFAULTS, TRIXIE, problems


@pytest.mark.parametrize(
    ("settings", "changes", "text"),
    [
        (Settings(kernel_module="open"), {}, "cannot be installed"),
        (Settings(branch="580"), {}, "Debian 12 has the driver branch 535"),
        (Settings(version="550.163.01", branch="535"), {}, "not of gpu_driver_branch"),
        (Settings(vendor="amd"), {}, "no GPU of that vendor"),
        (Settings(devices=({"vendor": "nvidia", "device": "x"},)), {}, "hexadecimal"),
        (Settings(source="nvidia"), {}, "gpu_driver_repository.key is missing"),
        (DEFAULTS, {"release": "11"}, "The host runs debian 11. This role installs drivers only on"),
        (
            DEFAULTS,
            {"release": "", "system_name": "Debian GNU/Linux forky/sid (debian without VERSION_ID, forky)"},
            "forky/sid (debian without VERSION_ID, forky). This role installs",
        ),
        (DEFAULTS, {"system": "ubuntu", "release": "25.10"}, "and on Ubuntu 22.04 and 24.04 (untested)"),
        (DEFAULTS, {"release": "11"}, "a deployment uses any driver that works"),
        (DEFAULTS, {"architecture": "aarch64"}, "x86_64 only"),
        (DEFAULTS, {"devices": (replace(A40, id="102d"),)}, "too old"),
        (DEFAULTS, {"devices": (replace(A40, id="2b85"),)}, "needs the branch 570 or newer"),
        (DEFAULTS, {"secure_boot": True, "key_state": "not_enrolled"}, "Enroll it: mokutil --import"),
        (DEFAULTS, {"secure_boot": True, "key_state": "unknown"}, "apt-get install mokutil"),
        (DEFAULTS, {"secure_boot": True, "key_state": "requested"}, "confirm it at the console"),
        (DEFAULTS, {"nouveau": True}, "gpu_driver_reboot is never"),
        (DEFAULTS, {"running": "6.1.0-50-cloud-amd64"}, "gpu_driver_reboot is never"),
        (DEFAULTS, {"disk_free_mb": {"/usr": 100}}, "/usr has 100 MB free"),
        (DEFAULTS, {"runfile": True}, "nvidia-uninstall"),
        (DEFAULTS, {"image_packages": {}}, "gpu_driver_headers"),
        (DEFAULTS, {"held": ("libcuda1",)}, "apt-mark unhold libcuda1"),
    ],
)
def test_unsupported_setup_is_refused_with_a_remedy(
    settings: Settings, changes: dict[str, Any], text: str
) -> None:
    assert text in " ".join(problems(settings, replace(BARE, **changes)))


@pytest.mark.parametrize(
    ("free", "file_systems", "text"),
    [
        (
            {"/usr": 3000, "/var": 3000, "/boot": 3000},
            {"/usr": 1, "/var": 1, "/boot": 1},
            "/usr, /var, /boot",
        ),
        (
            {"/usr": 3000, "/var": 3000, "/boot": 200},
            {"/usr": 1, "/var": 1, "/boot": 2},
            "/usr, /var together",
        ),
        ({"/usr": 3000, "/var": 3000, "/boot": 200}, {"/usr": 1, "/var": 2, "/boot": 3}, ""),
        ({"/usr": 3000, "/var": 3000, "/boot": 100}, {"/usr": 1, "/var": 2, "/boot": 3}, "/boot has 100 MB"),
        ({"/usr": 4150, "/var": 4150, "/boot": 4150}, {"/usr": 1, "/var": 1, "/boot": 1}, ""),
    ],
)
def test_needs_of_one_file_system_add_up(
    free: dict[str, int], file_systems: dict[str, int], text: str
) -> None:
    messages = problems(DEFAULTS, replace(BARE, disk_free_mb=free, file_systems=file_systems))
    assert [text in each for each in messages] == ([True] if text else [])


def test_open_module_on_debian_13_is_refused_since_the_kernel_it_fails_on() -> None:
    settings = Settings(kernel_module="open")
    assert "does not compile" in " ".join(problems(settings, TRIXIE))
    older = replace(TRIXIE, running="6.12.96+deb13-amd64", kernels=("6.12.96+deb13-amd64",))
    older = replace(older, image_packages={"linux-image-6.12.96+deb13-amd64": "6.12.96-1"})
    assert problems(settings, older) == ()
    assert problems(replace(settings, force=True), TRIXIE) == ()


@pytest.mark.parametrize(
    ("module", "device", "text"),
    [
        ("open", "1b06", "does not work with the open kernel module"),
        ("proprietary", "2b85", "works with the open kernel module only"),
    ],
)
def test_chip_and_kernel_module_must_fit(module: str, device: str, text: str) -> None:
    settings = Settings(source="nvidia", kernel_module=module)
    assert text in " ".join(problems(settings, replace(BARE, devices=(replace(A40, id=device),))))


def test_chip_that_a_branch_dropped_is_refused() -> None:
    settings = Settings(source="nvidia", branch="590")
    assert "up to the branch 580" in " ".join(
        problems(settings, replace(BARE, devices=(replace(A40, id="1b06"),)))
    )


def test_opencl_of_another_vendor_is_refused() -> None:
    host = replace(BARE, devices=(Device("0000:03:00.0", "intel", "56c0"),))
    assert "must be one of intel, mesa" in " ".join(problems(Settings(opencl="rocm"), host))


def test_problems_are_refused_together_and_with_the_plan() -> None:
    plan = driver_plan.plan(DEFAULTS, BARE)
    with pytest.raises(DriverError) as refused:
        driver_plan.refuse(replace(plan, problems=("one", "two")))
    assert refused.value.refused
    lines = str(refused.value).splitlines()
    assert lines[:3] == ["Refused; nothing was changed on this host.", "- one", "- two"]
    assert lines[3:] == ["The plan:", *plan.text()]
    driver_plan.refuse(plan)


UBUNTU = replace(
    BARE,
    system="ubuntu",
    release="24.04",
    codename="noble",
    system_name="Ubuntu 24.04.3 LTS (ubuntu 24.04)",
    lacking_components=(),
    components=("main", "multiverse", "restricted", "universe"),
)


def test_plan_names_what_is_not_tested_on_ubuntu() -> None:
    plan = driver_plan.plan(DEFAULTS, UBUNTU)
    assert plan.problems == ()
    text = "\n".join(plan.text())
    for line in (
        "not tested: that nvidia-dkms-580-server, nvidia-headless-no-dkms-580-server,",
        "not tested: whether Ubuntu still has the branch 580-server; ubuntu-drivers",
        "not tested: Secure Boot with a module that DKMS signs with the key of shim-signed",
    ):
        assert line in text
    assert "not tested" not in "\n".join(driver_plan.plan(DEFAULTS, BARE).text())


def test_ubuntu_without_the_components_with_drivers_is_refused_with_the_commands_that_add_them() -> None:
    host = replace(UBUNTU, components=("main", "universe"))
    (problem,) = problems(DEFAULTS, host)
    assert "APT does not know nvidia-dkms-580-server" in problem
    assert (
        "add-apt-repository --yes restricted; add-apt-repository --yes multiverse; apt-get update" in problem
    )
    assert problems(DEFAULTS, replace(host, available=("580.95.05-0ubuntu0.24.04.2",))) == ()
    assert problems(DEFAULTS, replace(host, components=())) == ()


def test_host_with_modules_signed_by_ubuntu_is_refused() -> None:
    ready = {"linux-modules-nvidia-580-server-6.8.0-85-generic": "6.8.0-85.85+1"}
    (problem,) = problems(DEFAULTS, replace(UBUNTU, installed=ready))
    assert "linux-modules-nvidia-580-server-6.8.0-85-generic" in problem
    assert "Leave the driver to Ubuntu" in problem


def test_opencl_on_ubuntu_is_not_tested_either() -> None:
    host = replace(UBUNTU, devices=(Device("0000:03:00.0", "amd", "744c"),))
    (unknown,) = driver_plan.plan(DEFAULTS, host).unknown
    assert "that mesa-opencl-icd, ocl-icd-libopencl1 can be installed together" in unknown
