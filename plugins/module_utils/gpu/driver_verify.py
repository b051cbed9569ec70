"""Verifies that the driver works on the expected devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.gpu import devices as gpus
from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    driver_host,
    driver_inspection,
    driver_plan,
    nvidia_smi,
    programs,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.devices import Device
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_error import DriverError
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import Settings


def nodes(devices: Sequence[Device]) -> list[str]:
    """The device nodes that an engine needs of `devices`."""
    return gpus.nodes(devices, dev=paths.DEV, pci=paths.PCI_DEVICES, proc=paths.NVIDIA_GPUS)


def verify(settings: Settings) -> list[dict[str, Any]]:
    """The devices as reported by nvidia-smi, or for AMD and Intel by the kernel; [] if none is expected.

    Raises:
        DriverError: devices are missing, or the driver does not work on them.
    """
    host = driver_inspection.inspect(settings)
    plan = driver_plan.plan(settings, host)
    if plan.expected == 0:
        return []
    if plan.vendor != "nvidia":
        return rendering(driver_host.devices_of(settings, host.devices), plan.expected)
    used = driver_host.devices_of(settings, host.devices)
    # nvidia-smi reports all devices on the bus, also those that gpu_driver_devices does not name.
    others = {each.address for each in host.devices} - {each.address for each in used}
    answer = nvidia_smi.without(nvidia_smi.parse_smi(*programs.ask(nvidia_smi.SMI)), others)
    if problems := nvidia_smi.problems(answer, expected=plan.expected, version=plan.installed or ""):
        raise DriverError("The driver does not work: " + "; ".join(problems))
    return [asdict(card) for card in answer.cards]


def rendering(devices: Sequence[Device], expected: int) -> list[dict[str, Any]]:
    """The AMD or Intel devices that have a render node, which the kernel's driver creates.

    Raises:
        DriverError: their number differs from `expected`.
    """
    working = [device for device in devices if nodes([device])]
    if len(working) != expected:
        broken = ", ".join(str(device) for device in devices if device not in working) or "none"
        raise DriverError(
            f"The driver does not work: {expected} devices must have a render node, which OpenCL needs;"
            f" {len(working)} have one. Without one: {broken}. The kernel creates the node once it has the"
            " device's driver and firmware. See its log: journalctl --dmesg"
        )
    return [{"name": str(device)} for device in working]
