"""Why a driver cannot work on a host, with what to do about it."""

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

# Modules that Ubuntu builds and signs itself, one package for each kernel.
PREBUILT = "linux-modules-nvidia-"
UBUNTU_COMPONENTS = ("restricted", "multiverse")
_OPEN_SINCE = ("turing", "ampere", "hopper", "ada", "blackwell")

_OPEN_ONLY = ("blackwell",)

# The first and the last branch that drives a chip.
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
    """A version that no archive has."""
    if driver_versions.lacks_version(settings, host):
        yield (
            f"gpu_driver_version is {settings.version}, and no archive has {dkms} in that version; there are:"
            f" {', '.join(host.available) or 'none'}. Choose one of them."
        )


def of_host(host: Host) -> Iterator[str]:
    """A system or a processor for which no driver is known here."""
    named = {"debian": tuple(driver_packages.DEBIAN_BRANCHES), "ubuntu": driver_packages.UBUNTU}
    if host.release not in named.get(host.system, ()):
        system = host.system_name or f"{host.system} {host.release}"
        yield (
            f"The host runs {system}. This role knows the packages of drivers of Debian 12 and 13, and by"
            " their names those of Ubuntu 22.04 and 24.04, and guesses no others. Install the driver"
            " yourself: a deployment uses what works. Or set gpu_driver_vendor: none, for a CPU host."
        )
    if host.architecture != "x86_64":
        yield f"The host's architecture is {host.architecture}; drivers are installed on x86_64 only."


def of_system(settings: Settings, host: Host, branch: str) -> Iterator[str]:
    """What the host's system and its archives stand in the way of."""
    yield from of_host(host)
    if settings.version not in ("", LATEST) and not settings.version.startswith(branch.partition("-")[0]):
        yield (
            f"gpu_driver_version is {settings.version}, which is not of gpu_driver_branch, {branch}."
            " Change one of them."
        )
    if host.lacking_components and not host.release_known:
        yield (
            f"None of APT's sources is known as that of {host.codename}, so the components with the driver"
            f" cannot be added to it. Add them yourself: {', '.join(host.lacking_components)}"
        )
    own = driver_packages.DEBIAN_BRANCHES.get(host.release)
    if settings.source == DISTRIBUTION and host.system == "debian" and own and branch != own:
        yield (
            f"Debian {host.release} has the branch {own}, and {branch} is wanted."
            " Leave gpu_driver_branch empty, or take gpu_driver_source: nvidia."
        )
    if settings.source == NVIDIA and not settings.key:
        yield (
            "gpu_driver_source is nvidia, and gpu_driver_repository.key is missing: the armoured key that"
            " signs NVIDIA's repository."
        )
    if host.runfile:
        yield (
            "A driver was installed by NVIDIA's own installer, which packages cannot replace."
            " Remove it: nvidia-uninstall"
        )


def of_ubuntu(settings: Settings, host: Host, dkms: str) -> Iterator[str]:
    """What Ubuntu has in its own ways, and this role does not know how to replace."""
    if host.system != "ubuntu":
        return
    if ready := sorted(name for name in host.installed if name.startswith(PREBUILT)):
        yield (
            f"Ubuntu's own, signed modules of the driver are installed: {', '.join(ready)}. Whether the"
            " kernel would load one of them or the one that DKMS builds is not known here. Leave the driver"
            f" to Ubuntu, or remove them: apt-get purge {' '.join(ready)}"
        )
    missing = [each for each in UBUNTU_COMPONENTS if each not in host.components]
    offered = dkms in host.installed or host.available
    if settings.source == DISTRIBUTION and host.components and missing and not offered:
        yield (
            f"APT knows no {dkms}. Ubuntu has its drivers in {' and '.join(UBUNTU_COMPONENTS)}; the host's"
            f" archives are taken without {' and '.join(missing)}, and this role adds no components there."
            f" Add them: {'; '.join(f'add-apt-repository --yes {each}' for each in missing)}; apt-get update"
        )


def unknown(settings: Settings, host: Host, packages: Sequence[str]) -> Iterator[str]:
    """What this role does not know of a host's system, since it was never tried there."""
    if host.system != "ubuntu":
        return
    yield (
        f"whether {', '.join(packages)} work together: this role has their names from Ubuntu's archives, and"
        " has never installed them"
    )
    if not any(name.startswith("nvidia-") for name in packages):
        return
    if settings.source == DISTRIBUTION:
        branch = driver_packages.branch_of(settings, host)
        yield (
            f"whether Ubuntu still has the branch {branch}, and what ubuntu-drivers would choose, which is"
            " not asked; gpu_driver_branch chooses another"
        )
    yield (
        "whether Secure Boot takes the module that DKMS signs with the key of shim-signed (MOK); Ubuntu's own"
        f" signed modules, {PREBUILT}*, are not used"
    )


def of_devices(
    settings: Settings, host: Host, devices: Sequence[Device], branch: str, kernel: str
) -> Iterator[str]:
    """Cards that the branch or the kernel module does not drive."""
    number = int(branch.partition("-")[0]) if branch.partition("-")[0].isdigit() else 0
    for device in devices:
        chip = device.architecture
        if chip not in _BRANCHES:
            yield (
                f"{device} is too old: no driver of this age supports it."
                " Set gpu_driver_vendor: none, for a CPU host."
            )
            continue
        first, last = _BRANCHES[chip]
        if number and number < first:
            yield (
                f"{device} needs the branch {first} or newer, and {number} is what there is."
                " Take gpu_driver_source: nvidia."
            )
        if last and number > last:
            yield (
                f"{device} is supported up to the branch {last}; {number} is too new. Set gpu_driver_branch."
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
    """Combinations of packages that are known to fail; each message says how, and what works."""
    if settings.source != DISTRIBUTION or settings.kernel_module != OPEN or host.system != "debian":
        return
    remedy = "Set gpu_driver_kernel_module: proprietary, or gpu_driver_source: nvidia."
    if host.release == "12":
        yield (
            "Debian 12's nvidia-open-kernel-dkms cannot be installed: it needs another version of"
            f" firmware-nvidia-gsp than there is. {remedy}"
        )
    if host.release == "13" and kernels.kernel_version(kernel)[:3] >= (6, 12, 117):
        yield (
            f"Debian 13's nvidia-open-kernel-dkms does not compile for {kernel}; it fails since 6.12.117."
            f" {remedy}"
        )


def of_boot(settings: Settings, host: Host, reboot: str) -> Iterator[str]:
    """Secure Boot without the key, and a reboot that is not permitted."""
    if host.secure_boot and host.key_state != "enrolled":
        yield (
            "Secure Boot is on, and the kernel would refuse the module: "
            f"{secure_boot.remedy(host.key, host.key_state, host.release)} Or turn Secure Boot off."
        )
    if reboot and settings.reboot == "never":
        yield (
            f"A reboot is needed, since {reboot}; gpu_driver_reboot is never."
            " Permit it: -e gpu_driver_reboot=when_needed"
        )


def of_disk(host: Host) -> Iterator[str]:
    """File systems that are too full."""
    together: dict[int | str, list[str]] = {}
    for path in DISK_MB:
        if path in host.disk_free_mb:
            together.setdefault(host.file_systems.get(path, path), []).append(path)
    for paths in together.values():
        free, least = (
            min(host.disk_free_mb[path] for path in paths),
            sum(DISK_MB[path] for path in paths),
        )
        if free < least:
            where = f"{paths[0]} has" if len(paths) == 1 else f"{', '.join(paths)} together have"
            yield (
                f"{where} {free} MB free; the driver needs {least} MB. Free some, or enlarge the file system."
            )


def of_ownership(host: Host, wanted: Sequence[str]) -> Iterator[str]:
    """Packages that somebody else holds."""
    ours = set(host.record.held)
    for name in wanted:
        if name in host.held and name not in ours and not host.record.unfinished:
            yield f"{name} is held by somebody else. Ask who did it, then: apt-mark unhold {name}"
