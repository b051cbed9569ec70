"""The packages of drivers: their names on each system, their branches and versions, and kernels' headers."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping

from ansible_collections.katago.fleet.plugins.module_utils.common.apt import Change
from ansible_collections.katago.fleet.plugins.module_utils.gpu import kernels
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_host import Host
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import (
    DISTRIBUTION,
    LATEST,
    NVIDIA,
    OPEN,
    Settings,
)

# The names by which APT knows the driver, whatever its branch; pins and unattended upgrades go by them.
FAMILY = (
    "nvidia-*",
    "libnvidia-*",
    "libcuda*",
    "libnvcuvid*",
    "libxnvctrl*",
    "firmware-nvidia-*",
    "glx-alternative-*",
    "glx-diversions",
    "update-glx",
)

# Those of the family that are numbered by themselves, not like the driver.
OWN_VERSION = (
    "nvidia-modprobe",
    "nvidia-persistenced",
    "nvidia-settings",
    "nvidia-support",
    "nvidia-installer-cleanup",
)

DKMS = re.compile(r"nvidia-(.+-)?dkms(-.+)?")

DEBIAN_BRANCHES = {"12": "535", "13": "550"}

UBUNTU = ("22.04", "24.04")

_UBUNTU_BRANCH = "580-server"

_NVIDIA_BRANCH = "580"

OPENCL: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "amd": {
        "mesa": ("mesa-opencl-icd", "ocl-icd-libopencl1"),
        "rocm": ("rocm-opencl-icd", "ocl-icd-libopencl1"),
    },
    "intel": {
        "intel": ("intel-opencl-icd", "ocl-icd-libopencl1"),
        "mesa": ("mesa-opencl-icd", "ocl-icd-libopencl1"),
    },
}

# What a release of Debian does not have.
OPENCL_LACKING = {("12", "rocm"), ("13", "intel")}


def branch_of(settings: Settings, host: Host) -> str:
    """The branch of the driver, as `535` or `580-server`; empty where the system has none.

    Where nothing else is asked for, that which is installed stays; Debian's releases have one each.
    """
    in_name = host.system == "ubuntu" and settings.source == DISTRIBUTION
    if settings.branch:
        return settings.branch
    if settings.version not in ("", LATEST):
        return settings.version.partition(".")[0] + ("-server" if in_name else "")
    if in_name:
        found = (re.fullmatch(r"nvidia-dkms-(\d+(?:-server)?)(?:-open)?", name) for name in host.installed)
        return max((match[1] for match in found if match), default=_UBUNTU_BRANCH)
    if settings.source == NVIDIA:
        dkms, _ = of_driver(settings, host, "")
        version = host.installed.get(dkms)
        mine = version is not None and version not in host.elsewhere
        return _major(version) if version and mine else _NVIDIA_BRANCH
    return DEBIAN_BRANCHES.get(host.release, "")


def _major(version: str) -> str:
    return (upstream(version) or "").partition(".")[0]


def of_branch(version: str, branch: str) -> bool:
    """Whether a package's version is of a branch."""
    return _major(version) == branch.partition("-")[0]


def of_driver(settings: Settings, host: Host, branch: str) -> tuple[str, tuple[str, ...]]:
    """The package that DKMS builds, and all that a compute host needs of the driver."""
    is_open = settings.kernel_module == OPEN
    if host.system == "ubuntu" and settings.source == DISTRIBUTION:
        suffix = "-open" if is_open else ""
        dkms = f"nvidia-dkms-{branch}{suffix}"
        return dkms, (
            dkms,
            f"nvidia-headless-no-dkms-{branch}{suffix}",
            f"nvidia-utils-{branch}",
            "ocl-icd-libopencl1",
        )
    if settings.source == NVIDIA:
        dkms = "nvidia-kernel-open-dkms" if is_open else "nvidia-kernel-dkms"
        return dkms, (
            dkms,
            "nvidia-driver-cuda",
            "nvidia-opencl-icd",
            "nvidia-persistenced",
            "ocl-icd-libopencl1",
        )
    dkms = "nvidia-open-kernel-dkms" if is_open else "nvidia-kernel-dkms"
    return dkms, (
        dkms,
        "firmware-nvidia-gsp",
        "libcuda1",
        "nvidia-modprobe",
        "nvidia-opencl-icd",
        "nvidia-persistenced",
        "nvidia-smi",
        "ocl-icd-libopencl1",
    )


def headers_of(
    settings: Settings, host: Host, kernel: str, *, reboots: bool = False
) -> tuple[tuple[str, ...], list[str]]:
    """The packages with the headers of every kernel that may be booted, and what is wrong about them.

    A package that follows the newest kernel is among them, so that a later one is built too; but not
    where only a newer version of it is left, which would bring a kernel that nobody asked for. Those of
    the running kernel are not, where the host `reboots` to another, or boots another next and no archive
    has them any more.
    """
    if settings.headers:
        return tuple(settings.headers), []
    images = {kernels.header_package(name): version for name, version in host.image_packages.items()}
    metapackages = {kernels.header_package(name) for name in host.image_packages if kernels.follows(name)}
    exact = {f"linux-headers-{each}" for each in (kernel, host.running)} & images.keys()
    gone = {name for name in exact - host.installed.keys() if host.header_versions.get(name) == ()}
    booted = f"linux-headers-{kernel}"
    if booted in exact:
        exact -= ({f"linux-headers-{host.running}"} if reboots else gone) - {booted}
    following = {
        name
        for name, version in images.items()
        if name in metapackages and (name in host.installed or version in host.header_versions.get(name, ()))
    }
    if exact:
        newer = (
            " ".join(sorted(filter(kernels.follows, host.image_packages)))
            or "the distribution's newest kernel"
        )
        return tuple(sorted(exact | following)), [
            f"No archive of the host has {name}, without which the module cannot be built. Upgrade the"
            f" kernel, boot the newer one, and run this again: apt-get update; apt-get install {newer};"
            " reboot"
            for name in sorted(gone & exact)
        ]
    return (), [
        f"The running kernel {host.running} belongs to no package, and no other is installed; whose headers"
        " are needed cannot be told. Name them in gpu_driver_headers, or install a kernel of the"
        " distribution."
    ]


def upstream(version: str | None) -> str | None:
    """The driver's own version in a package's, as 535.309 of 535.309-1~deb12u1."""
    if version is None:
        return None
    return re.split(r"[-~+]", version.partition(":")[2] or version)[0]


def belongs(package: str) -> bool:
    """Whether a package is part of NVIDIA's driver, by its name."""
    return any(fnmatch.fnmatchcase(package, pattern) for pattern in FAMILY)


def is_replaced(change: Change, installed: Mapping[str, str]) -> bool:
    """Whether a package that is removed is of the installed driver, whose branches replace each other."""
    drivers = {upstream(version) for name, version in installed.items() if DKMS.fullmatch(name)}
    return belongs(change.name) and (change.name in OWN_VERSION or upstream(change.old) in drivers)


def held(wanted: Iterable[str]) -> list[str]:
    """Those of a driver's packages that are held: all but headers and the loader, which follow the system."""
    return [each for each in wanted if not each.startswith(("linux-headers-", "ocl-icd"))]
