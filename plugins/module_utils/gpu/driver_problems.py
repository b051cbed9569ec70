"""Why a driver cannot work on a host, and how to fix that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    driver_packages,
    driver_versions,
    kernels,
    secure_boot,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.devices import Device
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_host import DISK_MB, Host
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import (
    DISTRIBUTION,
    LATEST,
    NVIDIA,
    OPEN,
    PROPRIETARY,
    Settings,
)

# Modules that Ubuntu builds and signs, in one package for each kernel.
PREBUILT = "linux-modules-nvidia-"
UBUNTU_COMPONENTS = ("restricted", "multiverse")
_OPEN_SINCE = ("turing", "ampere", "hopper", "ada", "blackwell")

_OPEN_ONLY = ("blackwell",)

# The first and the last branch that supports a chip.
_BRANCHES: Mapping[str, tuple[int, int | None]] = {
    "maxwell": (535, 580),
    "pascal": (535, 580),
    "volta": (535, 580),
    "turing": (535, None),
    "ampere": (535, None),
    "ada": (535, None),
    "hopper": (535, None),
    "blackwell": (570, None),
}


def of_version(settings: Settings, host: Host, dkms: str) -> Iterator[str]:
    """A requested version that no archive has."""
    if driver_versions.lacks_version(settings, host):
        yield (
            f"gpu_driver_version is {settings.version}, but no archive has {dkms} in that version."
            f" Available: {', '.join(host.available) or 'none'}. Choose one of them."
        )


def of_host(host: Host) -> Iterator[str]:
    """A system or an architecture that this role does not support."""
    supported = {"debian": tuple(driver_packages.DEBIAN_BRANCHES), "ubuntu": driver_packages.UBUNTU}
    if host.release not in supported.get(host.system, ()):
        system = host.system_name or f"{host.system} {host.release}"
        yield (
            f"The host runs {system}. This role installs drivers only on Debian 12 and 13, and on Ubuntu"
            " 22.04 and 24.04 (untested). Install the driver yourself: a deployment uses any driver that"
            " works. Or set gpu_driver_vendor: none to run KataGo on the CPU."
        )
    if host.architecture != "x86_64":
        yield f"The host's architecture is {host.architecture}. This role installs drivers on x86_64 only."


def of_system(settings: Settings, host: Host, branch: str) -> Iterator[str]:
    """Problems with the host's system, its archives and the requested driver."""
    yield from of_host(host)
    if settings.version not in ("", LATEST) and not settings.version.startswith(branch.partition("-")[0]):
        yield (
            f"gpu_driver_version is {settings.version}, which is not of gpu_driver_branch {branch}."
            " Change one of them."
        )
    if host.lacking_components and not host.release_known:
        yield (
            f"None of APT's sources is for {host.codename}, so the driver's components cannot be added"
            f" automatically. Add them to a source yourself: {', '.join(host.lacking_components)}"
        )
    own = driver_packages.DEBIAN_BRANCHES.get(host.release)
    if settings.source == DISTRIBUTION and host.system == "debian" and own and branch != own:
        yield (
            f"Debian {host.release} has the driver branch {own}, but gpu_driver_branch is {branch}."
            " Leave gpu_driver_branch empty, or set gpu_driver_source: nvidia."
        )
    if settings.source == NVIDIA and not settings.key:
        yield (
            "gpu_driver_source is nvidia, but gpu_driver_repository.key is missing. Set it to the armoured"
            " key that signs NVIDIA's repository."
        )
    if host.runfile:
        yield (
            "A driver was installed with NVIDIA's own installer. Packages cannot replace it."
            " Remove it: nvidia-uninstall"
        )


def of_ubuntu(settings: Settings, host: Host, dkms: str) -> Iterator[str]:
    """Ubuntu's signed modules, and missing components, which this role does not change."""
    if host.system != "ubuntu":
        return
    if ready := sorted(name for name in host.installed if name.startswith(PREBUILT)):
        yield (
            f"Ubuntu's own signed driver modules are installed: {', '.join(ready)}. The kernel might load one"
            " of them instead of the module that DKMS builds. Leave the driver to Ubuntu, or remove"
            f" these packages: apt-get purge {' '.join(ready)}"
        )
    missing = [each for each in UBUNTU_COMPONENTS if each not in host.components]
    offered = dkms in host.installed or host.available
    if settings.source == DISTRIBUTION and host.components and missing and not offered:
        yield (
            f"APT does not know {dkms}. Ubuntu's drivers are in {' and '.join(UBUNTU_COMPONENTS)}, but the"
            f" host has {' and '.join(missing)} disabled. This role does not add components on Ubuntu."
            f" Add them: {'; '.join(f'add-apt-repository --yes {each}' for each in missing)}; apt-get update"
        )


def unknown(settings: Settings, host: Host, packages: Sequence[str]) -> Iterator[str]:
    """What was never tested on the host's system; shown in the plan as `not tested: ...`."""
    if host.system != "ubuntu":
        return
    yield (f"that {', '.join(packages)} can be installed together; their names are from Ubuntu's archives")
    if not any(name.startswith("nvidia-") for name in packages):
        return
    if settings.source == DISTRIBUTION:
        branch = driver_packages.branch_of(settings, host)
        yield (
            f"whether Ubuntu still has the branch {branch}; ubuntu-drivers is not consulted and might choose"
            " another; set gpu_driver_branch to change it"
        )
    yield (
        "Secure Boot with a module that DKMS signs with the key of shim-signed (MOK); Ubuntu's own signed"
        f" modules, {PREBUILT}*, are not used"
    )


def of_devices(
    settings: Settings, host: Host, devices: Sequence[Device], branch: str, kernel: str
) -> Iterator[str]:
    """Cards that the branch or the kernel module does not support."""
    number = int(branch.partition("-")[0]) if branch.partition("-")[0].isdigit() else 0
    for device in devices:
        chip = device.architecture
        if chip not in _BRANCHES:
            yield (
                f"{device} is too old: no available driver supports it."
                " Set gpu_driver_vendor: none to run KataGo on the CPU."
            )
            continue
        first, last = _BRANCHES[chip]
        if number and number < first:
            yield (
                f"{device} needs the branch {first} or newer, but the branch is {number}."
                " Set gpu_driver_source: nvidia."
            )
        if last and number > last:
            yield (
                f"{device} is supported up to the branch {last}; {number} is too new."
                f" Set gpu_driver_branch: {last}"
            )
        if settings.kernel_module == OPEN and chip not in _OPEN_SINCE:
            yield (
                f"{device} does not work with the open kernel module."
                " Set gpu_driver_kernel_module: proprietary."
            )
        if settings.kernel_module == PROPRIETARY and chip in _OPEN_ONLY:
            yield (f"{device} works with the open kernel module only. Set gpu_driver_kernel_module: open.")
    if not settings.force:
        yield from known_failures(settings, host, kernel)


def known_failures(settings: Settings, host: Host, kernel: str) -> Iterator[str]:
    """Package combinations that are known to fail; each message names the failure and the fix."""
    if settings.source != DISTRIBUTION or settings.kernel_module != OPEN or host.system != "debian":
        return
    remedy = "Set gpu_driver_kernel_module: proprietary, or gpu_driver_source: nvidia."
    if host.release == "12":
        yield (
            "Debian 12's nvidia-open-kernel-dkms cannot be installed: it needs a version of"
            f" firmware-nvidia-gsp that Debian 12 does not have. {remedy}"
        )
    if host.release == "13" and kernels.kernel_version(kernel)[:3] >= (6, 12, 117):
        yield (
            f"Debian 13's nvidia-open-kernel-dkms does not compile for {kernel}, nor for any kernel since"
            f" 6.12.117. {remedy}"
        )


def of_boot(settings: Settings, host: Host, reboot: str) -> Iterator[str]:
    """Secure Boot without an enrolled key, and a reboot that is not permitted."""
    if host.secure_boot and host.key_state != "enrolled":
        yield (
            "Secure Boot is on, and the kernel would refuse the module: "
            f"{secure_boot.remedy(host.key, host.key_state, host.release)} Or turn Secure Boot off."
        )
    if reboot and settings.reboot == "never":
        yield (
            f"A reboot is needed: {reboot}. But gpu_driver_reboot is never."
            " To permit the reboot: -e gpu_driver_reboot=when_needed"
        )


def of_disk(host: Host) -> Iterator[str]:
    """File systems with too little free space."""
    by_file_system: dict[int | str, list[str]] = {}
    for path in DISK_MB:
        if path in host.disk_free_mb:
            by_file_system.setdefault(host.file_systems.get(path, path), []).append(path)
    for paths in by_file_system.values():
        free, least = (
            min(host.disk_free_mb[path] for path in paths),
            sum(DISK_MB[path] for path in paths),
        )
        if free < least:
            where = f"{paths[0]} has" if len(paths) == 1 else f"{', '.join(paths)} together have"
            yield (
                f"{where} {free} MB free; the driver needs {least} MB."
                " Free some space, or enlarge the file system."
            )


def of_ownership(host: Host, required: Sequence[str]) -> Iterator[str]:
    """Required packages with an APT hold that this role did not set."""
    ours = set(host.record.held)
    for name in required:
        if name in host.held and name not in ours and not host.record.unfinished:
            yield (
                f"{name} is held in APT, and this role did not hold it. Find out why, then:"
                f" apt-mark unhold {name}"
            )
