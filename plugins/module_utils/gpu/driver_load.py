"""Loads the kernel module of the installed driver, or reports why that needs a reboot."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import apt
from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    driver_inspection,
    driver_plan,
    kernel_module,
    programs,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_error import DriverError
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_host import Host
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_plan import Plan
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import Settings

UVM = paths.DEV / "nvidia-uvm"


def is_loaded(settings: Settings, host: Host, plan: Plan) -> bool:
    """Whether the loaded module is that of the installed driver, and of the configured kind."""
    return host.loaded == plan.installed and not driver_plan.other_kind(settings, host)


def load(settings: Settings) -> str:
    """Load the installed module, replacing another one; return why a reboot is needed, empty if it is not.

    If no device is expected, nothing is loaded, and nvidia-persistenced is disabled because it would fail.

    Raises:
        DriverError: the module cannot be loaded, or the driver is incomplete.
    """
    host = driver_inspection.inspect(settings)
    plan = driver_plan.plan(settings, host)
    if plan.vendor != "nvidia":
        return ""
    if plan.expected == 0:
        programs.ask(["systemctl", "disable", "--now", kernel_module.PERSISTENCED])
        programs.ask(["systemctl", "reset-failed", kernel_module.PERSISTENCED])
        return ""
    if plan.reboot and (host.nouveau or plan.kernel != host.running):
        return plan.reboot
    if host.loaded is not None and not is_loaded(settings, host, plan):
        kernel_module.remove()
    status, output = programs.ask(["modprobe", "nvidia"])
    host = replace(host, loaded=kernel_module.version(), loaded_kind=kernel_module.kind())
    if not is_loaded(settings, host, plan):
        if status:
            raise DriverError(f"The kernel module nvidia cannot be loaded: {apt.reason(output, status)}")
        return driver_plan.plan(settings, driver_inspection.inspect(settings)).reboot
    for number in range(plan.expected):
        programs.ask(["nvidia-modprobe", "-u", "-c", str(number)])
    if not UVM.exists():
        raise DriverError(
            f"The driver is loaded, but {UVM} does not exist. The engine needs it. Install: nvidia-modprobe"
        )
    programs.ask(["systemctl", "daemon-reload"])
    status, output = programs.ask(["systemctl", "enable", "--now", kernel_module.PERSISTENCED])
    if status:
        raise DriverError(f"{kernel_module.PERSISTENCED} does not start: {apt.reason(output, status)}")
    return ""
