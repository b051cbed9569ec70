"""Which driver a host gets, what is refused before anything is changed, and when a reboot is needed."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import gpu, gpu_driver, packages
from ansible_collections.katago.fleet.plugins.module_utils.common import commands
from ansible_collections.katago.fleet.plugins.module_utils.evidence import items
from ansible_collections.katago.fleet.plugins.modules import gpu_driver as gpu_driver_module

KERNEL = "6.1.0-56-cloud-amd64"
A40 = gpu.Device("0000:01:00.0", "nvidia", "2235")
VERSION = "535.309.01-0+deb12u1"
BARE = gpu_driver.Seen(
    system="debian",
    release="12",
    codename="bookworm",
    architecture="x86_64",
    running=KERNEL,
    devices=(A40,),
    kernels=(KERNEL,),
    image_packages={f"linux-image-{KERNEL}": "6.1.192-2", "linux-image-cloud-amd64": "6.1.192-2"},
    header_versions={"linux-headers-cloud-amd64": ("6.1.192-2",)},
    lacking_components=gpu_driver.COMPONENTS,
    releases=gpu_driver.pinned_releases((), "bookworm"),
    disk_free_mb={"/usr": 9000, "/var": 9000, "/boot": 900},
)
TRIXIE = replace(
    BARE,
    release="13",
    codename="trixie",
    running="6.12.118+deb13-amd64",
    kernels=("6.12.118+deb13-amd64",),
    image_packages={"linux-image-6.12.118+deb13-amd64": "6.12.118-1"},
)
DEFAULTS = gpu_driver.Settings()


def done(
    settings: gpu_driver.Settings = DEFAULTS, seen: gpu_driver.Seen = BARE, **changes: Any
) -> gpu_driver.Seen:
    """The host after the plan was carried out and the driver loaded."""
    plan = gpu_driver.plan(settings, seen)
    texts = gpu_driver.files(
        settings,
        components=plan.components,
        releases=seen.releases,
        version="535.309.01",
        branch=plan.branch,
    )
    host = replace(
        seen,
        installed=dict.fromkeys(plan.packages, VERSION),
        held=gpu_driver.held_packages(plan.packages),
        modules={KERNEL: "535.309.01"},
        loaded="535.309.01",
        files=dict(texts),
        record={"components": plan.components, "held": gpu_driver.held_packages(plan.packages)},
    )
    return replace(host, **changes)


def problems(settings: gpu_driver.Settings = DEFAULTS, seen: gpu_driver.Seen = BARE) -> tuple[str, ...]:
    return gpu_driver.plan(settings, seen).problems


def test_bare_host_gets_driver_headers_and_components() -> None:
    plan = gpu_driver.plan(DEFAULTS, BARE)
    assert plan.problems == ()
    assert plan.installs
    assert {"nvidia-kernel-dkms", f"linux-headers-{KERNEL}", "linux-headers-cloud-amd64"} <= set(
        plan.packages
    )
    assert plan.components == ("contrib", "non-free", "non-free-firmware")
    assert not plan.stops_service


def test_second_run_has_nothing_to_do() -> None:
    plan = gpu_driver.plan(DEFAULTS, done())
    assert (plan.because, plan.acts, plan.reboot, plan.problems) == ((), False, "", ())


@pytest.mark.parametrize("settings", [DEFAULTS, gpu_driver.Settings(vendor="none")])
def test_host_without_a_gpu_is_left_alone(settings: gpu_driver.Settings) -> None:
    seen = BARE if settings.vendor == "none" else replace(BARE, devices=())
    plan = gpu_driver.plan(settings, seen)
    assert (plan.acts, plan.problems, plan.vendor) == (False, (), "none")
    assert plan.text() == ["no GPU: nothing to do"]


def test_plan_names_device_drivers_target_and_reboot() -> None:
    device = replace(A40, driver="nouveau")
    text = gpu_driver.plan(
        gpu_driver.Settings(reboot="when_needed"), replace(BARE, devices=(device,), nouveau=True)
    ).text()
    assert text[0] == "device: nvidia 2235 at 0000:01:00.0, ampere"
    assert "driver in use: nouveau; loaded: none" in text
    assert any(line.startswith("driver installed: none; target: NVIDIA's driver 535") for line in text)
    assert text[-1] == "reboot: nouveau is loaded, and cannot be removed under a console"


def test_every_departure_is_a_reason_to_act() -> None:
    whole = done()
    for changes, words in (
        ({"held": ()}, "not held"),
        ({"modules": {}}, f"the module for {KERNEL} is not built"),
        ({"modules": {KERNEL: "535.261.03"}}, "is 535.261.03, and 535.309.01 is installed"),
        ({"persistence": False}, "nvidia-persistenced is not enabled"),
        ({"stale": (KERNEL,)}, "initramfs"),
        ({"files": {}}, "is not as it should be"),
        ({"loaded": None}, "is not loaded"),
    ):
        plan = gpu_driver.plan(gpu_driver.Settings(reboot="when_needed"), replace(whole, **changes))
        assert words in " ".join(plan.because), changes
        assert not plan.installs


def test_interrupted_run_is_continued() -> None:
    record = {"unfinished": True, "begun": "2026-11-24T12:00:00Z", "held": ()}
    plan = gpu_driver.plan(DEFAULTS, replace(BARE, record=record, held=("nvidia-smi",)))
    assert plan.installs
    assert "was not brought to its end" in plan.because[0]
    assert plan.problems == ()


def test_beginning_is_recorded_once_and_makes_no_change_an_interrupted_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = done(held=())
    monkeypatch.setattr(gpu_driver, "STATE", tmp_path)
    monkeypatch.setattr(gpu_driver_module, "RECORD", tmp_path / "state.json")
    monkeypatch.setattr(gpu_driver_module, "look", lambda _: replace(seen, record=gpu_driver_module.record()))
    monkeypatch.setattr(packages, "known", lambda: packages.Known(seen.installed, seen.installed, ()))
    monkeypatch.setattr(gpu_driver_module, "configure", lambda *_: None)
    monkeypatch.setattr(gpu_driver_module, "verify_build", lambda *_: None)
    gpu_driver_module.write_record({"components": list(gpu_driver.COMPONENTS)})
    assert gpu_driver_module.prepare(DEFAULTS, service=True) is False
    assert gpu_driver_module.prepare(DEFAULTS, service=False) is True
    assert (gpu_driver_module.record()["unfinished"], gpu_driver_module.record()["service"]) == (True, True)
    assert not gpu_driver_module.install(DEFAULTS, {}, continued=False).installs


@pytest.mark.parametrize(
    ("settings", "changes", "words"),
    [
        (gpu_driver.Settings(kernel_module="open"), {}, "cannot be installed"),
        (gpu_driver.Settings(branch="580"), {}, "Debian 12 has the branch 535"),
        (gpu_driver.Settings(version="550.163.01", branch="535"), {}, "not of gpu_driver_branch"),
        (gpu_driver.Settings(vendor="amd"), {}, "no GPU of that vendor"),
        (gpu_driver.Settings(devices=({"vendor": "nvidia", "device": "x"},)), {}, "hexadecimal"),
        (gpu_driver.Settings(source="nvidia"), {}, "gpu_driver_repository.key is missing"),
        (DEFAULTS, {"release": "11"}, "supported are Debian 12 and 13"),
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
def test_what_cannot_work_is_refused_with_its_remedy(
    settings: gpu_driver.Settings, changes: dict[str, Any], words: str
) -> None:
    assert words in " ".join(problems(settings, replace(BARE, **changes)))


@pytest.mark.parametrize(
    ("free", "file_systems", "words"),
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
    free: dict[str, int], file_systems: dict[str, int], words: str
) -> None:
    found = problems(DEFAULTS, replace(BARE, disk_free_mb=free, file_systems=file_systems))
    assert [words in each for each in found] == ([True] if words else [])


def test_open_module_on_debian_13_is_refused_since_the_kernel_it_fails_on() -> None:
    settings = gpu_driver.Settings(kernel_module="open")
    assert "does not compile" in " ".join(problems(settings, TRIXIE))
    older = replace(TRIXIE, running="6.12.96+deb13-amd64", kernels=("6.12.96+deb13-amd64",))
    older = replace(older, image_packages={"linux-image-6.12.96+deb13-amd64": "6.12.96-1"})
    assert problems(settings, older) == ()
    assert problems(replace(settings, force=True), TRIXIE) == ()


@pytest.mark.parametrize(
    ("module", "device", "words"),
    [
        ("open", "1b06", "does not work with the open kernel module"),
        ("proprietary", "2b85", "works with the open kernel module only"),
    ],
)
def test_chip_and_kernel_module_must_fit(module: str, device: str, words: str) -> None:
    settings = gpu_driver.Settings(source="nvidia", kernel_module=module)
    assert words in " ".join(problems(settings, replace(BARE, devices=(replace(A40, id=device),))))


def test_chip_that_a_branch_dropped_is_refused() -> None:
    settings = gpu_driver.Settings(source="nvidia", branch="590")
    assert "up to the branch 580" in " ".join(
        problems(settings, replace(BARE, devices=(replace(A40, id="1b06"),)))
    )


def test_headers_that_would_bring_another_kernel_are_left_out() -> None:
    newer = replace(BARE, header_versions={"linux-headers-cloud-amd64": ("6.1.200-1",)})
    assert "linux-headers-cloud-amd64" not in gpu_driver.plan(DEFAULTS, newer).packages
    assert f"linux-headers-{KERNEL}" in gpu_driver.plan(DEFAULTS, newer).packages


def aged(running: str = KERNEL, **changes: Any) -> gpu_driver.Seen:
    """A host whose archives have no headers of its kernel any more, and perhaps a newer kernel."""
    kernels = (KERNEL, NEXT)
    host = replace(
        BARE,
        running=running,
        kernels=kernels,
        image_packages={f"linux-image-{each}": "1" for each in kernels} | {"linux-image-cloud-amd64": "2"},
        header_versions={f"linux-headers-{KERNEL}": (), f"linux-headers-{NEXT}": ("6.1.193-1",)},
    )
    return replace(host, **changes)


def test_headers_that_no_archive_has_are_refused_with_the_way_to_a_newer_kernel() -> None:
    alone = aged(kernels=(KERNEL,))
    (said,) = problems(DEFAULTS, alone)
    assert f"No archive of the host has linux-headers-{KERNEL}" in said
    assert "apt-get install linux-image-cloud-amd64; reboot" in said
    having = {f"linux-headers-{KERNEL}": "6.1.192-2"}
    assert problems(DEFAULTS, replace(alone, installed=having)) == ()
    unread = replace(alone, header_versions={})
    assert problems(DEFAULTS, unread) == ()


def test_headers_of_a_kernel_that_is_left_are_not_installed() -> None:
    reboots = gpu_driver.plan(gpu_driver.Settings(reboot="when_needed"), aged())
    assert (reboots.problems, bool(reboots.reboot)) == ((), True)
    offered = {f"linux-headers-{each}": ("1",) for each in (KERNEL, NEXT)}
    for plan in (
        reboots,
        gpu_driver.plan(gpu_driver.Settings(reboot="when_needed"), aged(header_versions=offered)),
        gpu_driver.plan(gpu_driver.Settings(expected=0), aged()),
    ):
        assert [each for each in plan.packages if "headers" in each] == [f"linux-headers-{NEXT}"]
        assert plan.problems == ()
    gone = aged(header_versions={f"linux-headers-{NEXT}": ()})
    assert f"has linux-headers-{NEXT}, without" in problems(gpu_driver.Settings(expected=0), gone)[0]


def test_host_that_is_only_prepared_needs_no_reboot() -> None:
    seen = replace(BARE, running="6.18.0-other", nouveau=True)
    plan = gpu_driver.plan(gpu_driver.Settings(expected=0), seen)
    assert (plan.reboot, plan.problems, plan.expected) == ("", (), 0)


@pytest.mark.parametrize(
    ("loaded", "will_change", "target", "words"),
    [
        (None, True, None, ""),
        ("535.309.01", False, "535.309.01", ""),
        ("535.261.03", False, "535.309.01", "the driver 535.261.03 is loaded, and 535.309.01 is installed"),
        ("535.261.03", True, "535.261.03", "the driver 535.261.03 is loaded, and is replaced"),
    ],
)
def test_reboot_follows_from_what_is_loaded(
    loaded: str | None, will_change: bool, target: str | None, words: str
) -> None:
    seen = replace(BARE, loaded=loaded)
    assert gpu_driver.reboot_reason(seen, KERNEL, will_change=will_change, target=target) == words


OPEN = gpu_driver.Settings(source="nvidia", has_key=True, kernel_module="open", reboot="when_needed")


def opened(kind: str | None) -> gpu_driver.Seen:
    """A host whose open kernel module was installed in the version of the loaded one, which is of a kind."""
    names = gpu_driver.plan(OPEN, BARE).packages
    return replace(
        BARE,
        installed=dict.fromkeys(names, "580.95.05-1"),
        loaded="580.95.05",
        loaded_kind=kind,
        modules={KERNEL: "580.95.05"},
    )


def test_other_kernel_module_in_the_same_version_is_not_the_installed_one() -> None:
    plan = gpu_driver.plan(OPEN, opened("proprietary"))
    assert plan.reboot == "the proprietary kernel module is loaded, and the open one is installed"
    assert plan.reboot in plan.because
    assert plan.stops_service
    for kind in ("open", None):
        assert gpu_driver.plan(OPEN, opened(kind)).reboot == ""


@pytest.mark.parametrize(("after", "reboot"), [("open", False), ("proprietary", True)])
def test_other_kernel_module_in_the_same_version_is_removed_or_left_by_a_reboot(
    after: str, reboot: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asks(monkeypatch)
    monkeypatch.setattr(gpu_driver_module, "UVM", Path("/dev/null"))
    monkeypatch.setattr(gpu, "loaded_version", lambda *_: "580.95.05")
    monkeypatch.setattr(gpu, "loaded_kind", lambda *_: after)
    looks = iter(("proprietary", after))
    monkeypatch.setattr(gpu_driver_module, "look", lambda _: opened(next(looks)))
    assert bool(gpu_driver_module.load(OPEN)) is reboot
    assert ["modprobe", "--remove", *gpu_driver_module.MODULES] in asked


NEXT = "6.1.0-57-cloud-amd64"


def pending(**changes: Any) -> gpu_driver.Seen:
    """A host that works, and has a newer kernel with its module."""
    host = done(
        kernels=(KERNEL, NEXT),
        image_packages={**BARE.image_packages, f"linux-image-{NEXT}": "6.1.193-1"},
        modules={KERNEL: "535.309.01", NEXT: "535.309.01"},
    )
    installed = {**host.installed, f"linux-headers-{NEXT}": "6.1.193-1"}
    return replace(host, installed=installed, **changes)


def test_newer_kernel_that_waits_for_a_reboot_is_told_and_not_refused() -> None:
    plan = gpu_driver.plan(DEFAULTS, pending())
    assert (plan.because, plan.problems, plan.reboot) == ((), (), "")
    assert f"kernel that will boot: {NEXT}; {KERNEL} runs" in plan.text()
    unbuilt = gpu_driver.plan(DEFAULTS, pending(modules={KERNEL: "535.309.01"}))
    assert unbuilt.because == (f"the module for {NEXT} is not built",)
    assert (unbuilt.problems, unbuilt.stops_service) == ((), False)


def test_loading_is_finished_while_a_newer_kernel_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asks(monkeypatch)
    monkeypatch.setattr(gpu_driver_module, "UVM", Path("/dev/null"))
    monkeypatch.setattr(gpu_driver_module, "look", lambda _: pending(persistence=False))
    monkeypatch.setattr(gpu, "loaded_version", lambda *_: "535.309.01")
    assert gpu_driver_module.load(DEFAULTS) == ""
    assert ["systemctl", "enable", "--now", gpu_driver_module.PERSISTENCED] in asked


def asks(monkeypatch: pytest.MonkeyPatch, **answers: tuple[int, str]) -> list[list[str]]:
    """Has every program of the host answer, by its name, that all is well; what it was asked."""
    asked: list[list[str]] = []

    def answer(command: Sequence[str], seconds: float = 0) -> tuple[int, str]:
        asked.append(list(command))
        return answers.get(command[0], (0, ""))

    monkeypatch.setattr(gpu_driver_module, "ask", answer)
    return asked


def test_loader_that_is_missing_neither_stops_the_service_nor_reboots() -> None:
    host = done()
    installed = {name: version for name, version in host.installed.items() if name != "ocl-icd-libopencl1"}
    plan = gpu_driver.plan(DEFAULTS, replace(host, installed=installed))
    assert plan.because == ("not installed: ocl-icd-libopencl1",)
    assert (plan.installs, plan.stops_service, plan.reboot, plan.problems) == (True, False, "", ())


def test_service_is_stopped_before_every_reboot() -> None:
    permitted = gpu_driver.Settings(reboot="when_needed")
    owed = gpu_driver.plan(permitted, done(loaded="535.261.03"))
    assert (owed.installs, owed.stops_service) == (False, True)
    assert gpu_driver.plan(permitted, replace(BARE, nouveau=True)).stops_service
    assert not gpu_driver.plan(permitted, done()).stops_service


def test_module_of_another_version_is_built_anew_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    old = f"nvidia-current/535.261.03, {KERNEL}, x86_64: installed\n"
    asked = asks(monkeypatch, dkms=(0, old))
    monkeypatch.setattr(gpu_driver_module, "bootable", lambda: [KERNEL])
    monkeypatch.setattr(packages, "known", lambda: packages.Known({"nvidia-kernel-dkms": VERSION}, {}, ()))
    with pytest.raises(
        gpu_driver_module.DriverError, match=r"535\.309\.01 is not built for .* has 535\.261\.03"
    ):
        gpu_driver_module.verify_build(gpu_driver.plan(DEFAULTS, done()))
    assert ["dkms", "autoinstall", "-k", KERNEL] in asked


@pytest.mark.parametrize(
    ("before", "loaded", "built", "after", "reboot"),
    [
        ("535.261.03", ["535.261.03"], "535.261.03", [], ""),
        (None, ["535.309.01", None], None, ["--remove"], ""),
        (None, ["535.309.01", "535.309.01"], None, ["--remove"], "535.309.01 is loaded, and none is"),
        ("535.261.03", ["535.309.01", "535.261.03"], "535.261.03", ["--remove", "nvidia"], ""),
        ("535.261.03", [None, "535.261.03"], "535.261.03", ["nvidia"], ""),
        ("535.261.03", [None, None], "535.261.03", ["nvidia"], "none is loaded, and 535.261.03 is"),
    ],
)
def test_module_of_before_is_loaded_again_or_the_reboot_is_named(
    before: str | None,
    loaded: list[str | None],
    built: str | None,
    after: list[str],
    reboot: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status = f"nvidia-current/{built}, {platform.release()}, x86_64: installed\n" if built else ""
    asked = asks(monkeypatch, dkms=(0, status))
    answers = iter(loaded)
    monkeypatch.setattr(gpu, "loaded_version", lambda *_: next(answers))
    said = gpu_driver_module.reload(before, None)
    assert reboot in said if reboot else said == ""
    assert [each[1] for each in asked if each[0] == "modprobe"] == after


@pytest.mark.parametrize(
    ("kinds", "reboot"),
    [
        (["open", "proprietary"], ""),
        (["open", "open"], "the open kernel module is loaded, and the proprietary one is installed"),
    ],
)
def test_kernel_module_of_before_is_loaded_again_where_the_other_has_its_version(
    kinds: list[str], reboot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asks(
        monkeypatch, dkms=(0, f"nvidia-current/535.309.01, {platform.release()}, x86_64: installed\n")
    )
    monkeypatch.setattr(gpu, "loaded_version", lambda *_: "535.309.01")
    monkeypatch.setattr(gpu, "loaded_kind", lambda *_: kinds[["modprobe", "nvidia"] in asked])
    assert gpu_driver_module.reload("535.309.01", "proprietary") == reboot
    assert [each[1] for each in asked if each[0] == "modprobe"] == ["--remove", "nvidia"]


@pytest.mark.parametrize(
    ("enabled", "active", "seen"),
    [
        ((0, "enabled"), 0, True),
        ((0, "static"), 3, False),
        ((1, "disabled"), 0, False),
        ((1, "Failed to get unit file state"), 4, None),
        ((127, "systemctl is not installed"), 127, None),
    ],
)
def test_persistence_needs_a_daemon_that_is_enabled_and_runs(
    enabled: tuple[int, str], active: int, seen: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"is-enabled": enabled, "is-active": (active, "")}
    monkeypatch.setattr(gpu_driver_module, "ask", lambda command, *_: answers[command[1]])
    assert gpu_driver_module.persistence() is seen


def test_daemon_that_does_not_run_matters_only_where_a_device_is_expected() -> None:
    assert gpu_driver.plan(DEFAULTS, done(persistence=False)).acts
    assert not gpu_driver.plan(gpu_driver.Settings(expected=0), done(persistence=False)).acts


def test_reboot_that_an_interrupted_run_owed_is_still_owed() -> None:
    plan = gpu_driver.plan(gpu_driver.Settings(reboot="when_needed"), done(loaded="535.261.03"))
    assert plan.acts
    assert "535.309.01 is installed" in plan.reboot


def test_driver_is_upgraded_only_when_that_is_asked_for() -> None:
    newer = done(available=("535.400.01-1", VERSION))
    assert not gpu_driver.plan(DEFAULTS, newer).acts
    permitted = gpu_driver.Settings(version="latest", reboot="when_needed")
    plan = gpu_driver.plan(permitted, newer)
    assert plan.installs
    assert plan.stops_service
    assert gpu_driver.plan(replace(permitted, version="535.400.01"), newer).installs
    assert not gpu_driver.plan(replace(permitted, version="535.309.01"), newer).installs


@pytest.mark.parametrize(
    ("version", "pinned"), [("", "535.309.01"), ("latest", ""), ("535.400.01", "535.400.01")]
)
def test_package_that_is_missing_brings_no_newer_driver(version: str, pinned: str) -> None:
    settings = gpu_driver.Settings(version=version)
    assert gpu_driver.wanted_version(settings, done()) == pinned
    assert gpu_driver.wanted_version(gpu_driver.Settings(), BARE) == ""


def test_nothing_but_the_driver_is_taken_from_components_that_were_added() -> None:
    mirror = gpu_driver.Archive("http://m.example.org/debian", "bookworm", "main", "bookworm", "Mirror")
    pins = gpu_driver.files(
        DEFAULTS,
        components=("non-free",),
        releases=gpu_driver.pinned_releases([mirror], "bookworm"),
        version="535.309.01",
        branch="535",
    )[str(gpu_driver.PREFERENCES)]
    for release in (
        "o=Debian,n=bookworm",
        "o=Debian,n=bookworm-updates",
        "o=Debian,n=bookworm-security",
        "o=Mirror,n=bookworm",
    ):
        assert f"Package: *\nPin: release {release},c=non-free\nPin-Priority: -1\n" in pins
    assert pins.count("c=") == 4
    assert "Pin: version 535.309.01*\nPin-Priority: 1001\n" in pins
    assert pins.index("nvidia-persistenced") < pins.index("Pin: version")
    own = gpu_driver.files(DEFAULTS, components=(), version="", branch="535")
    assert "c=" not in own[str(gpu_driver.PREFERENCES)]


def test_unattended_upgrades_leave_the_driver_alone() -> None:
    text = gpu_driver.files(DEFAULTS, components=(), version="", branch="535")[str(gpu_driver.UNATTENDED)]
    for prefix in ("nvidia-", "libnvidia-", "libcuda", "firmware-nvidia-"):
        assert f'"^{prefix}";' in text


TARGETS = (
    "http://archive.example.org/debian/|bookworm|main|bookworm|Debian\n"
    "http://archive.example.org/debian/|bookworm|main|bookworm|Debian\n"
    "http://security.example.org/debian-security/|bookworm-security|main|$(CODENAME)|$(ORIGIN)\n"
    "http://repo.example.org/|bookworm|main|bookworm|Somebody\n"
)
ARCHIVES = gpu_driver.archives(TARGETS)


def test_archives_of_the_own_release_are_the_distributions() -> None:
    assert len(ARCHIVES) == 3
    assert [each.uri for each in gpu_driver.own_archives(ARCHIVES, "bookworm")] == [
        "http://archive.example.org/debian/"
    ]
    unread = gpu_driver.archives(TARGETS.replace("|bookworm|Debian", "|$(CODENAME)|$(ORIGIN)"))
    assert len(gpu_driver.own_archives(unread, "bookworm")) == 3


def test_release_is_known_by_its_codename_where_its_suite_is_another() -> None:
    found = gpu_driver.archives("http://m.example.org/debian/|stable|main|bookworm|Debian\n")
    own = gpu_driver.own_archives(found, "bookworm")
    assert gpu_driver.lacking_components(own, "bookworm") == ["contrib", "non-free", "non-free-firmware"]
    texts = {"sources.list": "deb http://m.example.org/debian stable main # ours\n"}
    lines = gpu_driver.sources(texts, own, ["non-free"])[gpu_driver.SOURCES]
    assert lines is not None
    assert lines.splitlines()[1:] == ["deb http://m.example.org/debian stable non-free"]


def test_components_are_added_to_nothing_but_the_own_release() -> None:
    assert "None of APT's sources is known as that of bookworm" in " ".join(
        problems(DEFAULTS, replace(BARE, release_known=False))
    )
    unknown = gpu_driver.own_archives(ARCHIVES, "trixie")
    texts = {"sources.list": "deb http://archive.example.org/debian bookworm main\n"}
    assert set(gpu_driver.sources(texts, unknown, ["non-free"]).values()) == {None}


def test_components_are_taken_with_the_options_of_the_hosts_own_entries() -> None:
    own = gpu_driver.archives(
        "http://a.example.org/debian/|bookworm|main|bookworm|Debian\n"
        "http://a.example.org/debian/|bookworm-security|main|bookworm-security|Debian\n"
    )
    texts = {
        "sources.list": (
            "deb [trusted=yes arch=amd64] http://a.example.org/debian bookworm main contrib\n"
            "# deb http://a.example.org/debian bookworm main\n"
            "deb http://a.example.org/debian bookworm non-free\n"
            "deb-src http://a.example.org/debian bookworm main\n"
        ),
        "debian.sources": (
            "Types: deb deb-src\nURIs: http://a.example.org/debian/\n# A note\n"
            "Suites: bookworm-security\n bookworm-backports\nComponents: main\nTrusted: yes\n"
            "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ==\n"
            "\nEnabled: no\nTypes: deb\nURIs: http://a.example.org/debian\n"
            "Suites: bookworm\nComponents: main\n"
        ),
    }
    found = gpu_driver.sources(texts, own, ["non-free", "contrib"])
    lines, stanzas = found[gpu_driver.SOURCES], found[gpu_driver.STANZAS]
    assert lines is not None
    assert stanzas is not None
    assert lines.splitlines()[1:] == [
        "deb [trusted=yes arch=amd64] http://a.example.org/debian bookworm non-free contrib"
    ]
    assert stanzas.splitlines()[1:] == [
        "Types: deb",
        "URIs: http://a.example.org/debian/",
        "Suites: bookworm-security",
        "Components: non-free contrib",
        "Trusted: yes",
        "Signed-By:",
        " -----BEGIN PGP PUBLIC KEY BLOCK-----",
        " .",
        " mQ==",
    ]


def test_component_that_is_there_is_not_added() -> None:
    have = TARGETS + "http://archive.example.org/debian/|bookworm|non-free|bookworm|Debian\n"
    own = gpu_driver.own_archives(gpu_driver.archives(have), "bookworm")
    assert gpu_driver.lacking_components(own, "bookworm") == ["contrib", "non-free-firmware"]


PASCAL = replace(A40, id="1b06")
OFFERED = ("595.45.04-1", "590.48.01-1", "580.95.05-1")
THEIRS = gpu_driver.Settings(source="nvidia", has_key=True)


def pins(settings: gpu_driver.Settings, seen: gpu_driver.Seen) -> str:
    """The pins while packages change."""
    return gpu_driver.files(
        settings,
        components=(),
        version=gpu_driver.wanted_version(settings, seen),
        branch=gpu_driver.branch_of(settings, seen),
    )[str(gpu_driver.PREFERENCES)]


def test_branch_is_pinned_while_the_version_is_unknown() -> None:
    seen = replace(BARE, devices=(PASCAL,), available=OFFERED)
    assert gpu_driver.plan(THEIRS, seen).branch == "580"
    assert "Pin: version 580.*\nPin-Priority: 1001" in pins(THEIRS, seen)
    assert "Pin: version 535.*\nPin-Priority: 1001" in pins(DEFAULTS, BARE)


def test_nothing_is_taken_from_nvidia_for_the_distributions_driver() -> None:
    first = pins(DEFAULTS, BARE).partition("\n\n")[0]
    assert "libnvidia-* " in first
    assert first.endswith("Pin: release o=NVIDIA\nPin-Priority: -1")
    assert "o=NVIDIA" not in pins(THEIRS, BARE)


def installed_of(version: str, settings: gpu_driver.Settings, **changes: Any) -> gpu_driver.Seen:
    """A host with a version of NVIDIA's own driver."""
    names = gpu_driver.plan(settings, BARE).packages
    host = replace(
        BARE,
        installed=dict.fromkeys(names, version),
        loaded=gpu_driver.upstream(version),
        modules={KERNEL: gpu_driver.upstream(version) or ""},
        available=OFFERED,
    )
    return replace(host, **changes)


def test_driver_of_another_branch_is_replaced_when_a_branch_is_asked_for() -> None:
    asked = replace(THEIRS, branch="580", reboot="when_needed")
    plan = gpu_driver.plan(asked, installed_of("595.45.04-1", THEIRS))
    assert "wanted is the branch 580" in " ".join(plan.because)
    assert plan.installs
    assert "version 580.*" in pins(asked, installed_of("595.45.04-1", THEIRS))


def test_driver_that_is_installed_stays_and_its_branch_must_drive_the_devices() -> None:
    host = installed_of("595.45.04-1", THEIRS)
    assert gpu_driver.branch_of(THEIRS, host) == "595"
    assert not gpu_driver.plan(THEIRS, host).installs
    assert "595 is too new. Set gpu_driver_branch" in " ".join(
        problems(THEIRS, replace(host, devices=(PASCAL,)))
    )


def test_newest_is_that_of_the_branch() -> None:
    latest = replace(THEIRS, version="latest", branch="580", reboot="when_needed")
    assert not gpu_driver.plan(latest, installed_of("580.95.05-1", THEIRS)).installs
    assert gpu_driver.plan(latest, installed_of("580.65.06-1", THEIRS)).installs


def test_driver_of_another_source_is_replaced_and_not_pinned() -> None:
    host = installed_of("535.309.01-1", DEFAULTS, available=(), elsewhere=("535.309.01-1",))
    plan = gpu_driver.plan(replace(THEIRS, reboot="when_needed"), host)
    assert "which is not NVIDIA's package" in " ".join(plan.because)
    assert plan.branch == "580"
    assert gpu_driver.wanted_version(THEIRS, host) == ""


@pytest.mark.parametrize(
    ("version", "seen", "words"),
    [
        ("580.95.05-1", {"available": OFFERED}, None),
        ("595.45.04-1", {"available": OFFERED}, "nvidia-kernel-dkms 595.45.04-1"),
        ("580.95.05-1", {"elsewhere": ("580.95.05-1",)}, "nvidia-kernel-dkms 580.95.05-1"),
    ],
)
def test_simulation_must_bring_the_branch_and_source_that_were_planned(
    version: str, seen: dict[str, Any], words: str | None
) -> None:
    host = replace(BARE, devices=(PASCAL,), **seen)
    plan = gpu_driver.plan(THEIRS, host)
    changes = [packages.Change(name, "", version) for name in ("nvidia-kernel-dkms", "libcuda1")]
    changes.append(packages.Change("nvidia-modprobe", "", "595.45.04-1"))
    if words is None:
        gpu_driver_module.check_branch(changes, plan, host, host.installed)
    else:
        with pytest.raises(gpu_driver_module.DriverError, match=words):
            gpu_driver_module.check_branch(changes, plan, host, host.installed)


def test_simulation_that_keeps_a_driver_of_another_branch_is_refused() -> None:
    host = installed_of("595.45.04-1", THEIRS)
    plan = gpu_driver.plan(replace(THEIRS, branch="580"), host)
    with pytest.raises(gpu_driver_module.DriverError, match="apt-cache policy nvidia-kernel-dkms"):
        gpu_driver_module.check_branch([], plan, host, host.installed)


def test_version_that_no_archive_has_is_refused_with_what_there_is() -> None:
    asked = gpu_driver.Settings(version="535.261.03", reboot="when_needed")
    words = "535.261.03, and no archive has nvidia-kernel-dkms in that version; there are: 535.309.01-1."
    host = replace(BARE, lacking_components=(), available=("535.309.01-1",))
    assert words in " ".join(problems(asked, host))
    assert "there are: none." in " ".join(problems(asked, replace(host, available=())))
    assert problems(asked, BARE) == ()
    there = replace(host, installed={"nvidia-kernel-dkms": "535.261.03-1"})
    kept = replace(host, record={"earlier": {"nvidia-kernel-dkms": "535.261.03-1"}})
    for fits in (there, kept, replace(host, available=("535.309.01-1", "535.261.03-1"))):
        assert problems(asked, fits) == ()
    theirs = replace(THEIRS, version="580.65.06", reboot="when_needed")
    assert problems(theirs, replace(BARE, available=OFFERED)) == ()
    source = {str(gpu_driver.SOURCES): gpu_driver.nvidia_source("debian", "12", "")}
    assert "no archive has" in " ".join(problems(theirs, replace(BARE, available=OFFERED, files=source)))


@pytest.mark.parametrize(
    ("version", "updates"), [("", 0), ("535.309.01", 0), ("535.261.03", 1), (gpu_driver.LATEST, 1)]
)
def test_archives_are_read_anew_before_a_version_is_refused(
    version: str, updates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(gpu_driver_module, "look", lambda _: done(lacking_components=()))
    monkeypatch.setattr(gpu_driver_module, "index_targets", lambda *_: "")
    monkeypatch.setattr(packages, "apt", lambda *arguments, **_: asked.append(arguments))
    gpu_driver_module.refresh(gpu_driver.Settings(version=version))
    assert asked == [("update",)] * updates


def test_driver_that_an_interrupted_run_left_in_part_is_of_the_branch_or_not() -> None:
    plan = gpu_driver.plan(DEFAULTS, BARE)
    gpu_driver_module.check_branch([], plan, BARE, {"nvidia-kernel-dkms": "535.309.01-0+deb12u1"})
    with pytest.raises(gpu_driver_module.DriverError, match=r"not of it: nvidia-kernel-dkms 550\.163\.01"):
        gpu_driver_module.check_branch([], plan, BARE, {"nvidia-kernel-dkms": "550.163.01-2"})


def test_archives_of_nvidia_are_known_by_address_origin_or_mirror() -> None:
    mirror = gpu_driver.Archive("http://m.example.org/cuda/", "/", "", "", "NVIDIA")
    assert gpu_driver.of_nvidia(f"{gpu_driver.NVIDIA_REPOSITORY}/debian12/x86_64", [], "")
    assert gpu_driver.of_nvidia("http://m.example.org/cuda", [mirror], "")
    assert gpu_driver.of_nvidia("http://m.example.org/cuda", [], "http://m.example.org/cuda/")
    assert gpu_driver.of_nvidia("file:/srv/cuda", [], "file:///srv/cuda/")
    secret = replace(mirror, uri="http://user:word@m.example.org/cuda/")
    assert gpu_driver.of_nvidia("http://m.example.org/cuda", [secret], "")
    assert not gpu_driver.of_nvidia("http://archive.example.org/debian", [mirror], "")


def test_ubuntu_keeps_the_branch_that_is_installed() -> None:
    seen = replace(BARE, system="ubuntu", release="24.04", installed={"nvidia-dkms-570-server": "570.1-1"})
    assert gpu_driver.branch_of(DEFAULTS, seen) == "570-server"


def test_ubuntu_gets_its_server_branch() -> None:
    seen = replace(BARE, system="ubuntu", release="24.04", codename="noble")
    plan = gpu_driver.plan(DEFAULTS, seen)
    assert plan.problems == ()
    assert {"nvidia-dkms-580-server", "nvidia-utils-580-server"} <= set(plan.packages)
    assert plan.components == ()
    is_open = gpu_driver.plan(gpu_driver.Settings(kernel_module="open"), seen)
    assert "nvidia-headless-no-dkms-580-server-open" in is_open.packages


def test_nvidias_repository_is_that_of_the_system_or_a_mirror() -> None:
    assert "/debian12/x86_64/ /" in gpu_driver.nvidia_source("debian", "12", "")
    assert "/ubuntu2404/x86_64/ /" in gpu_driver.nvidia_source("ubuntu", "24.04", "")
    assert "http://mirror.example.org/ /" in gpu_driver.nvidia_source(
        "debian", "12", "http://mirror.example.org/"
    )


@pytest.mark.parametrize(
    ("host", "vendor", "opencl", "package"),
    [
        (BARE, "amd", "", "mesa-opencl-icd"),
        (TRIXIE, "amd", "rocm", "rocm-opencl-icd"),
        (BARE, "intel", "", "intel-opencl-icd"),
        (TRIXIE, "intel", "", "mesa-opencl-icd"),
    ],
)
def test_other_vendors_get_opencl(
    host: gpu_driver.Seen, vendor: gpu.Vendor, opencl: str, package: str
) -> None:
    seen = replace(host, devices=(gpu.Device("0000:03:00.0", vendor, "74a1"),))
    plan = gpu_driver.plan(gpu_driver.Settings(opencl=opencl), seen)
    assert package in plan.packages
    assert (plan.reboot, plan.problems, plan.dkms_package) == ("", (), "")
    after = replace(seen, installed=dict.fromkeys(plan.packages, "1"))
    assert not gpu_driver.plan(gpu_driver.Settings(opencl=opencl), after).acts


SECOND = replace(A40, address="0000:41:00.0")
T4 = gpu.Device("0000:c1:00.0", "nvidia", "1eb8")
NAMED = {"vendor": "nvidia", "device": "2235"}


@pytest.mark.parametrize(
    ("named", "expected", "bus", "cards", "problem"),
    [
        ([NAMED], None, (A40, SECOND), [A40, SECOND], None),
        ([NAMED], 1, (A40, SECOND), [A40, SECOND], None),
        ([NAMED], None, (A40, T4), [A40, T4], None),
        ([NAMED], None, (A40, SECOND), [SECOND], "names 0 devices; expected are 1"),
        ([NAMED, NAMED], None, (A40, SECOND), [A40], "names 1 devices; expected are 2"),
        ([NAMED, NAMED], None, (A40,), [A40, SECOND], None),
        (None, None, (A40, SECOND), [A40, SECOND], None),
        (None, 1, (A40, SECOND), [A40, SECOND], "names 2 devices; expected are 1"),
    ],
)
def test_cards_that_are_not_named_are_not_counted(
    named: list[dict[str, str]] | None,
    expected: int | None,
    bus: tuple[gpu.Device, ...],
    cards: list[gpu.Device],
    problem: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = "".join(
        f"0000{each.address.upper()}, NVIDIA {each.id}, 535.309.01, Enabled, 41, 46068, 4\n" for each in cards
    )
    asks(monkeypatch, **{"nvidia-smi": (0, lines)})
    monkeypatch.setattr(gpu_driver_module, "look", lambda _: done(devices=bus))
    settings = gpu_driver.Settings(devices=named, expected=expected)
    if problem:
        with pytest.raises(gpu_driver_module.DriverError, match=problem):
            gpu_driver_module.verify(settings)
        return
    verified = [card["name"] for card in gpu_driver_module.verify(settings)]
    assert verified == ["NVIDIA 2235"] * len(named or bus)


RADEONS = (gpu.Device("0000:03:00.0", "amd", "744c"), gpu.Device("0000:04:00.0", "amd", "744c"))


@pytest.mark.parametrize(
    ("able", "expected", "words"),
    [
        (2, None, ""),
        (1, 1, ""),
        (1, None, "1 devices have a render node, .* expected are 2. Without one: amd 744c at 0000:04:00.0"),
        (2, 3, "2 devices have a render node, .* expected are 3. Without one: none"),
        (0, 0, ""),
    ],
)
def test_cards_of_other_vendors_need_their_render_nodes(
    able: int, expected: int | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    having = RADEONS[:able]
    monkeypatch.setattr(gpu_driver_module, "look", lambda _: replace(BARE, devices=RADEONS))
    monkeypatch.setattr(gpu, "nodes", lambda devices: ["/dev/dri/renderD128"] if devices[0] in having else [])
    settings = gpu_driver.Settings(expected=expected)
    if words:
        with pytest.raises(gpu_driver_module.DriverError, match=words):
            gpu_driver_module.verify(settings)
    else:
        assert gpu_driver_module.verify(settings) == [{"name": str(device)} for device in having]


MESA = "Using OpenCL Device 0: AMD Radeon RX 7900 XTX (radeonsi, navi31, LLVM 15.0.6) (AMD) OpenCL 3.0 (Ext"
ROCM = "Using OpenCL Device 1: gfx1100 (Advanced Micro Devices, Inc.) OpenCL 2.0 (Extensions:"
ARC = (
    "Using OpenCL Device 0: Intel(R) Arc(TM) A770 Graphics (Intel(R) Corporation) OpenCL 3.0 NEO (Extensions:"
)
POCL = "Using OpenCL Device 0: cpu-znver3-AMD EPYC 7543 (AuthenticAMD) OpenCL 3.0 PoCL (Extensions:"
FOUND = "Found OpenCL Device 0: gfx1100 (Advanced Micro Devices, Inc.) (score 11000200)\n"


@pytest.mark.parametrize(
    ("vendor", "words", "device"),
    [
        ("amd", MESA, "AMD Radeon RX 7900 XTX (radeonsi, navi31, LLVM 15.0.6)"),
        ("amd", ROCM, "gfx1100"),
        ("intel", ARC, "Intel(R) Arc(TM) A770 Graphics"),
        ("intel", MESA, None),
        ("amd", FOUND + POCL, None),
    ],
)
def test_device_of_opencl_is_known_by_its_vendor(vendor: str, words: str, device: str | None) -> None:
    assert gpu.used_by_engine(words, vendor, ["amd 744c at 0000:03:00.0"]) == device


def test_opencl_of_another_vendor_is_refused() -> None:
    seen = replace(BARE, devices=(gpu.Device("0000:03:00.0", "intel", "56c0"),))
    assert "must be one of intel, mesa" in " ".join(problems(gpu_driver.Settings(opencl="rocm"), seen))


def test_kernel_that_boots_is_the_highest_version() -> None:
    assert gpu_driver.newest(["6.1.0-9-amd64", "6.1.0-56-amd64", "5.10.0-30-amd64"]) == "6.1.0-56-amd64"
    assert gpu_driver.newest([]) == ""


def test_modules_of_dkms_are_read_by_kernel() -> None:
    status = (
        f"nvidia-current/535.309.01, {KERNEL}, x86_64: installed\n"
        "nvidia-current/535.309.01, 6.1.0-50-amd64, x86_64: built\n"
        "zfs/2.1.11, 6.1.0-50-amd64, x86_64: installed\n"
        "nvidia/580.95.05, 6.12.118+deb13-amd64, x86_64: installed (Original modules exist)\n"
    )
    assert gpu_driver.dkms_modules(status) == {KERNEL: "535.309.01", "6.12.118+deb13-amd64": "580.95.05"}


@pytest.mark.parametrize(
    "name",
    ["nvidia", "nvidia-open", "nvidia-current", "nvidia-current-open", "nvidia-srv", "nvidia-srv-open"],
)
def test_other_modules_of_nvidia_are_not_the_driver(name: str) -> None:
    status = (
        f"nvidia-fs/2.24.3, {KERNEL}, x86_64: installed\n"
        f"{name}/535.309.01, {KERNEL}, x86_64: installed\n"
        f"nvidia-fs/2.24.3, {KERNEL}, x86_64: installed\n"
        f"nvidia-peermem, 1.3, {KERNEL}, x86_64: installed\n"
    )
    assert gpu_driver.dkms_modules(status) == {KERNEL: "535.309.01"}
    older = status.replace(f"{name}/", f"{name}, ")
    assert gpu_driver.dkms_modules(older) == {KERNEL: "535.309.01"}


def test_compiler_is_quoted_from_a_failed_build() -> None:
    log = (
        "  CC [M]  nvidia/nv.o\n"
        "nvidia-drm/nvidia-drm-drv.c:204:6: error: 'struct drm_driver' has no member named 'date'\n"
        "make[2]: *** [scripts/Makefile.build:249: nvidia-drm/nvidia-drm-drv.o] Error 1\n"
        "make[1]: Leaving directory\n"
    )
    assert "no member named 'date'" in gpu_driver.compiler_errors(log)[0]
    assert gpu_driver.compiler_errors("killed\n") == ["killed"]


def test_way_back_is_that_of_what_was_changed_and_of_nothing_else() -> None:
    changed = {"libcuda1": "535.261.03-1", "ocl-icd-libopencl1": "2", "nvidia-smi": "", "libcuda1:i386": ""}
    now = {
        "libcuda1": "535.309.01-1",
        "nvidia-smi": "535.309.01-1",
        "openssl": "3.0.17-2",
        "postgresql-15": "15.14",
    }
    assert gpu_driver.restoration(changed, {}, now) == (
        ["libcuda1:i386", "nvidia-smi"],
        {"libcuda1": "535.261.03-1", "ocl-icd-libopencl1": "2"},
    )
    assert gpu_driver.restoration(changed, {}, {})[1].keys() == {"libcuda1", "ocl-icd-libopencl1"}
    assert gpu_driver.restoration(changed, {}, {})[0] == []
    brought = {"openssl": "3.0.17-1", "libcuda1": "535.300-1"}
    upgraded = {"openssl": "3.0.16-1", "libcuda1": "535.261.03-1"}
    assert gpu_driver.restoration(upgraded, brought, now) == ([], {"libcuda1": "535.261.03-1"})
    again = gpu_driver.restoration(upgraded, brought, {**now, "openssl": "3.0.17-1"})
    assert again == ([], upgraded)


def test_backends_follow_from_the_device() -> None:
    assert gpu_driver.backends("nvidia")[0] == "trt"
    assert gpu_driver.backends("amd") == ("opencl",)
    assert "eigen" in gpu_driver.backends("none")


def test_packages_that_are_half_there_are_present_and_not_installed() -> None:
    known = packages.parse(
        "libc6\t2.36\tii \nnvidia-smi\t535\thi \nnvidia-open-kernel-dkms\t550\tiF \n"
        "old\t1\trc \nnever\t\tun \n"
    )
    assert known.installed == {"libc6": "2.36", "nvidia-smi": "535"}
    assert known.present.keys() == {"libc6", "nvidia-smi", "nvidia-open-kernel-dkms"}
    assert known.held == ("nvidia-smi",)


def test_simulation_of_apt_is_read() -> None:
    text = (
        "Inst libcuda1 [535.261.03-1] (535.309.01-1 Debian:12/stable [amd64])\n"
        "Inst nvidia-smi (535.309.01-1 Debian:12/stable [amd64])\n"
        "Remv xserver [2] \nConf libcuda1 (535.309.01-1 Debian:12/stable [amd64])\n"
    )
    assert packages.changes(text) == [
        packages.Change("libcuda1", "535.261.03-1", "535.309.01-1"),
        packages.Change("nvidia-smi", "", "535.309.01-1"),
        packages.Change("xserver", "2", ""),
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (packages.Change("linux-image-6.12.118-amd64", "", "6.12.118-1"), "would also install the kernel"),
        (packages.Change("xserver-xorg-core", "21.1", ""), "APT would remove xserver-xorg-core 21.1"),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_what_apt_would_do_beyond_the_driver_is_refused_also_when_forced(
    change: packages.Change, words: str, force: bool
) -> None:
    with pytest.raises(gpu_driver_module.DriverError, match=words):
        gpu_driver_module.check([change], replace(DEFAULTS, force=force), {})


def test_branches_of_the_driver_replace_each_other_where_there_is_a_way_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = "570.195.03-0ubuntu0.24.04.1"
    installed = {"nvidia-dkms-570-server": old, "nvidia-utils-570-server": old, "nvidia-cuda-toolkit": "12.0"}
    gone = [packages.Change(name, version, "") for name, version in installed.items()]
    monkeypatch.setattr(packages, "versions", lambda name: [installed[name]])
    gpu_driver_module.check(gone[:2], DEFAULTS, installed)
    with pytest.raises(gpu_driver_module.DriverError, match="APT would remove nvidia-cuda-toolkit"):
        gpu_driver_module.check(gone, DEFAULTS, installed)
    monkeypatch.setattr(packages, "versions", lambda _: [])
    with pytest.raises(gpu_driver_module.DriverError, match="is removed, and no archive"):
        gpu_driver_module.check(gone[:2], DEFAULTS, installed)
    gpu_driver_module.check(gone[:2], replace(DEFAULTS, force=True), installed)


def test_headers_follow_the_kernels_of_ubuntus_releases() -> None:
    kernel = "6.8.0-45-generic"
    names = ("generic-hwe-22.04", "virtual", f"unsigned-{kernel}")
    seen = replace(
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
    headers, problems = gpu_driver.headers_of(DEFAULTS, seen, kernel)
    assert headers == (
        f"linux-headers-{kernel}",
        "linux-headers-generic-hwe-22.04",
        "linux-headers-virtual",
    )
    assert problems == []


def test_daemon_starts_without_the_program_that_makes_nodes() -> None:
    text = gpu_driver.files(DEFAULTS, components=(), version="", branch="535")[str(gpu_driver.DROP_IN)]
    assert "ExecStartPost=-/usr/bin/nvidia-modprobe" in text


def test_driver_without_its_node_of_unified_memory_is_no_success(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asks(monkeypatch)
    monkeypatch.setattr(gpu_driver_module, "look", lambda _: done())
    monkeypatch.setattr(gpu, "loaded_version", lambda *_: "535.309.01")
    monkeypatch.setattr(gpu_driver_module, "UVM", tmp_path / "nvidia-uvm")
    with pytest.raises(gpu_driver_module.DriverError, match="Install: nvidia-modprobe"):
        gpu_driver_module.load(DEFAULTS)


@pytest.mark.parametrize(
    ("content", "enabled"),
    [
        (b"\x06\x00\x00\x00\x01", True),
        (b"\x06\x00\x00\x00\x00", False),
        (b"\x01\x00\x00\x00\x00", False),
        (b"\x06\x00\x00\x00", None),
        (None, None),
    ],
)
def test_secure_boot_is_the_byte_after_the_attributes(
    content: bytes | None, enabled: bool | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variable = tmp_path / gpu_driver_module.SECURE_BOOT.name
    if content is not None:
        variable.write_bytes(content)
    monkeypatch.setattr(gpu_driver_module, "SECURE_BOOT", variable)
    assert gpu_driver_module.secure_boot() is enabled


@pytest.mark.parametrize(
    ("system", "texts", "key"),
    [
        ("debian", [], "/var/lib/dkms/mok.pub"),
        ("debian", ["# mok_certificate=/no\n", 'mok_certificate="/k/own.der"\n'], "/k/own.der"),
        ("ubuntu", ["mok_certificate=/k/own.der\n"], "/var/lib/shim-signed/mok/MOK.der"),
        ("ubuntu", ["mok_signing_key=/k/own.key\nmok_certificate=/k/own.der\n"], "/k/own.der"),
    ],
)
def test_key_of_secure_boot_is_the_one_that_dkms_signs_with(system: str, texts: list[str], key: str) -> None:
    assert gpu_driver.signing_certificate(system, texts) == key


@pytest.mark.parametrize(
    ("status", "words", "state"),
    [
        (1, "{key} is already enrolled", "enrolled"),
        (0, "{key} is not enrolled", "not_enrolled"),
        (1, "{key} is already in the enrollment request", "requested"),
        (255, "EFI variables are not supported on this system", "unknown"),
        (127, "mokutil is not installed", "unknown"),
    ],
)
def test_answers_of_mokutil(
    status: int, words: str, state: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = tmp_path / "own.der"
    parts = tmp_path / "framework.conf.d"
    parts.mkdir()
    (parts / "own.conf").write_text(f"mok_certificate={key}\n")
    monkeypatch.setattr(gpu_driver_module, "FRAMEWORK", tmp_path)
    asked = asks(monkeypatch, mokutil=(status, words.format(key=key)))
    assert gpu_driver_module.signing_key("debian") == (str(key), "missing")
    key.touch()
    assert gpu_driver_module.signing_key("debian") == (str(key), state)
    assert asked == [["mokutil", "--test-key", str(key)]]


@pytest.mark.parametrize(
    ("release", "key", "words"),
    [
        ("12", gpu_driver.DKMS_KEY, "-keyout /var/lib/dkms/mok.key -outform DER -out /var/lib/dkms/mok.pub"),
        ("13", gpu_driver.DKMS_KEY, "dkms generate_mok"),
        ("24.04", gpu_driver.UBUNTU_KEY, "update-secureboot-policy --new-key"),
        ("13", "/k/own.der", "-keyout KEY -outform DER -out /k/own.der"),
    ],
)
def test_key_that_is_missing_is_created_before_it_is_enrolled(release: str, key: str, words: str) -> None:
    said = " ".join(
        problems(DEFAULTS, replace(BARE, release=release, secure_boot=True, key=key, key_state="missing"))
    )
    assert words in said
    assert f"enroll it: mokutil --import {key}" in said


def test_evidence_has_what_explains_a_driver() -> None:
    found = {each.name: each for each in items.ALL}
    assert found["gpu.txt"].command == ("nvidia-smi", "--query")
    assert found["dkms.txt"].command == ("dkms", "status")
    assert str(gpu_driver_module.RECORD) in found["gpu-driver.txt"].files


def test_problems_are_refused_together_and_with_the_plan() -> None:
    plan = gpu_driver.plan(DEFAULTS, BARE)
    with pytest.raises(gpu_driver_module.DriverError) as refused:
        gpu_driver_module.refuse(replace(plan, problems=("one", "two")))
    assert refused.value.refused
    said = str(refused.value).splitlines()
    assert said[:3] == ["Refused; nothing was changed on this host.", "- one", "- two"]
    assert said[3:] == ["The plan:", *plan.text()]
    gpu_driver_module.refuse(plan)


def test_settings_are_the_modules_with_what_is_not_given_left_to_the_host() -> None:
    given = {
        "vendor": "auto",
        "devices": [],
        "expected_devices": -1,
        "source": "nvidia",
        "repository": {"key": "armoured"},
        "kernel_module": "open",
        "branch": "",
        "version": "",
        "opencl": "",
        "headers": [],
        "reboot": "never",
        "force": False,
    }
    settings = gpu_driver_module.settings_of(given)
    assert (settings.devices, settings.expected, settings.has_key) == (None, None, True)
    assert (settings.source, settings.kernel_module) == ("nvidia", "open")
    assert gpu_driver_module.settings_of({**given, "expected_devices": 0}).expected == 0


ANSWER = '{"id":"gpu","rootInfo":{"visits":2}}'


@pytest.mark.parametrize(
    ("status", "words", "problem"),
    [
        (0, f"TensorRT backend thread 0: Found GPU NVIDIA A40 memory 1\n{ANSWER}", None),
        (0, f"Using OpenCL Device 0: pocl-cpu\n{ANSWER}", "does not work on NVIDIA A40: Using OpenCL"),
        (0, "Found GPU NVIDIA A40", "does not work"),
        (1, f"Found GPU NVIDIA A40\n{ANSWER}\nCUDA error", "CUDA error"),
    ],
)
def test_engine_must_answer_on_the_device(
    status: int, words: str, problem: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    release = tmp_path / "releases/one"
    release.mkdir(parents=True)
    (tmp_path / "current").symlink_to(release)
    paths = {"binaryPath": "/k/katago", "modelPath": "/k/net.bin.gz", "configPath": "analysis.cfg"}
    (release / "config.json").write_text(json.dumps({"katago": paths}))
    asked: list[str] = []

    def answer(command: Sequence[str], seconds: float | None = None, given: str = "") -> tuple[int, str]:
        if command[1] == "version":
            return 0, "Using TensorRT backend"
        asked.extend((" ".join(command), given))
        return status, words

    monkeypatch.setattr(commands, "ask", answer)
    directives = {"DeviceAllow": ["/dev/nvidia0 rw"]}
    if problem:
        with pytest.raises(gpu_driver_module.DriverError, match=problem):
            gpu_driver_module.query(["NVIDIA A40"], directives, tmp_path)
    else:
        assert gpu_driver_module.query(["NVIDIA A40"], directives, tmp_path).endswith(
            "answered on NVIDIA A40"
        )
    assert "DeviceAllow=/dev/nvidia0 rw" in asked[0]
    assert "/k/katago analysis -model /k/net.bin.gz" in asked[0]
    assert json.loads(asked[1])["maxVisits"] == 2


def test_host_without_a_release_or_with_an_engine_for_processors_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "no release yet" in gpu_driver_module.query(["NVIDIA A40"], {}, tmp_path)
    (tmp_path / "current").symlink_to(tmp_path)
    (tmp_path / "config.json").write_text('{"katago": {"binaryPath": "/k/katago"}}')
    asks(monkeypatch, **{"/k/katago": (0, "Using Eigen(CPU) backend")})
    assert "does without a GPU" in gpu_driver_module.query(["NVIDIA A40"], {}, tmp_path)
    asks(monkeypatch, **{"/k/katago": (0, "Using CUDA backend")})
    assert "not for a GPU of amd" in gpu_driver_module.query(["amd 744c"], {}, tmp_path, vendor="amd")


def test_words_of_a_command_that_failed_have_no_password_of_a_proxy() -> None:
    said = "echo 'E: Could not connect to http://apt:Canary-7Qx9-proxy@cache.example.org:3142' >&2; exit 100"
    with pytest.raises(packages.PackagesError, match=r"cache\.example\.org") as failed:
        packages.run(["sh", "-c", said])
    assert "Canary-7Qx9-proxy" not in str(failed.value)
