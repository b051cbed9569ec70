"""How a driver is loaded, verified, and left for the previous one."""

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
from tests.unit.gpu.hosts import A40, BARE, DEFAULTS, OPEN, asks, done, opened, pending


@pytest.mark.parametrize(("after", "reboot"), [("open", False), ("proprietary", True)])
def test_other_kernel_module_in_the_same_version_is_removed_or_left_by_a_reboot(
    after: str, reboot: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asks(monkeypatch)
    monkeypatch.setattr(driver_load, "UVM", Path("/dev/null"))
    monkeypatch.setattr(kernel_module, "version", lambda *_: "580.95.05")
    monkeypatch.setattr(kernel_module, "kind", lambda *_: after)
    looks = iter(("proprietary", after))
    monkeypatch.setattr(driver_inspection, "inspect", lambda _: opened(next(looks)))
    assert bool(driver_load.load(OPEN)) is reboot
    assert ["modprobe", "--remove", *kernel_module.MODULES] in asked


def test_loading_is_finished_while_a_newer_kernel_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asks(monkeypatch)
    monkeypatch.setattr(driver_load, "UVM", Path("/dev/null"))
    monkeypatch.setattr(driver_inspection, "inspect", lambda _: pending(persistence=False))
    monkeypatch.setattr(kernel_module, "version", lambda *_: "535.309.01")
    assert driver_load.load(DEFAULTS) == ""
    assert ["systemctl", "enable", "--now", kernel_module.PERSISTENCED] in asked


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
    monkeypatch.setattr(kernel_module, "version", lambda *_: next(answers))
    said = driver_restore.reload(before, None)
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
    monkeypatch.setattr(kernel_module, "version", lambda *_: "535.309.01")
    monkeypatch.setattr(kernel_module, "kind", lambda *_: kinds[["modprobe", "nvidia"] in asked])
    assert driver_restore.reload("535.309.01", "proprietary") == reboot
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
    monkeypatch.setattr(programs, "ask", lambda command, *_: answers[command[1]])
    assert driver_inspection.persistence() is seen


SECOND = replace(A40, address="0000:41:00.0")


T4 = Device("0000:c1:00.0", "nvidia", "1eb8")


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
    bus: tuple[Device, ...],
    cards: list[Device],
    problem: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = "".join(
        f"0000{each.address.upper()}, NVIDIA {each.id}, 535.309.01, Enabled, 41, 46068, 4\n" for each in cards
    )
    asks(monkeypatch, **{"nvidia-smi": (0, lines)})
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
    monkeypatch.setattr(driver_inspection, "inspect", lambda _: replace(BARE, devices=RADEONS))
    monkeypatch.setattr(
        driver_verify, "nodes", lambda cards: ["/dev/dri/renderD128"] if cards[0] in having else []
    )
    settings = Settings(expected=expected)
    if words:
        with pytest.raises(DriverError, match=words):
            driver_verify.verify(settings)
    else:
        assert driver_verify.verify(settings) == [{"name": str(device)} for device in having]


def test_driver_without_its_node_of_unified_memory_is_no_success(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asks(monkeypatch)
    monkeypatch.setattr(driver_inspection, "inspect", lambda _: done())
    monkeypatch.setattr(kernel_module, "version", lambda *_: "535.309.01")
    monkeypatch.setattr(driver_load, "UVM", tmp_path / "nvidia-uvm")
    with pytest.raises(DriverError, match="Install: nvidia-modprobe"):
        driver_load.load(DEFAULTS)
