"""Which driver a host's GPU gets, what cannot work, whether a reboot is needed: pure, from what was seen."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from ansible_collections.katago.fleet.plugins.module_utils import gpu
from ansible_collections.katago.fleet.plugins.module_utils.packages import Change

KeyState = Literal["enrolled", "requested", "not_enrolled", "missing", "unknown"]

STATE = Path("/var/lib/katago-gpu-driver")
"""What was there before a change, and the packages to go back to."""

PREFERENCES = Path("/etc/apt/preferences.d/katago-gpu-driver")
SOURCES = Path("/etc/apt/sources.list.d/katago-gpu-driver.list")
STANZAS = Path("/etc/apt/sources.list.d/katago-gpu-driver.sources")
UNATTENDED = Path("/etc/apt/apt.conf.d/51katago-gpu-driver")
BLACKLIST = Path("/etc/modprobe.d/katago-gpu-driver.conf")
DROP_IN = Path("/etc/systemd/system/nvidia-persistenced.service.d/katago-gpu-driver.conf")
KEYRING = Path("/etc/apt/keyrings/katago-gpu-driver.asc")

DKMS_KEY = "/var/lib/dkms/mok.pub"
UBUNTU_KEY = "/var/lib/shim-signed/mok/MOK.der"
COMPONENTS = ("contrib", "non-free", "non-free-firmware")
DISTRIBUTION, NVIDIA = "distribution", "nvidia"
PROPRIETARY, OPEN = "proprietary", "open"
NVIDIA_REPOSITORY = "https://developer.download.nvidia.com/compute/cuda/repos"
# A driver's packages, its sources and what DKMS builds of them; an initramfs of each kernel is in /boot.
DISK_MB = {"/usr": 2500, "/var": 1500, "/boot": 150}
LATEST = "latest"

# The names by which APT knows the driver, whatever its branch; pins and unattended upgrades go by them.
_FAMILY = (
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
_OWN_VERSION = (
    "nvidia-modprobe",
    "nvidia-persistenced",
    "nvidia-settings",
    "nvidia-support",
    "nvidia-installer-cleanup",
)
_DKMS = re.compile(r"nvidia-(.+-)?dkms(-.+)?")
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
_DEBIAN_BRANCHES = {"12": "535", "13": "550"}
_UBUNTU = ("22.04", "24.04")
_UBUNTU_BRANCH = "580-server"
_NVIDIA_BRANCH = "580"
_OPENCL: Mapping[str, Mapping[str, tuple[str, ...]]] = {
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
_OPENCL_LACKING = {("12", "rocm"), ("13", "intel")}


@dataclass(frozen=True)
class Settings:
    """The role's variables; empty where the host decides. `has_key`, `url`: of NVIDIA's repository."""

    devices: Sequence[Mapping[str, Any]] | None = None
    vendor: str = "auto"
    source: str = DISTRIBUTION
    kernel_module: str = PROPRIETARY
    branch: str = ""
    version: str = ""
    opencl: str = ""
    expected: int | None = None
    reboot: str = "never"
    headers: Sequence[str] = ()
    force: bool = False
    has_key: bool = False
    url: str = ""


@dataclass(frozen=True)
class Seen:
    """A host as it is.

    `kernels`: those that can be booted. `image_packages`: the installed packages of kernels and their
    versions, `header_versions`: those that APT knows of the packages with their headers, without those of
    which it cannot tell, since it has read no archive of the host's release. `loaded` and `nouveau`: what
    the running kernel has. `loaded_kind`: which of NVIDIA's kernel modules that is. `persistence`: whether
    nvidia-persistenced is enabled and runs.
    `secure_boot`: None where it cannot be told. `key`: the certificate of the key that DKMS signs with,
    `key_state` what the firmware has of it.
    `modules`: the version of DKMS's module by kernel. `available`: the versions of the DKMS package
    that APT knows in the archives of the wanted source, the newest first; `elsewhere`: those that are in
    others only. `release_known`: whether APT takes packages of the host's own release, `releases`: how pins
    name it. `sources_trouble`:
    APT's words where this role's own sources keep it from reading any. `files`: the content of this
    role's files, None where there is none. `stale`: kernels whose initramfs is older than this role's
    modprobe file. `file_systems`: the number of the one that each path of `DISK_MB` is on; those that are
    not named have one each.
    """

    system: str
    release: str
    codename: str
    architecture: str
    running: str
    devices: Sequence[gpu.Device]
    kernels: Sequence[str] = ()
    image_packages: Mapping[str, str] = field(default_factory=dict)
    header_versions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    loaded: str | None = None
    loaded_kind: str | None = None
    nouveau: bool = False
    persistence: bool | None = None
    secure_boot: bool | None = None
    key: str = DKMS_KEY
    key_state: KeyState = "unknown"
    installed: Mapping[str, str] = field(default_factory=dict)
    held: Sequence[str] = ()
    modules: Mapping[str, str] = field(default_factory=dict)
    available: Sequence[str] = ()
    elsewhere: Sequence[str] = ()
    lacking_components: Sequence[str] = ()
    release_known: bool = True
    releases: Sequence[str] = ()
    sources_trouble: str = ""
    disk_free_mb: Mapping[str, int] = field(default_factory=dict)
    file_systems: Mapping[str, int] = field(default_factory=dict)
    runfile: bool = False
    files: Mapping[str, str | None] = field(default_factory=dict)
    stale: Sequence[str] = ()
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What would be done. `problems` refuse it; `because` says why there is something to do.

    `branch`: that of NVIDIA's driver. `installs`: whether packages change. `stops_service`: whether a
    loaded driver is replaced under what uses it, or the host rebooted. `reboot`: why that is needed,
    empty when it is not. `kernel`: the one that will boot.
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
        return lines


def plan(settings: Settings, seen: Seen) -> Plan:
    """The plan for a host."""
    devices, problem = _devices(settings, seen.devices)
    vendor = devices[0].vendor if devices else "none"
    expected = len(devices) if settings.expected is None else settings.expected
    kernel = newest(seen.kernels)
    if not devices:
        return _nothing(seen, kernel, (problem,) if problem else ())
    if vendor != "nvidia":
        return _opencl_plan(settings, seen, devices, kernel, expected)
    branch = branch_of(settings, seen)
    dkms, packages = driver_packages(settings, seen, branch)
    installed = upstream(seen.installed.get(dkms))
    replaces = dkms not in seen.installed or bool(_other_version(settings, seen, dkms, branch))
    kind = other_kind(settings, seen)
    reboot = (
        ""
        if expected == 0
        else reboot_reason(seen, kernel, will_change=replaces, target=installed, kind=kind)
    )
    headers, header_problems = headers_of(settings, seen, kernel, reboots=bool(reboot))
    wanted = (*packages, *headers)
    because = list(_reasons_to_install(settings, seen, wanted, dkms, branch))
    installs = bool(because)
    because += _reasons_to_configure(seen, wanted, dkms, settings, branch, kernel)
    if expected and installed:
        because += _reasons_to_load(seen, reboot)
    problems = [
        *([problem] if problem else []),
        *_system_problems(settings, seen, branch),
        *_device_problems(settings, seen, devices, branch, kernel),
        *header_problems,
        *_version_problems(settings, seen, dkms),
        *_boot_problems(settings, seen, reboot),
        *(_disk_problems(seen) if installs else ()),
        *(_ownership_problems(seen, wanted) if installs else ()),
    ]
    return Plan(
        vendor=vendor,
        devices=tuple(map(str, devices)),
        expected=expected,
        target=_target(settings, branch),
        branch=branch,
        kernel=kernel,
        running=seen.running,
        driver_in_use=tuple(sorted({each.driver for each in devices if each.driver})),
        loaded=seen.loaded,
        installed=installed,
        packages=wanted,
        dkms_package=dkms,
        components=tuple(seen.lacking_components)
        if settings.source == DISTRIBUTION and seen.system == "debian"
        else (),
        installs=installs,
        stops_service=bool(reboot) or (replaces and seen.loaded is not None),
        because=tuple(because),
        reboot=reboot,
        problems=tuple(problems),
    )


def _target(settings: Settings, branch: str) -> str:
    version = branch if settings.version in ("", LATEST) else settings.version
    return f"NVIDIA's driver {version} ({settings.kernel_module}, {_whose(settings)}'s package)"


def _whose(settings: Settings) -> str:
    return "the distribution" if settings.source == DISTRIBUTION else "NVIDIA"


def vendor_of(settings: Settings, found: Sequence[gpu.Device]) -> str:
    """Whose GPUs are used on a host with those `found` on its bus; `none` on a CPU host."""
    devices, problem = _devices(settings, found)
    if devices:
        return devices[0].vendor
    return settings.vendor if problem else "none"


def devices_of(settings: Settings, found: Sequence[gpu.Device]) -> list[gpu.Device]:
    """The GPUs that are used on a host with those `found` on its bus; [] on a CPU host."""
    return _devices(settings, found)[0]


def _devices(settings: Settings, found: Sequence[gpu.Device]) -> tuple[list[gpu.Device], str]:
    if settings.vendor == "none":
        return [], ""
    try:
        devices = list(found) if settings.devices is None else gpu.named(settings.devices, found)
    except ValueError as error:
        return [], str(error)
    mine = gpu.chosen(devices, settings.vendor)
    if mine or settings.vendor == gpu.AUTO:
        return mine, ""
    return [], f"gpu_driver_vendor is {settings.vendor}, and the host has no GPU of that vendor."


def _nothing(seen: Seen, kernel: str, problems: tuple[str, ...]) -> Plan:
    return Plan(
        vendor="none",
        devices=(),
        expected=0,
        target="none",
        branch="",
        kernel=kernel,
        running=seen.running,
        driver_in_use=(),
        loaded=seen.loaded,
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
    settings: Settings, seen: Seen, devices: Sequence[gpu.Device], kernel: str, expected: int
) -> Plan:
    """AMD's and Intel's kernel drivers are part of the kernel: only OpenCL is installed."""
    vendor = devices[0].vendor
    offers = {
        kind: packages
        for kind, packages in _OPENCL[vendor].items()
        if seen.system != "debian" or (seen.release, kind) not in _OPENCL_LACKING
    }
    kind = settings.opencl or next(iter(offers))
    packages = offers.get(kind, ())
    missing = [each for each in packages if each not in seen.installed]
    problems = list(_host_problems(seen))
    if not packages:
        problems.append(
            f"gpu_driver_opencl is {kind!r}; for a GPU of {vendor} on {seen.system} {seen.release}"
            f" it must be one of {', '.join(offers)}."
        )
    return Plan(
        vendor=vendor,
        devices=tuple(map(str, devices)),
        expected=expected,
        target=f"OpenCL by {kind}",
        branch="",
        kernel=kernel,
        running=seen.running,
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
    )


def branch_of(settings: Settings, seen: Seen) -> str:
    """The branch of the driver, as `535` or `580-server`; empty where the system has none.

    Where nothing else is asked for, that which is installed stays; Debian's releases have one each.
    """
    in_name = seen.system == "ubuntu" and settings.source == DISTRIBUTION
    if settings.branch:
        return settings.branch
    if settings.version not in ("", LATEST):
        return settings.version.partition(".")[0] + ("-server" if in_name else "")
    if in_name:
        found = (re.fullmatch(r"nvidia-dkms-(\d+(?:-server)?)(?:-open)?", name) for name in seen.installed)
        return max((match[1] for match in found if match), default=_UBUNTU_BRANCH)
    if settings.source == NVIDIA:
        dkms, _ = driver_packages(settings, seen, "")
        version = seen.installed.get(dkms)
        mine = version is not None and version not in seen.elsewhere
        return _major(version) if version and mine else _NVIDIA_BRANCH
    return _DEBIAN_BRANCHES.get(seen.release, "")


def _major(version: str) -> str:
    return (upstream(version) or "").partition(".")[0]


def of_branch(version: str, branch: str) -> bool:
    """Whether a package's version is of a branch."""
    return _major(version) == branch.partition("-")[0]


def driver_packages(settings: Settings, seen: Seen, branch: str) -> tuple[str, tuple[str, ...]]:
    """The package that DKMS builds, and all that a compute host needs of the driver."""
    is_open = settings.kernel_module == OPEN
    if seen.system == "ubuntu" and settings.source == DISTRIBUTION:
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
    settings: Settings, seen: Seen, kernel: str, *, reboots: bool = False
) -> tuple[tuple[str, ...], list[str]]:
    """The packages with the headers of every kernel that may be booted, and what is wrong about them.

    A package that follows the newest kernel is among them, so that a later one is built too; but not
    where only a newer version of it is left, which would bring a kernel that nobody asked for. Those of
    the running kernel are not, where the host `reboots` to another, or boots another next and no archive
    has them any more.
    """
    if settings.headers:
        return tuple(settings.headers), []
    images = {header_package(name): version for name, version in seen.image_packages.items()}
    metapackages = {header_package(name) for name in seen.image_packages if follows(name)}
    exact = {f"linux-headers-{each}" for each in (kernel, seen.running)} & images.keys()
    gone = {name for name in exact - seen.installed.keys() if seen.header_versions.get(name) == ()}
    booted = f"linux-headers-{kernel}"
    if booted in exact:
        exact -= ({f"linux-headers-{seen.running}"} if reboots else gone) - {booted}
    following = {
        name
        for name, version in images.items()
        if name in metapackages and (name in seen.installed or version in seen.header_versions.get(name, ()))
    }
    if exact:
        newer = " ".join(sorted(filter(follows, seen.image_packages))) or "the distribution's newest kernel"
        return tuple(sorted(exact | following)), [
            f"No archive of the host has {name}, without which the module cannot be built. Upgrade the"
            f" kernel, boot the newer one, and run this again: apt-get update; apt-get install {newer};"
            " reboot"
            for name in sorted(gone & exact)
        ]
    return (), [
        f"The running kernel {seen.running} belongs to no package, and no other is installed; whose headers"
        " are needed cannot be told. Name them in gpu_driver_headers, or install a kernel of the"
        " distribution."
    ]


def header_package(image: str) -> str:
    """The package with the headers for a package with a kernel."""
    return re.sub(r"^linux-image-(unsigned-)?", "linux-headers-", image)


def follows(image: str) -> bool:
    """Whether a package with a kernel follows the newest, as linux-image-generic-hwe-22.04 does."""
    return not re.match(r"linux-image-(unsigned-)?\d", image)


def newest(kernels: Iterable[str]) -> str:
    """The kernel that boot loaders take by default: the one with the highest version."""
    return max(kernels, key=kernel_version, default="")


def kernel_version(kernel: str) -> tuple[int, ...]:
    """The numbers in a kernel's name, to compare."""
    return tuple(int(number) for number in re.findall(r"\d+", kernel))


def upstream(version: str | None) -> str | None:
    """The driver's own version in a package's, as 535.309 of 535.309-1~deb12u1."""
    if version is None:
        return None
    return re.split(r"[-~+]", version.partition(":")[2] or version)[0]


def _reasons_to_install(
    settings: Settings, seen: Seen, wanted: Sequence[str], dkms: str, branch: str
) -> Iterator[str]:
    if seen.record.get("unfinished"):
        yield f"a change that was begun {seen.record.get('begun')} was not brought to its end"
    if seen.sources_trouble:
        yield f"APT reads no source beside those that this role added: {seen.sources_trouble}"
    if missing := [each for each in wanted if each not in seen.installed]:
        yield f"not installed: {', '.join(missing)}"
    if reason := _other_version(settings, seen, dkms, branch):
        yield reason


def _other_version(settings: Settings, seen: Seen, dkms: str, branch: str) -> str:
    """Why another version than the installed one is wanted; empty when none is, or none is installed."""
    version = seen.installed.get(dkms)
    if version is None:
        return ""
    if settings.version not in ("", LATEST):
        wrong = not _is_version(version, settings.version)
        return f"{dkms} is {version}; wanted is {settings.version}" if wrong else ""
    if version in seen.elsewhere:
        return f"{dkms} is {version}, which is not {_whose(settings)}'s package"
    if branch and not of_branch(version, branch):
        return f"{dkms} is {version}; wanted is the branch {branch}"
    newest_offered = next((each for each in seen.available if of_branch(each, branch)), version)
    if settings.version == LATEST and newest_offered != version:
        return f"{dkms} is {version}; the newest is {newest_offered}"
    return ""


def wanted_version(settings: Settings, seen: Seen) -> str:
    """The driver's version to pin while packages change; empty for the newest of the branch.

    What is installed stays, when nothing else is asked for.
    """
    if settings.version == LATEST:
        return ""
    branch = branch_of(settings, seen)
    dkms, _ = driver_packages(settings, seen, branch)
    if settings.version or _other_version(settings, seen, dkms, branch):
        return settings.version
    return upstream(seen.installed.get(dkms)) or ""


def lacks_version(settings: Settings, seen: Seen) -> bool:
    """Whether the version that is wanted is neither there nor kept, and no archive of its source has it.

    False where those archives are not all known yet, since this role has still to add them.
    """
    dkms, _ = driver_packages(settings, seen, branch_of(settings, seen))
    if settings.source == NVIDIA:
        known = seen.files.get(str(SOURCES)) == nvidia_source(seen.system, seen.release, settings.url)
    else:
        known = not seen.lacking_components
    there = {seen.installed.get(dkms, ""), seen.record.get("earlier", {}).get(dkms, ""), *seen.available}
    return (
        settings.version not in ("", LATEST)
        and known
        and not any(_is_version(each, settings.version) for each in there)
    )


def _version_problems(settings: Settings, seen: Seen, dkms: str) -> Iterator[str]:
    if lacks_version(settings, seen):
        yield (
            f"gpu_driver_version is {settings.version}, and no archive has {dkms} in that version; there are:"
            f" {', '.join(seen.available) or 'none'}. Choose one of them."
        )


def returns(settings: Settings, seen: Seen) -> bool:
    """Whether the version that is wanted is the earlier one, of which only the kept archives are left."""
    dkms, _ = driver_packages(settings, seen, branch_of(settings, seen))
    earlier = seen.record.get("earlier", {}).get(dkms, "")
    offered = any(_is_version(each, settings.version) for each in seen.available)
    return not offered and _is_version(earlier, settings.version)


def earlier(changes: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    """The driver's packages that a change replaced, with versions; those `kept` where it replaced none.

    `changes`: the packages of which the archives of before are there.
    """
    replaced = {name: old for name, old in changes.items() if belongs(name)}
    return replaced if any(map(_DKMS.fullmatch, replaced)) else dict(kept)


def strays(
    changes: Iterable[Change], plan: Plan, seen: Seen, present: Mapping[str, str], *, version: str = ""
) -> list[str]:
    """What APT would install of the driver that is of another branch, source or `version` than planned.

    `seen`: the host after its archives were added. `present`: the versions of its packages, also of those
    that an interrupted run left in part, which APT finishes without installing them anew.
    """
    changed = {each.name: each.new for each in changes if each.new}
    found = [
        f"{name} {new}"
        for name, new in changed.items()
        if belongs(name)
        and name not in _OWN_VERSION
        and re.match(r"\d{3}\.\d", upstream(new) or "")
        and not of_branch(new, plan.branch)
    ]
    dkms = changed.get(plan.dkms_package, present.get(plan.dkms_package, ""))
    wrong = version not in ("", LATEST) and not _is_version(dkms, version)
    astray = plan.dkms_package not in changed and not of_branch(dkms, plan.branch)
    if wrong or astray or dkms in seen.elsewhere:
        found.append(f"{plan.dkms_package} {dkms}")
    return list(dict.fromkeys(found))


def _is_version(version: str, wanted: str) -> bool:
    return upstream(version) == wanted or version == wanted


def _reasons_to_configure(
    seen: Seen, wanted: Sequence[str], dkms: str, settings: Settings, branch: str, kernel: str
) -> list[str]:
    version = seen.installed.get(dkms)
    if version is None:
        return ["the driver is pinned and held, nouveau is kept off, the module is built"]
    reasons = []
    if unheld := [each for each in held_packages(wanted) if each not in seen.held]:
        reasons.append(f"not held: {', '.join(unheld)}")
    texts = files(
        settings,
        components=seen.record.get("components", ()),
        releases=seen.releases,
        version=upstream(version) or "",
        branch=branch,
    )
    reasons += [
        f"{path} is not as it should be" for path, text in texts.items() if seen.files.get(path) != text
    ]
    built = seen.modules.get(kernel)
    if kernel and built != upstream(version):
        which = f"is {built}, and {upstream(version)} is installed" if built else "is not built"
        reasons.append(f"the module for {kernel} {which}")
    if kernel in seen.stale:
        reasons.append(f"the initramfs of {kernel} is older than what it must hold")
    return reasons


def _reasons_to_load(seen: Seen, reboot: str) -> Iterator[str]:
    if seen.loaded is None:
        yield "the installed driver is not loaded"
    elif reboot:
        yield reboot
    if seen.persistence is False:
        yield "nvidia-persistenced is not enabled, or does not run"


def belongs(package: str) -> bool:
    """Whether a package is part of NVIDIA's driver, by its name."""
    return any(fnmatch.fnmatchcase(package, pattern) for pattern in _FAMILY)


def is_replaced(change: Change, installed: Mapping[str, str]) -> bool:
    """Whether a package that is removed is of the installed driver, whose branches replace each other."""
    drivers = {upstream(version) for name, version in installed.items() if _DKMS.fullmatch(name)}
    return belongs(change.name) and (change.name in _OWN_VERSION or upstream(change.old) in drivers)


def held_packages(wanted: Iterable[str]) -> list[str]:
    """Those of a driver's packages that are held: all but headers and the loader, which follow the system."""
    return [each for each in wanted if not each.startswith(("linux-headers-", "ocl-icd"))]


def other_kind(settings: Settings, seen: Seen) -> str:
    """Why the loaded module is not the wanted one, whatever its version; empty where that cannot be told."""
    if seen.loaded is None or seen.loaded_kind in (None, settings.kernel_module):
        return ""
    return (
        f"the {seen.loaded_kind} kernel module is loaded, and the {settings.kernel_module} one is installed"
    )


def reboot_reason(seen: Seen, kernel: str, *, will_change: bool, target: str | None, kind: str = "") -> str:
    """Why the driver needs a reboot, by what is loaded and what is installed; empty when it does not.

    `kind`: why it is not the wanted kernel module that is loaded, once that is installed.
    A newer kernel alone is no reason: what is loaded serves until the host is rebooted anyway.
    """
    if seen.nouveau:
        return "nouveau is loaded, and cannot be removed under a console"
    is_loaded = not will_change and target is not None and seen.loaded == target and not kind
    if kernel and kernel != seen.running and not is_loaded:
        return f"{seen.running} runs, and the module is for {kernel}"
    if seen.loaded is None:
        return ""
    if will_change:
        return f"the driver {seen.loaded} is loaded, and is replaced"
    if target is not None and seen.loaded != target:
        return f"the driver {seen.loaded} is loaded, and {target} is installed"
    return kind


def _host_problems(seen: Seen) -> Iterator[str]:
    supported = {"debian": tuple(_DEBIAN_BRANCHES), "ubuntu": _UBUNTU}
    if seen.release not in supported.get(seen.system, ()):
        yield (
            f"The host runs {seen.system} {seen.release}; supported are Debian 12 and 13,"
            " Ubuntu 22.04 and 24.04."
        )
    if seen.architecture != "x86_64":
        yield f"The host's architecture is {seen.architecture}; drivers are installed on x86_64 only."


def _system_problems(settings: Settings, seen: Seen, branch: str) -> Iterator[str]:
    yield from _host_problems(seen)
    if settings.version not in ("", LATEST) and not settings.version.startswith(branch.partition("-")[0]):
        yield (
            f"gpu_driver_version is {settings.version}, which is not of gpu_driver_branch, {branch}."
            " Change one of them."
        )
    if seen.lacking_components and not seen.release_known:
        yield (
            f"None of APT's sources is known as that of {seen.codename}, so the components with the driver"
            f" cannot be added to it. Add them yourself: {', '.join(seen.lacking_components)}"
        )
    own = _DEBIAN_BRANCHES.get(seen.release)
    if settings.source == DISTRIBUTION and seen.system == "debian" and own and branch != own:
        yield (
            f"Debian {seen.release} has the branch {own}, and {branch} is wanted."
            " Leave gpu_driver_branch empty, or take gpu_driver_source: nvidia."
        )
    if settings.source == NVIDIA and not settings.has_key:
        yield (
            "gpu_driver_source is nvidia, and gpu_driver_repository.key is missing: the armoured key that"
            " signs NVIDIA's repository."
        )
    if seen.runfile:
        yield (
            "A driver was installed by NVIDIA's own installer, which packages cannot replace."
            " Remove it: nvidia-uninstall"
        )


def _device_problems(
    settings: Settings, seen: Seen, devices: Sequence[gpu.Device], branch: str, kernel: str
) -> Iterator[str]:
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
        yield from known_failures(settings, seen, kernel)


def known_failures(settings: Settings, seen: Seen, kernel: str) -> Iterator[str]:
    """Combinations of packages that were seen to fail; each message says how, and what works."""
    if settings.source != DISTRIBUTION or settings.kernel_module != OPEN or seen.system != "debian":
        return
    remedy = "Set gpu_driver_kernel_module: proprietary, or gpu_driver_source: nvidia."
    if seen.release == "12":
        yield (
            "Debian 12's nvidia-open-kernel-dkms cannot be installed: it needs another version of"
            f" firmware-nvidia-gsp than there is. {remedy}"
        )
    if seen.release == "13" and kernel_version(kernel)[:3] >= (6, 12, 117):
        yield (
            f"Debian 13's nvidia-open-kernel-dkms does not compile for {kernel}; it fails since 6.12.117."
            f" {remedy}"
        )


def _boot_problems(settings: Settings, seen: Seen, reboot: str) -> Iterator[str]:
    if seen.secure_boot and seen.key_state != "enrolled":
        yield (
            "Secure Boot is on, and the kernel would refuse the module: "
            f"{_key_remedy(seen)} Or turn Secure Boot off."
        )
    if reboot and settings.reboot == "never":
        yield (
            f"A reboot is needed, since {reboot}; gpu_driver_reboot is never."
            " Permit it: -e gpu_driver_reboot=when_needed"
        )


def _key_remedy(seen: Seen) -> str:
    """What is wrong with the key that DKMS signs modules with, and the commands that enroll it."""
    enroll = f"mokutil --import {seen.key}, then confirm at the console during a reboot."
    if seen.key_state == "requested":
        return f"the enrollment of {seen.key} was asked for; confirm it at the console during a reboot."
    if seen.key_state == "not_enrolled":
        return f"{seen.key}, which DKMS signs with, is not enrolled. Enroll it: {enroll}"
    if seen.key_state == "unknown":
        return (
            f"whether {seen.key}, which DKMS signs with, is enrolled cannot be told. See what keeps"
            f" mokutil from it (apt-get install mokutil): mokutil --test-key {seen.key}"
        )
    if seen.key == UBUNTU_KEY:
        make = "update-secureboot-policy --new-key (of shim-signed)"
    elif seen.key == DKMS_KEY and seen.release != "12":
        make = "dkms generate_mok (of dkms)"
    else:
        # Debian 12's DKMS has no command for it; this is what it does when it first signs.
        private = str(Path(seen.key).with_suffix(".key")) if seen.key == DKMS_KEY else "KEY"
        make = (
            "openssl req -new -x509 -nodes -days 36500 -subj '/CN=DKMS module signing key'"
            f" -newkey rsa:2048 -keyout {private} -outform DER -out {seen.key}"
        )
    return f"{seen.key}, which DKMS signs with, is not there yet. Create it: {make}; enroll it: {enroll}"


def signing_certificate(system: str, configurations: Iterable[str]) -> str:
    """The certificate of the key that DKMS signs with, by the texts of its framework.conf and its parts.

    Ubuntu's DKMS takes that of shim-signed where no key is set, whatever certificate is.
    """
    found: dict[str, str] = {}
    for text in configurations:
        found |= re.findall(r"^\s*(mok_certificate|mok_signing_key)=[\"']?([^\"'\s#]*)", text, re.M)
    if system == "ubuntu" and not found.get("mok_signing_key"):
        return UBUNTU_KEY
    return found.get("mok_certificate") or DKMS_KEY


def key_state(status: int, words: str) -> KeyState:
    """What `mokutil --test-key` answered."""
    if "already enrolled" in words:
        return "enrolled"
    if "already in the enrollment request" in words:
        return "requested"
    return "not_enrolled" if status in (0, 1) and "is not enrolled" in words else "unknown"


def _disk_problems(seen: Seen) -> Iterator[str]:
    together: dict[int | str, list[str]] = {}
    for path in DISK_MB:
        if path in seen.disk_free_mb:
            together.setdefault(seen.file_systems.get(path, path), []).append(path)
    for paths in together.values():
        free, least = min(seen.disk_free_mb[path] for path in paths), sum(DISK_MB[path] for path in paths)
        if free < least:
            where = f"{paths[0]} has" if len(paths) == 1 else f"{', '.join(paths)} together have"
            yield (
                f"{where} {free} MB free; the driver needs {least} MB. Free some, or enlarge the file system."
            )


def _ownership_problems(seen: Seen, wanted: Sequence[str]) -> Iterator[str]:
    ours = set(seen.record.get("held", ()))
    for name in wanted:
        if name in seen.held and name not in ours and not seen.record.get("unfinished"):
            yield f"{name} is held by somebody else. Ask who did it, then: apt-mark unhold {name}"


def files(
    settings: Settings,
    *,
    components: Sequence[str],
    version: str,
    branch: str,
    releases: Sequence[str] = (),
) -> dict[str, str]:
    """The role's own files by path: APT's pins, what unattended upgrades leave alone, nouveau's, the nodes'.

    `components`: those that the host lacked, of which nothing but the driver is to be taken, in `releases`.
    `version`: of the driver, empty before it is known.
    """
    # APT takes the first record that names a package and matches a version, so the order matters.
    of_its_branch = f"version {branch.partition('-')[0]}.*"
    pins = []
    if settings.source == DISTRIBUTION:
        pins.append(_pin(_FAMILY, "release o=NVIDIA", -1))
    elif branch:
        pins.append(_pin(_OWN_VERSION, of_its_branch, 1001))
    pins.append(_pin(_OWN_VERSION, "release *", 500))
    if version or branch:
        pins.append(_pin(_FAMILY, f"version {version}*" if version else of_its_branch, 1001))
    for component in components:
        pins += [_pin("*", f"release {release},c={component}", -1) for release in releases]
    if components:
        pins.append(_pin(_FAMILY, "release o=Debian", 500))
    patterns = sorted({each.replace("*", "") for each in _FAMILY})
    blacklist = "".join(f'  "^{pattern}";\n' for pattern in patterns)
    return {
        str(PREFERENCES): _HEAD.format("#") + "\n".join(pins),
        str(UNATTENDED): _HEAD.format("//") + f"Unattended-Upgrade::Package-Blacklist {{\n{blacklist}}};\n",
        str(DROP_IN): _HEAD.format("#") + _NODES,
        str(BLACKLIST): _HEAD.format("#") + "blacklist nouveau\noptions nouveau modeset=0\n",
    }


def _pin(names: Iterable[str], which: str, priority: int) -> str:
    return f"Package: {' '.join(names)}\nPin: {which}\nPin-Priority: {priority}\n"


# The driver makes this node when a program first asks for it, as root; the service's sandbox may not, and
# opens only nodes that are there when it starts. Ubuntu has that program in a package of its own.
_NODES = """\
[Unit]
Before=katago-mcp.service
[Service]
ExecStartPost=-/usr/bin/nvidia-modprobe -u -c 0
"""
_HEAD = "{} Kept by the role gpu_driver, which alone changes the driver.\n"


@dataclass(frozen=True)
class Archive:
    """An index of packages as APT knows it; `codename` and `origin` are empty where it does not tell."""

    uri: str
    suite: str
    component: str
    codename: str = ""
    origin: str = ""


INDEXTARGETS = (
    "apt-get",
    "indextargets",
    "--format",
    "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(CODENAME)|$(ORIGIN)",
    "Created-By: Packages",
)


def address(uri: str) -> str:
    """A source's address as APT names it, by which two that are written differently are the same.

    APT makes `file:/a/` of `file:///a`, reads `%20`, and leaves a user's name out where it tells of packages.
    """
    host = re.sub(r"^([\w.+-]+:)///", r"\1/", unquote(uri))
    return re.sub(r"^([\w.+-]+://)[^/@]*@", r"\1", host).rstrip("/")


def archives(targets: str) -> list[Archive]:
    """What `INDEXTARGETS` prints; APT prints the variable itself where there is no value."""
    rows = ([re.sub(r"\$\(.*", "", field) for field in row.split("|")] for row in targets.splitlines())
    return list(dict.fromkeys(Archive(*row) for row in rows if len(row) == 5))


def own_archives(found: Iterable[Archive], codename: str) -> list[Archive]:
    """Those of the host's own release, its updates and its security, by their codename or their suite."""
    names = {codename, f"{codename}-updates", f"{codename}-security"}
    mine = [each for each in found if names & {each.codename, each.suite}]
    return [each for each in mine if each.origin == "Debian"] or mine


def pinned_releases(own: Iterable[Archive], codename: str) -> tuple[str, ...]:
    """How pins name the releases to which components are added: Debian's, and what a mirror makes of them."""
    usual = [f"o=Debian,n={codename}{kind}" for kind in ("", "-updates", "-security")]
    mirrored = [
        f"o={each.origin},n={each.codename}"
        for each in own
        if each.component == "main" and each.origin and each.codename
    ]
    return tuple(dict.fromkeys([*usual, *mirrored]))


def lacking_components(own: Iterable[Archive], codename: str) -> list[str]:
    """The components with the driver that a host does not take from the archives of its own release."""
    have = {each.component for each in own if codename in (each.codename, each.suite)}
    return [each for each in COMPONENTS if each not in have]


def sources(
    texts: Mapping[str, str], own: Iterable[Archive], components: Sequence[str]
) -> dict[Path, str | None]:
    """The files that take `components` of a host's own archives, None for one that is not needed.

    They repeat the host's own entries with all their options, since APT reads no source at all when two
    entries of an archive differ in them. `texts`: the host's sources by file name. [sources.list(5)]
    """
    known = {(address(each.uri), each.suite) for each in own if each.component == "main"}
    lines: dict[str, None] = {}
    stanzas: dict[str, None] = {}
    for name, text in texts.items():
        if name.endswith(".sources"):
            stanzas |= dict.fromkeys(_stanzas(text, known, components))
        else:
            lines |= dict.fromkeys(_lines(text, known, components))
    return {
        SOURCES: _HEAD.format("#") + "\n".join(lines) + "\n" if lines else None,
        STANZAS: _HEAD.format("#") + "\n".join(stanzas) if stanzas else None,
    }


_LINE = re.compile(
    r"\s*deb\s+(?P<options>\[[^\]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>[^#]+)"
)


def _lines(text: str, known: Container[tuple[str, str]], components: Sequence[str]) -> Iterator[str]:
    for found in filter(None, map(_LINE.match, text.splitlines())):
        is_known = (address(found["uri"]), found["suite"]) in known
        if is_known and "main" in found["components"].split():
            yield f"deb {found['options'] or ''}{found['uri']} {found['suite']} {' '.join(components)}"


def _stanzas(text: str, known: Container[tuple[str, str]], components: Sequence[str]) -> Iterator[str]:
    written = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", written):
        fields = {
            found[1].lower(): found[0].rstrip()
            for found in re.finditer(r"^(\S+?):.*(?:\n[ \t].*)*", stanza, re.M)
        }
        values = {name: field.partition(":")[2].split() for name, field in fields.items()}
        if values.get("enabled", ["yes"])[0].lower() in ("no", "false", "off", "0", "without", "disable"):
            continue
        uris = values.get("uris", [])
        suites = [
            suite for suite in values.get("suites", []) if any((address(uri), suite) in known for uri in uris)
        ]
        if suites and "deb" in values.get("types", []) and "main" in values.get("components", []):
            fields |= {
                "types": "Types: deb",
                "suites": f"Suites: {' '.join(suites)}",
                "components": f"Components: {' '.join(components)}",
            }
            yield "\n".join(fields.values()) + "\n"


def of_nvidia(uri: str, archives: Iterable[Archive], url: str) -> bool:
    """Whether an archive is NVIDIA's, or the mirror of it at `url`."""
    ours = (NVIDIA_REPOSITORY, *([address(url)] if url else []))
    return address(uri).startswith(ours) or any(
        each.origin == "NVIDIA" and address(each.uri) == address(uri) for each in archives
    )


def nvidia_source(system: str, release: str, url: str) -> str:
    """The line of NVIDIA's own repository, or of a mirror of it, for a system."""
    uri = url or f"{NVIDIA_REPOSITORY}/{system}{release.replace('.', '')}/x86_64/"
    return _HEAD.format("#") + f"deb [signed-by={KEYRING}] {uri} /\n"


def dkms_modules(status: str) -> dict[str, str]:
    """The version of NVIDIA's module by kernel, of what `dkms status` calls installed.

    Its lines are `nvidia-current/535.309.01, 6.1.0-44-amd64, x86_64: installed`, possibly with a
    warning in parentheses. Debian names the driver nvidia-current, Ubuntu nvidia and nvidia-srv, each of
    them its open module too; nvidia-fs and others of NVIDIA's have versions of their own.
    """
    name = r"nvidia(?:-current|-srv)?(?:-open)?"
    found = re.findall(rf"^{name}[/,] ?([\w.]+), ([^,\s]+), \w+: installed\b", status, re.M)
    return {kernel: version for version, kernel in found}


def compiler_errors(log: str, most: int = 4) -> list[str]:
    """The compiler's first errors in a log of make; its last words where it names none."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\berror:|\*\*\* |undefined!", line)]
    return (errors or lines[-most:])[:most]


def restoration(
    before: Mapping[str, str], brought: Mapping[str, str], now: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """How to go back from the packages `now`: which are removed, which installed in their versions `before`.

    `before`: of the packages that were changed, and no others; empty for one that was not there. `brought`:
    the versions that they were changed to; what is not of the driver, and has another by now, stays.
    """
    removed = sorted(name for name, old in before.items() if not old and name.partition(":")[0] in now)
    installed = {
        name: old
        for name, old in before.items()
        if old
        and now.get(name) != old
        and (belongs(name) or name not in now or now[name] == brought.get(name))
    }
    return removed, dict(sorted(installed.items()))


def backends(vendor: str) -> tuple[str, ...]:
    """KataGo's backends that work on a host's device, the fastest first."""
    return {
        "nvidia": ("trt", "cuda", "opencl"),
        "amd": ("opencl",),
        "intel": ("opencl",),
    }.get(vendor, ("opencl", "eigenavx2", "eigen"))
