"""Loading and verifying a driver, and loading the previous one again."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    driver_inspection,
    driver_load,
    driver_restore,
    driver_verify,
    kernel_module,
    programs,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.devices import Device
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_error import DriverError
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import Settings
from tests.unit.gpu.hosts import A40, BARE, DEFAULTS, OPEN, done, opened, pending, stub_programs


@pytest.mark.parametrize(("after", "reboot"), [("open", False), ("proprietary", True)])
def test_other_kind_of_module_is_removed_or_replaced_by_a_reboot(
    after: str, reboot: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = stub_programs(monkeypatch)
    monkeypatch.setattr(driver_load, "UVM", Path("/dev/null"))
    monkeypatch.setattr(kernel_module, "version", lambda *_: "580.95.05")
    monkeypatch.setattr(kernel_module, "kind", lambda *_: after)
    looks = iter(("proprietary", after))
    monkeypatch.setattr(driver_inspection, "inspect", lambda _: opened(next(looks)))
    assert bool(driver_load.load(OPEN)) is reboot
    assert ["modprobe", "--remove", *kernel_module.MODULES] in commands


def test_driver_is_loaded_even_if_a_newer_kernel_waits_for_a_reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = stub_programs(monkeypatch)
    monkeypatch.setattr(driver_load, "UVM", Path("/dev/null"))
    monkeypatch.setattr(driver_inspection, "inspect", lambda _: pending(persistence=False))
    monkeypatch.setattr(kernel_module, "version", lambda *_: "535.309.01")
    assert driver_load.load(DEFAULTS) == ""
    assert ["systemctl", "enable", "--now", kernel_module.PERSISTENCED] in commands


@pytest.mark.parametrize(
    ("before", "loaded", "built", "after", "reboot"),
    [
        ("535.261.03", ["535.261.03"], "535.261.03", [], ""),
        (None, ["535.309.01", None], None, ["--remove"], ""),
        (
            None,
            ["535.309.01", "535.309.01"],
            None,
            ["--remove"],
            "loaded driver: 535.309.01, but installed driver: none",
        ),
        ("535.261.03", ["535.309.01", "535.261.03"], "535.261.03", ["--remove", "nvidia"], ""),
        ("535.261.03", [None, "535.261.03"], "535.261.03", ["nvidia"], ""),
        (
            "535.261.03",
            [None, None],
            "535.261.03",
            ["nvidia"],
            "loaded driver: none, but installed driver: 535.261.03",
        ),
    ],
)
def test_previous_module_is_loaded_again_or_a_reboot_is_requested(
    before: str | None,
    loaded: list[str | None],
    built: str | None,
    after: list[str],
    reboot: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status = f"nvidia-current/{built}, {platform.release()}, x86_64: installed\n" if built else ""
    commands = stub_programs(monkeypatch, dkms=(0, status))
    answers = iter(loaded)
    monkeypatch.setattr(kernel_module, "version", lambda *_: next(answers))
    reason = driver_restore.reload(before, None)
    assert reboot in reason if reboot else reason == ""
    assert [each[1] for each in commands if each[0] == "modprobe"] == after


@pytest.mark.parametrize(
    ("kinds", "reboot"),
    [
        (["open", "proprietary"], ""),
        (["open", "open"], "the open kernel module is loaded, but the proprietary one is installed"),
    ],
)
def test_previous_kind_of_module_is_loaded_again_even_at_the_same_version(
    kinds: list[str], reboot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = stub_programs(
        monkeypatch, dkms=(0, f"nvidia-current/535.309.01, {platform.release()}, x86_64: installed\n")
    )
    monkeypatch.setattr(kernel_module, "version", lambda *_: "535.309.01")
    monkeypatch.setattr(kernel_module, "kind", lambda *_: kinds[["modprobe", "nvidia"] in commands])
    assert driver_restore.reload("535.309.01", "proprietary") == reboot
    assert [each[1] for each in commands if each[0] == "modprobe"] == ["--remove", "nvidia"]


@pytest.mark.parametrize(
    ("enabled", "active", "expected"),
    [
        ((0, "enabled"), 0, True),
        ((0, "static"), 3, False),
        ((1, "disabled"), 0, False),
        ((1, "Failed to get unit file state"), 4, None),
        ((127, "systemctl is not installed"), 127, None),
    ],
)
def test_persistence_needs_an_enabled_and_running_daemon(
    enabled: tuple[int, str], active: int, expected: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"is-enabled": enabled, "is-active": (active, "")}
    monkeypatch.setattr(programs, "ask", lambda command, *_: answers[command[1]])
    assert driver_inspection.persistence() is expected


SECOND = replace(A40, address="0000:41:00.0")


T4 = Device("0000:c1:00.0", "nvidia", "1eb8")


NAMED = {"vendor": "nvidia", "device": "2235"}


@pytest.mark.parametrize(
    ("named", "expected", "bus", "cards", "problem"),
    [
        ([NAMED], None, (A40, SECOND), [A40, SECOND], None),
        ([NAMED], 1, (A40, SECOND), [A40, SECOND], None),
        ([NAMED], None, (A40, T4), [A40, T4], None),
        ([NAMED], None, (A40, SECOND), [SECOND], "reports 0 devices; expected: 1"),
        ([NAMED, NAMED], None, (A40, SECOND), [A40], "reports 1 devices; expected: 2"),
        ([NAMED, NAMED], None, (A40,), [A40, SECOND], None),
        (None, None, (A40, SECOND), [A40, SECOND], None),
        (None, 1, (A40, SECOND), [A40, SECOND], "reports 2 devices; expected: 1"),
    ],
)
def test_cards_not_listed_by_the_operator_are_not_counted(
    named: list[dict[str, str]] | None,
    expected: int | None,
    bus: tuple[Device, ...],
    cards: list[Device],
    problem: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = "".join(
        f"0000{each.address.upper()}, NVIDIA {each.id}, 535.309.01, Enabled, 41, 46068, 4\n" for each in cards
    )
    stub_programs(monkeypatch, **{"nvidia-smi": (0, lines)})
    monkeypatch.setattr(driver_inspection, "inspect", lambda _: done(devices=bus))
    settings = Settings(devices=named, expected=expected)
    if problem:
        with pytest.raises(DriverError, match=problem):
            driver_verify.verify(settings)
        return
    verified = [card["name"] for card in driver_verify.verify(settings)]
    assert verified == ["NVIDIA 2235"] * len(named or bus)


RADEONS = (Device("0000:03:00.0", "amd", "744c"), Device("0000:04:00.0", "amd", "744c"))


@pytest.mark.parametrize(
    ("able", "expected", "problem"),
    [
        (2, None, ""),
        (1, 1, ""),
        (1, None, "2 devices must have a render node, .* 1 have one. Without one: amd 744c at 0000:04:00.0"),
        (2, 3, "3 devices must have a render node, .* 2 have one. Without one: none"),
        (0, 0, ""),
    ],
)
def test_cards_of_other_vendors_need_their_render_nodes(
    able: int, expected: int | None, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    having = RADEONS[:able]
    monkeypatch.setattr(driver_inspection, "inspect", lambda _: replace(BARE, devices=RADEONS))
    monkeypatch.setattr(
        driver_verify, "nodes", lambda cards: ["/dev/dri/renderD128"] if cards[0] in having else []
    )
    settings = Settings(expected=expected)
    if problem:
        with pytest.raises(DriverError, match=problem):
            driver_verify.verify(settings)
    else:
        assert driver_verify.verify(settings) == [{"name": str(device)} for device in having]


def test_missing_unified_memory_node_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stub_programs(monkeypatch)
    monkeypatch.setattr(driver_inspection, "inspect", lambda _: done())
    monkeypatch.setattr(kernel_module, "version", lambda *_: "535.309.01")
    monkeypatch.setattr(driver_load, "UVM", tmp_path / "nvidia-uvm")
    with pytest.raises(DriverError, match="Install: nvidia-modprobe"):
        driver_load.load(DEFAULTS)
