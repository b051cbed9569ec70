"""The plan of a driver: what would be done on a host, why, and whether that needs a reboot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    driver_files,
    driver_host,
    driver_packages,
    driver_problems,
    driver_versions,
    kernels,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.devices import Device
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_error import DriverError
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_host import Host
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import (
    DISTRIBUTION,
    LATEST,
    Settings,
)


@dataclass(frozen=True)
class Plan:
    """What would be done. `problems` refuse it; `because` says why there is something to do.

    `branch`: that of NVIDIA's driver. `installs`: whether packages change. `stops_service`: whether a
    loaded driver is replaced under what uses it, or the host rebooted. `reboot`: why that is needed,
    empty when it is not. `kernel`: the one that will boot. `unknown`: what this role does not know of
    the host's system, since it was never tried there.
    """

    vendor: str
    devices: tuple[str, ...]
    expected: int
    target: str
    branch: str
    kernel: str
    running: str
    driver_in_use: tuple[str, ...]
    loaded: str | None
    installed: str | None
    packages: tuple[str, ...]
    dkms_package: str
    components: tuple[str, ...]
    installs: bool
    stops_service: bool
    because: tuple[str, ...]
    reboot: str
    problems: tuple[str, ...]
    unknown: tuple[str, ...] = ()

    @property
    def acts(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.because)

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "acts": self.acts, "text": self.text()}

    def text(self) -> list[str]:
        """The plan as an operator reads it."""
        if not self.devices:
            return ["no GPU: nothing to do"]
        lines = [f"device: {device}" for device in self.devices]
        lines.append(
            f"driver in use: {', '.join(self.driver_in_use) or 'none'}; loaded: {self.loaded or 'none'}"
        )
        lines.append(f"driver installed: {self.installed or 'none'}; target: {self.target}")
        runs = f"; {self.running} runs" if self.kernel != self.running else ""
        lines.append(f"kernel that will boot: {self.kernel or 'unknown'}{runs}")
        lines += [f"to do: {reason}" for reason in self.because] or ["to do: nothing"]
        lines.append(f"reboot: {self.reboot or 'not needed'}")
        lines += [f"not known here: {what}" for what in self.unknown]
        return lines


def plan(settings: Settings, host: Host) -> Plan:
    """The plan for a host."""
    devices, problem = driver_host.choose(settings, host.devices)
    vendor = devices[0].vendor if devices else "none"
    expected = len(devices) if settings.expected is None else settings.expected
    kernel = kernels.newest(host.kernels)
    if not devices:
        return _nothing(host, kernel, (problem,) if problem else ())
    if vendor != "nvidia":
        return _opencl_plan(settings, host, devices, kernel, expected)
    branch = driver_packages.branch_of(settings, host)
    dkms, packages = driver_packages.of_driver(settings, host, branch)
    installed = driver_packages.upstream(host.installed.get(dkms))
    replaces = dkms not in host.installed or bool(driver_versions.other_version(settings, host, dkms, branch))
    kind = other_kind(settings, host)
    reboot = (
        ""
        if expected == 0
        else reboot_reason(host, kernel, will_change=replaces, target=installed, kind=kind)
    )
    headers, header_problems = driver_packages.headers_of(settings, host, kernel, reboots=bool(reboot))
    wanted = (*packages, *headers)
    because = list(_reasons_to_install(settings, host, wanted, dkms, branch))
    installs = bool(because)
    because += _reasons_to_configure(host, wanted, dkms, settings, branch, kernel)
    if expected and installed:
        because += _reasons_to_load(host, reboot)
    problems = [
        *([problem] if problem else []),
        *driver_problems.of_system(settings, host, branch),
        *driver_problems.of_devices(settings, host, devices, branch, kernel),
        *header_problems,
        *driver_problems.of_version(settings, host, dkms),
        *driver_problems.of_ubuntu(settings, host, dkms),
        *driver_problems.of_boot(settings, host, reboot),
        *(driver_problems.of_disk(host) if installs else ()),
        *(driver_problems.of_ownership(host, wanted) if installs else ()),
    ]
    return Plan(
        vendor=vendor,
        devices=tuple(map(str, devices)),
        expected=expected,
        target=_target(settings, branch),
        branch=branch,
        kernel=kernel,
        running=host.running,
        driver_in_use=tuple(sorted({each.driver for each in devices if each.driver})),
        loaded=host.loaded,
        installed=installed,
        packages=wanted,
        dkms_package=dkms,
        components=tuple(host.lacking_components)
        if settings.source == DISTRIBUTION and host.system == "debian"
        else (),
        installs=installs,
        stops_service=bool(reboot) or (replaces and host.loaded is not None),
        because=tuple(because),
        reboot=reboot,
        problems=tuple(problems),
        unknown=tuple(driver_problems.unknown(settings, host, packages)),
    )


def _target(settings: Settings, branch: str) -> str:
    version = branch if settings.version in ("", LATEST) else settings.version
    return (
        f"NVIDIA's driver {version} ({settings.kernel_module}, {driver_versions.whose(settings)}'s package)"
    )


def _nothing(host: Host, kernel: str, problems: tuple[str, ...]) -> Plan:
    return Plan(
        vendor="none",
        devices=(),
        expected=0,
        target="none",
        branch="",
        kernel=kernel,
        running=host.running,
        driver_in_use=(),
        loaded=host.loaded,
        installed=None,
        packages=(),
        dkms_package="",
        components=(),
        installs=False,
        stops_service=False,
        because=(),
        reboot="",
        problems=problems,
    )


def _opencl_plan(
    settings: Settings, host: Host, devices: Sequence[Device], kernel: str, expected: int
) -> Plan:
    """AMD's and Intel's kernel drivers are part of the kernel: only OpenCL is installed."""
    vendor = devices[0].vendor
    offers = {
        kind: packages
        for kind, packages in driver_packages.OPENCL[vendor].items()
        if host.system != "debian" or (host.release, kind) not in driver_packages.OPENCL_LACKING
    }
    kind = settings.opencl or next(iter(offers))
    packages = offers.get(kind, ())
    missing = [each for each in packages if each not in host.installed]
    problems = list(driver_problems.of_host(host))
    if not packages:
        problems.append(
            f"gpu_driver_opencl is {kind!r}; for a GPU of {vendor} on {host.system} {host.release}"
            f" it must be one of {', '.join(offers)}."
        )
    return Plan(
        vendor=vendor,
        devices=tuple(map(str, devices)),
        expected=expected,
        target=f"OpenCL by {kind}",
        branch="",
        kernel=kernel,
        running=host.running,
        driver_in_use=tuple(sorted({each.driver for each in devices if each.driver})),
        loaded=None,
        installed=None,
        packages=packages,
        dkms_package="",
        components=(),
        installs=bool(missing),
        stops_service=False,
        because=(f"not installed: {', '.join(missing)}",) if missing else (),
        reboot="",
        problems=tuple(problems),
        unknown=tuple(driver_problems.unknown(settings, host, packages)),
    )


def _reasons_to_install(
    settings: Settings, host: Host, wanted: Sequence[str], dkms: str, branch: str
) -> Iterator[str]:
    if host.record.unfinished:
        yield f"a change that was started {host.record.begun} was not finished"
    if host.sources_trouble:
        yield f"APT reads no source beside those that this role added: {host.sources_trouble}"
    if missing := [each for each in wanted if each not in host.installed]:
        yield f"not installed: {', '.join(missing)}"
    if reason := driver_versions.other_version(settings, host, dkms, branch):
        yield reason


def _reasons_to_configure(
    host: Host, wanted: Sequence[str], dkms: str, settings: Settings, branch: str, kernel: str
) -> list[str]:
    version = host.installed.get(dkms)
    if version is None:
        return ["the driver is pinned and held, nouveau is kept off, the module is built"]
    reasons = []
    if unheld := [each for each in driver_packages.held(wanted) if each not in host.held]:
        reasons.append(f"not held: {', '.join(unheld)}")
    contents = driver_files.contents(
        settings,
        components=host.record.components,
        releases=host.releases,
        version=driver_packages.upstream(version) or "",
        branch=branch,
    )
    reasons += [
        f"{path} is not as it should be" for path, text in contents.items() if host.files.get(path) != text
    ]
    built = host.modules.get(kernel)
    if kernel and built != driver_packages.upstream(version):
        which = (
            f"is {built}, and {driver_packages.upstream(version)} is installed" if built else "is not built"
        )
        reasons.append(f"the module for {kernel} {which}")
    if kernel in host.stale:
        reasons.append(f"the initramfs of {kernel} is older than what it must hold")
    return reasons


def _reasons_to_load(host: Host, reboot: str) -> Iterator[str]:
    if host.loaded is None:
        yield "the installed driver is not loaded"
    elif reboot:
        yield reboot
    if host.persistence is False:
        yield "nvidia-persistenced is not enabled, or does not run"


def other_kind(settings: Settings, host: Host) -> str:
    """Why the loaded module is not the wanted one, whatever its version; empty where that cannot be told."""
    if host.loaded is None or host.loaded_kind in (None, settings.kernel_module):
        return ""
    return (
        f"the {host.loaded_kind} kernel module is loaded, and the {settings.kernel_module} one is installed"
    )


def reboot_reason(host: Host, kernel: str, *, will_change: bool, target: str | None, kind: str = "") -> str:
    """Why the driver needs a reboot, by what is loaded and what is installed; empty when it does not.

    `kind`: why it is not the wanted kernel module that is loaded, once that is installed.
    A newer kernel alone is no reason: what is loaded serves until the host is rebooted anyway.
    """
    if host.nouveau:
        return "nouveau is loaded, and cannot be removed under a console"
    is_loaded = not will_change and target is not None and host.loaded == target and not kind
    if kernel and kernel != host.running and not is_loaded:
        return f"{host.running} runs, and the module is for {kernel}"
    if host.loaded is None:
        return ""
    if will_change:
        return f"the driver {host.loaded} is loaded, and is replaced"
    if target is not None and host.loaded != target:
        return f"the driver {host.loaded} is loaded, and {target} is installed"
    return kind


def refuse(plan: Plan) -> None:
    """Fail with all problems of a plan at once, and the plan."""
    if plan.problems:
        listed = "\n".join((*(f"- {problem}" for problem in plan.problems), "The plan:", *plan.text()))
        raise DriverError(f"Refused; nothing was changed on this host.\n{listed}", refused=True)
