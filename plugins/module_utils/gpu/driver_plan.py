"""The driver's plan: the changes to a host, the reasons for them, and whether they need a reboot."""

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
    """The planned changes. The plan is refused if it has `problems`. `because`: the reasons for changes.

    `branch`: the branch of NVIDIA's driver. `installs`: whether packages change. `stops_service`: whether the
    service must stop, because a loaded driver is replaced or the host reboots. `reboot`: why a reboot is
    needed; empty if it is not. `kernel`: the kernel that will boot. `unknown`: what was never tested on the
    host's system.
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
        """Whether the plan changes anything."""
        return bool(self.because)

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain values."""
        return {**asdict(self), "acts": self.acts, "text": self.text()}

    def text(self) -> list[str]:
        """The plan as lines for the operator."""
        if not self.devices:
            return ["no GPU: nothing to do"]
        lines = [f"device: {device}" for device in self.devices]
        lines.append(
            f"driver in use: {', '.join(self.driver_in_use) or 'none'}; loaded: {self.loaded or 'none'}"
        )
        lines.append(f"driver installed: {self.installed or 'none'}; target: {self.target}")
        running = f"; running: {self.running}" if self.kernel != self.running else ""
        lines.append(f"kernel that will boot: {self.kernel or 'unknown'}{running}")
        lines += [f"to do: {reason}" for reason in self.because] or ["to do: nothing"]
        lines.append(f"reboot: {self.reboot or 'not needed'}")
        lines += [f"not tested: {what}" for what in self.unknown]
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
    required = (*packages, *headers)
    because = list(_reasons_to_install(settings, host, required, dkms, branch))
    installs = bool(because)
    because += _reasons_to_configure(host, required, dkms, settings, branch, kernel)
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
        *(driver_problems.of_ownership(host, required) if installs else ()),
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
        packages=required,
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
    owner = driver_versions.package_owner(settings)
    return f"NVIDIA's driver {version} ({settings.kernel_module}, {owner}'s package)"


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
    """The plan for AMD and Intel. Their drivers are part of the kernel, so only OpenCL is installed."""
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
            f"gpu_driver_opencl is {kind!r}; for a GPU by {vendor} on {host.system} {host.release}"
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
    settings: Settings, host: Host, required: Sequence[str], dkms: str, branch: str
) -> Iterator[str]:
    if host.record.unfinished:
        yield f"the change started at {host.record.begun} was not finished"
    if host.sources_trouble:
        yield f"APT cannot read its sources because of those that this role added: {host.sources_trouble}"
    if missing := [each for each in required if each not in host.installed]:
        yield f"not installed: {', '.join(missing)}"
    if reason := driver_versions.other_version(settings, host, dkms, branch):
        yield reason


def _reasons_to_configure(
    host: Host, required: Sequence[str], dkms: str, settings: Settings, branch: str, kernel: str
) -> list[str]:
    version = host.installed.get(dkms)
    if version is None:
        return ["pin and hold the driver, disable nouveau, build the module"]
    reasons = []
    if unheld := [each for each in driver_packages.held(required) if each not in host.held]:
        reasons.append(f"not held: {', '.join(unheld)}")
    contents = driver_files.contents(
        settings,
        components=host.record.components,
        releases=host.releases,
        version=driver_packages.upstream(version) or "",
        branch=branch,
    )
    reasons += [
        f"{path} is missing or differs from what this role writes"
        for path, text in contents.items()
        if host.files.get(path) != text
    ]
    built = host.modules.get(kernel)
    if kernel and built != driver_packages.upstream(version):
        which = (
            f"has version {built}, but {driver_packages.upstream(version)} is installed"
            if built
            else "is not built"
        )
        reasons.append(f"the module for {kernel} {which}")
    if kernel in host.stale:
        reasons.append(f"the initramfs of {kernel} is older than {driver_files.BLACKLIST}")
    return reasons


def _reasons_to_load(host: Host, reboot: str) -> Iterator[str]:
    if host.loaded is None:
        yield "the installed driver is not loaded"
    elif reboot:
        yield reboot
    if host.persistence is False:
        yield "nvidia-persistenced is not enabled or not running"


def other_kind(settings: Settings, host: Host) -> str:
    """Why the loaded module is of another kind than configured; empty if it is not, or if that is unknown."""
    if host.loaded is None or host.loaded_kind in (None, settings.kernel_module):
        return ""
    return (
        f"the {host.loaded_kind} kernel module is loaded, but the {settings.kernel_module} one is installed"
    )


def reboot_reason(host: Host, kernel: str, *, will_change: bool, target: str | None, kind: str = "") -> str:
    """Why the driver needs a reboot; empty if it does not.

    Compares the loaded driver with the installed one. `kind`: why the loaded module is of another kind than
    the installed one. A newer kernel alone is no reason: the loaded driver works until the next reboot.
    """
    if host.nouveau:
        return "nouveau is loaded, and cannot be unloaded while a console uses it"
    is_loaded = not will_change and target is not None and host.loaded == target and not kind
    if kernel and kernel != host.running and not is_loaded:
        return f"the host runs kernel {host.running}, but the module is for {kernel}"
    if host.loaded is None:
        return ""
    if will_change:
        return f"the loaded driver {host.loaded} is replaced"
    if target is not None and host.loaded != target:
        return f"the driver {host.loaded} is loaded, but {target} is installed"
    return kind


def refuse(plan: Plan) -> None:
    """Raise DriverError with all problems of the plan and its text, if it has problems."""
    if plan.problems:
        listed = "\n".join((*(f"- {problem}" for problem in plan.problems), "The plan:", *plan.text()))
        raise DriverError(f"Refused; nothing was changed on this host.\n{listed}", refused=True)
