"""Loads the module of a driver, verifies that its devices answer, and loads the previous one again."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import apt
from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    devices as gpus,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    dkms,
    driver_host,
    driver_inspection,
    driver_plan,
    nvidia_kernel,
    nvidia_smi,
    programs,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.devices import Device
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_host import Host
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_plan import DriverError, Plan
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import Settings

MODULES = ("nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia")

UVM = paths.DEV / "nvidia-uvm"
PERSISTENCED = driver_inspection.PERSISTENCED


def loaded_version() -> str | None:
    """The version of the loaded driver; None when none is loaded."""
    return nvidia_kernel.loaded_version("nvidia", paths.KERNEL_MODULES)


def loaded_kind() -> str | None:
    """Which of NVIDIA's kernel modules is loaded, as far as the driver says it."""
    return nvidia_kernel.loaded_kind(paths.NVIDIA_VERSION)


def nodes(devices: Sequence[Device]) -> list[str]:
    """The device nodes that an engine needs of `devices`."""
    return gpus.nodes(devices, dev=paths.DEV, pci=paths.PCI_DEVICES, proc=paths.NVIDIA_GPUS)


def is_loaded(settings: Settings, host: Host, plan: Plan) -> bool:
    """Whether what is loaded is the installed driver, and of its kernel modules the wanted one."""
    return host.loaded == plan.installed and not driver_plan.other_kind(settings, host)


def load(settings: Settings) -> str:
    """Load the installed module in place of another; why that needs a reboot, empty when it is loaded.

    With no device expected nothing is loaded, and what would fail without one does not start.
    """
    host = driver_inspection.inspect(settings)
    plan = driver_plan.plan(settings, host)
    if plan.vendor != "nvidia":
        return ""
    if plan.expected == 0:
        programs.ask(["systemctl", "disable", "--now", PERSISTENCED])
        programs.ask(["systemctl", "reset-failed", PERSISTENCED])
        return ""
    if plan.reboot and (host.nouveau or plan.kernel != host.running):
        return plan.reboot
    if host.loaded is not None and not is_loaded(settings, host, plan):
        programs.ask(["systemctl", "stop", PERSISTENCED])
        programs.ask(["modprobe", "--remove", *MODULES])
    status, output = programs.ask(["modprobe", "nvidia"])
    host = replace(host, loaded=loaded_version(), loaded_kind=loaded_kind())
    if not is_loaded(settings, host, plan):
        if status:
            raise DriverError(f"The module cannot be loaded: {apt.last_lines(output)}")
        return driver_plan.plan(settings, driver_inspection.inspect(settings)).reboot
    for number in range(plan.expected):
        programs.ask(["nvidia-modprobe", "-u", "-c", str(number)])
    if not UVM.exists():
        raise DriverError(f"The driver is loaded, and {UVM} is not there. Install: nvidia-modprobe")
    programs.ask(["systemctl", "daemon-reload"])
    status, output = programs.ask(["systemctl", "enable", "--now", PERSISTENCED])
    if status:
        raise DriverError(f"{PERSISTENCED} does not start: {apt.last_lines(output)}")
    return ""


def verify(settings: Settings) -> list[dict[str, Any]]:
    """The devices as nvidia-smi names them, or the kernel; DriverError when something is wrong with them."""
    host = driver_inspection.inspect(settings)
    plan = driver_plan.plan(settings, host)
    if plan.expected == 0:
        return []
    if plan.vendor != "nvidia":
        return rendering(driver_host.devices_of(settings, host.devices), plan.expected)
    used = driver_host.devices_of(settings, host.devices)
    # The driver drives all that are on the bus, also those that gpu_driver_devices does not name.
    others = {each.address for each in host.devices} - {each.address for each in used}
    answer = nvidia_smi.without(nvidia_smi.parse_smi(*programs.ask(nvidia_smi.SMI)), others)
    if problems := nvidia_smi.problems(answer, expected=plan.expected, version=plan.installed or ""):
        raise DriverError("The driver does not work: " + "; ".join(problems))
    return [asdict(card) for card in answer.cards]


def rendering(devices: Sequence[Device], expected: int) -> list[dict[str, Any]]:
    """The devices of AMD or Intel for which the kernel made a render node; DriverError unless `expected`."""
    able = [device for device in devices if nodes([device])]
    if len(able) != expected:
        unable = ", ".join(str(device) for device in devices if device not in able) or "none"
        raise DriverError(
            f"The driver does not work: {len(able)} devices have a render node, which OpenCL needs;"
            f" expected are {expected}. Without one: {unable}."
            " The kernel makes it when it has the device's driver and firmware: journalctl --dmesg"
        )
    return [{"name": str(device)} for device in able]


def reload(before: str | None, kind: str | None) -> str:
    """Have loaded what was `before`, and its `kind`; why that needs a reboot, empty when it does not."""
    loaded = loaded_version()
    is_other_kind = None not in (kind, loaded_kind()) and loaded_kind() != kind
    if loaded == before and not is_other_kind:
        return ""
    installed = dkms.built().get(platform.release())
    if loaded is not None and (loaded != installed or is_other_kind):
        programs.ask(["systemctl", "stop", PERSISTENCED])
        programs.ask(["modprobe", "--remove", *MODULES])
    if installed is not None:
        programs.ask(["modprobe", "nvidia"])
        programs.ask(["systemctl", "start", PERSISTENCED])
    now, now_kind = loaded_version(), loaded_kind()
    if now == installed:
        if None in (kind, now_kind) or now_kind == kind:
            return ""
        return f"the {now_kind} kernel module is loaded, and the {kind} one is installed"
    return f"the driver {now or 'none'} is loaded, and {installed or 'none'} is installed"
