"""The driver's packages: names on each system, branches and versions, and kernel headers."""

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

# Package name patterns of the driver in every branch, for pins and for unattended upgrades.
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

# Packages of the family that do not have the driver's version number.
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

# OpenCL implementations that a Debian release does not have.
OPENCL_LACKING = {("12", "rocm"), ("13", "intel")}


def branch_of(settings: Settings, host: Host) -> str:
    """The driver's branch, such as `535` or `580-server`; empty if the system has none.

    Without a requested branch or version, the installed branch stays. Each Debian release has one branch.
    """
    in_name = host.system == "ubuntu" and settings.source == DISTRIBUTION
    if settings.branch:
        return settings.branch
    if settings.version not in ("", LATEST):
        return settings.version.partition(".")[0] + ("-server" if in_name else "")
    if in_name:
        matches = (re.fullmatch(r"nvidia-dkms-(\d+(?:-server)?)(?:-open)?", name) for name in host.installed)
        return max((match[1] for match in matches if match), default=_UBUNTU_BRANCH)
    if settings.source == NVIDIA:
        dkms, _ = of_driver(settings, host, "")
        version = host.installed.get(dkms)
        mine = version is not None and version not in host.elsewhere
        return _major(version) if version and mine else _NVIDIA_BRANCH
    return DEBIAN_BRANCHES.get(host.release, "")


def _major(version: str) -> str:
    return (upstream(version) or "").partition(".")[0]


def of_branch(version: str, branch: str) -> bool:
    """Whether a package's version belongs to a branch."""
    return _major(version) == branch.partition("-")[0]


def of_driver(settings: Settings, host: Host, branch: str) -> tuple[str, tuple[str, ...]]:
    """The DKMS package, and all driver packages that a compute host needs."""
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
    """The header packages of every kernel that may be booted, and the problems with them.

    The result includes the package that follows the newest kernel, so that the module is also built for later
    kernels. That package is left out if only a newer version is available, because it would install another
    kernel. The running kernel's headers are left out if the host `reboots` into another kernel, or if it will
    boot another kernel and no archive has these headers any more.
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
            f"No archive of the host has {name}. The module cannot be built without it. Upgrade the kernel,"
            f" boot it, and run this again: apt-get update; apt-get install {newer}; reboot"
            for name in sorted(gone & exact)
        ]
    return (), [
        f"The running kernel {host.running} belongs to no package, and no kernel package is installed."
        " The required headers cannot be determined. Name the header packages in gpu_driver_headers, or"
        " install a kernel of the distribution."
    ]


def upstream(version: str | None) -> str | None:
    """The driver's version within a package's version, such as 535.309 in 535.309-1~deb12u1."""
    if version is None:
        return None
    return re.split(r"[-~+]", version.partition(":")[2] or version)[0]


def belongs(package: str) -> bool:
    """Whether a package is part of NVIDIA's driver, judged by its name."""
    return any(fnmatch.fnmatchcase(package, pattern) for pattern in FAMILY)


def is_replaced(change: Change, installed: Mapping[str, str]) -> bool:
    """Whether a removed package belongs to the installed driver, whose branches replace each other."""
    drivers = {upstream(version) for name, version in installed.items() if DKMS.fullmatch(name)}
    return belongs(change.name) and (change.name in OWN_VERSION or upstream(change.old) in drivers)


def held(packages: Iterable[str]) -> list[str]:
    """The driver's packages to hold: all except headers and the OpenCL loader, which follow the system."""
    return [each for each in packages if not each.startswith(("linux-headers-", "ocl-icd"))]
