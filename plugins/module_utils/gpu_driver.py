"""Which driver a host's GPU gets, what cannot work, whether a reboot is needed: pure, from what was seen."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import gpu

STATE = Path("/var/lib/katago-gpu-driver")
"""What was there before a change, and the packages to go back to."""

PREFERENCES = Path("/etc/apt/preferences.d/katago-gpu-driver")
SOURCES = Path("/etc/apt/sources.list.d/katago-gpu-driver.list")
UNATTENDED = Path("/etc/apt/apt.conf.d/51katago-gpu-driver")
BLACKLIST = Path("/etc/modprobe.d/katago-gpu-driver.conf")
DROP_IN = Path("/etc/systemd/system/nvidia-persistenced.service.d/katago-gpu-driver.conf")
KEYRING = Path("/etc/apt/keyrings/katago-gpu-driver.asc")

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
    """The role's variables; empty where the host decides. `has_key`: NVIDIA's repository's was given."""

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


@dataclass(frozen=True)
class Seen:
    """A host as it is.

    `kernels`: those that can be booted. `image_packages`: the installed packages of kernels and their
    versions, `header_versions`: those that APT knows of the packages with their headers. `loaded` and
    `nouveau`: what the running kernel has. `secure_boot`, `key_enrolled`: None where it cannot be told.
    `modules`: the version of DKMS's module by kernel. `available`: the versions of the DKMS package
    that APT knows, the newest first. `files`: the content of this role's files, None where there is
    none. `stale`: kernels whose initramfs is older than this role's modprobe file.
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
    nouveau: bool = False
    secure_boot: bool | None = None
    key_enrolled: bool | None = None
    installed: Mapping[str, str] = field(default_factory=dict)
    held: Sequence[str] = ()
    modules: Mapping[str, str] = field(default_factory=dict)
    available: Sequence[str] = ()
    lacking_components: Sequence[str] = ()
    disk_free_mb: Mapping[str, int] = field(default_factory=dict)
    runfile: bool = False
    files: Mapping[str, str | None] = field(default_factory=dict)
    stale: Sequence[str] = ()
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What would be done. `problems` refuse it; `because` says why there is something to do.

    `installs`: whether packages change. `stops_service`: whether a loaded driver is replaced under what
    uses it. `reboot`: why a reboot is needed, empty when it is not. `kernel`: the one that will boot.
    """

    vendor: str
    devices: tuple[str, ...]
    expected: int
    target: str
    kernel: str
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
        lines.append(f"kernel that will boot: {self.kernel or 'unknown'}")
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
    headers, header_problems = headers_of(settings, seen, kernel)
    wanted = (*packages, *headers)
    installed = upstream(seen.installed.get(dkms))
    because = list(_reasons_to_install(settings, seen, wanted, dkms))
    installs = bool(because)
    because += _reasons_to_configure(seen, wanted, dkms, settings, kernel)
    reboot = "" if expected == 0 else reboot_reason(seen, kernel, will_change=installs, target=installed)
    if expected and not because and (reboot or seen.loaded is None):
        because.append("the installed driver is not loaded")
    problems = [
        *([problem] if problem else []),
        *_system_problems(settings, seen, branch),
        *_device_problems(settings, seen, devices, branch, kernel),
        *header_problems,
        *_boot_problems(settings, seen, reboot),
        *(_disk_problems(seen) if installs else ()),
        *(_ownership_problems(seen, wanted) if installs else ()),
    ]
    return Plan(
        vendor=vendor,
        devices=tuple(map(str, devices)),
        expected=expected,
        target=_target(settings, branch),
        kernel=kernel,
        driver_in_use=tuple(sorted({each.driver for each in devices if each.driver})),
        loaded=seen.loaded,
        installed=installed,
        packages=wanted,
        dkms_package=dkms,
        components=tuple(seen.lacking_components)
        if settings.source == DISTRIBUTION and seen.system == "debian"
        else (),
        installs=installs,
        stops_service=installs and seen.loaded is not None,
        because=tuple(because),
        reboot=reboot,
        problems=tuple(problems),
    )


def _target(settings: Settings, branch: str) -> str:
    version = branch if settings.version in ("", LATEST) else settings.version
    whose = "the distribution" if settings.source == DISTRIBUTION else "NVIDIA"
    return f"NVIDIA's driver {version} ({settings.kernel_module}, {whose}'s package)"


def vendor_of(settings: Settings, found: Sequence[gpu.Device]) -> str:
    """Whose GPUs are used on a host with those `found` on its bus; `none` on a CPU host."""
    devices, problem = _devices(settings, found)
    if devices:
        return devices[0].vendor
    return settings.vendor if problem else "none"


def _devices(settings: Settings, found: Sequence[gpu.Device]) -> tuple[list[gpu.Device], str]:
    if settings.vendor == "none":
        return [], ""
    try:
        devices = list(found) if settings.devices is None else gpu.named(settings.devices, found)
    except ValueError as error:
        return [], str(error)
    if settings.vendor == "auto":
        return gpu.chosen(devices), ""
    mine = [each for each in devices if each.vendor == settings.vendor]
    problem = (
        "" if mine else f"gpu_driver_vendor is {settings.vendor}, and the host has no GPU of that vendor."
    )
    return mine, problem


def _nothing(seen: Seen, kernel: str, problems: tuple[str, ...]) -> Plan:
    return Plan(
        vendor="none",
        devices=(),
        expected=0,
        target="none",
        kernel=kernel,
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
        kernel=kernel,
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
    """The branch of the driver, as `535` or `580-server`; empty where the system has none."""
    if settings.branch:
        return settings.branch
    if settings.version not in ("", LATEST):
        return settings.version.partition(".")[0] + ("-server" if seen.system == "ubuntu" else "")
    if settings.source == NVIDIA:
        return _NVIDIA_BRANCH
    if seen.system == "ubuntu":
        return _UBUNTU_BRANCH
    return _DEBIAN_BRANCHES.get(seen.release, "")


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


def headers_of(settings: Settings, seen: Seen, kernel: str) -> tuple[tuple[str, ...], list[str]]:
    """The packages with the headers of every kernel that may be booted, and what is wrong about them.

    A package that follows the newest kernel is among them, so that a later one is built too; but not
    where only a newer version of it is left, which would bring a kernel that nobody asked for.
    """
    if settings.headers:
        return tuple(settings.headers), []
    images = {header_package(name): version for name, version in seen.image_packages.items()}
    exact = {f"linux-headers-{each}" for each in (kernel, seen.running)} & images.keys()
    following = {
        name
        for name, version in images.items()
        if not re.search(r"\d+\.\d+", name)
        and (name in seen.installed or version in seen.header_versions.get(name, ()))
    }
    if exact:
        return tuple(sorted(exact | following)), []
    return (), [
        f"The running kernel {seen.running} belongs to no package, and no other is installed; whose headers"
        " are needed cannot be told. Name them in gpu_driver_headers, or install a kernel of the"
        " distribution."
    ]


def header_package(image: str) -> str:
    """The package with the headers for a package with a kernel."""
    return image.replace("linux-image-", "linux-headers-", 1)


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


def _reasons_to_install(settings: Settings, seen: Seen, wanted: Sequence[str], dkms: str) -> Iterator[str]:
    if seen.record.get("unfinished"):
        yield f"a change that was begun {seen.record.get('begun')} was not brought to its end"
    if missing := [each for each in wanted if each not in seen.installed]:
        yield f"not installed: {', '.join(missing)}"
    version = seen.installed.get(dkms)
    if version is None:
        return
    if settings.version == LATEST and seen.available and seen.available[0] != version:
        yield f"{dkms} is {version}; the newest is {seen.available[0]}"
    elif settings.version not in ("", LATEST) and not _is_version(version, settings.version):
        yield f"{dkms} is {version}; wanted is {settings.version}"


def wanted_version(settings: Settings, seen: Seen) -> str:
    """The driver's version to pin while packages change; empty for the newest of the branch.

    What is installed stays, when nothing else is asked for.
    """
    if settings.version == LATEST:
        return ""
    dkms, _ = driver_packages(settings, seen, branch_of(settings, seen))
    return settings.version or upstream(seen.installed.get(dkms)) or ""


def _is_version(version: str, wanted: str) -> bool:
    return upstream(version) == wanted or version == wanted


def _reasons_to_configure(
    seen: Seen, wanted: Sequence[str], dkms: str, settings: Settings, kernel: str
) -> list[str]:
    version = seen.installed.get(dkms)
    if version is None:
        return ["the driver is pinned and held, nouveau is kept off, the module is built"]
    reasons = []
    if unheld := [each for each in held_packages(wanted) if each not in seen.held]:
        reasons.append(f"not held: {', '.join(unheld)}")
    texts = files(settings, components=seen.record.get("components", ()), version=upstream(version) or "")
    reasons += [
        f"{path} is not as it should be" for path, text in texts.items() if seen.files.get(path) != text
    ]
    if kernel and kernel not in seen.modules:
        reasons.append(f"the module is not built for {kernel}")
    if kernel in seen.stale:
        reasons.append(f"the initramfs of {kernel} is older than what it must hold")
    return reasons


def belongs(package: str) -> bool:
    """Whether a package is part of NVIDIA's driver, by its name."""
    return any(fnmatch.fnmatchcase(package, pattern) for pattern in _FAMILY)


def held_packages(wanted: Iterable[str]) -> list[str]:
    """Those of a driver's packages that are held: all but headers and the loader, which follow the system."""
    return [each for each in wanted if not each.startswith(("linux-headers-", "ocl-icd"))]


def reboot_reason(seen: Seen, kernel: str, *, will_change: bool, target: str | None) -> str:
    """Why the driver needs a reboot, by what is loaded and what is installed; empty when it does not."""
    if seen.nouveau:
        return "nouveau is loaded, and cannot be removed under a console"
    if kernel and kernel != seen.running:
        return f"{seen.running} runs, and the module is for {kernel}"
    if seen.loaded is None:
        return ""
    if will_change:
        return f"the driver {seen.loaded} is loaded, and is replaced"
    if target is not None and seen.loaded != target:
        return f"the driver {seen.loaded} is loaded, and {target} is installed"
    return ""


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
    if seen.secure_boot and seen.key_enrolled is not True:
        yield (
            "Secure Boot is on, and the key that DKMS signs modules with is not enrolled: the kernel would"
            " refuse the module. Enroll it (mokutil --import /var/lib/dkms/mok.pub, then confirm at the"
            " console during a reboot), or turn Secure Boot off."
        )
    if reboot and settings.reboot == "never":
        yield (
            f"A reboot is needed, since {reboot}; gpu_driver_reboot is never."
            " Permit it: -e gpu_driver_reboot=when_needed"
        )


def _disk_problems(seen: Seen) -> Iterator[str]:
    for path, least in DISK_MB.items():
        if path in seen.disk_free_mb and seen.disk_free_mb[path] < least:
            yield (
                f"{path} has {seen.disk_free_mb[path]} MB free; the driver needs {least} MB."
                " Free some, or enlarge the file system."
            )


def _ownership_problems(seen: Seen, wanted: Sequence[str]) -> Iterator[str]:
    ours = set(seen.record.get("held", ()))
    for name in wanted:
        if name in seen.held and name not in ours and not seen.record.get("unfinished"):
            yield f"{name} is held by somebody else. Ask who did it, then: apt-mark unhold {name}"


def files(settings: Settings, *, components: Iterable[str], version: str) -> dict[str, str]:
    """The role's own files by path: APT's pins, what unattended upgrades leave alone, nouveau's, the nodes'.

    `components`: those that the host lacked, of which nothing but the driver is to be taken.
    `version`: of the driver, empty before it is known.
    """
    pins = []
    for component in components:
        pins.append(f"Package: *\nPin: release c={component}\nPin-Priority: -1\n")
    if components:
        pins.append(f"Package: {' '.join(_FAMILY)}\nPin: release o=Debian\nPin-Priority: 500\n")
    # APT takes the first record that names a package, so those of the versions come first.
    if version:
        pins.insert(0, f"Package: {' '.join(_FAMILY)}\nPin: version {version}*\nPin-Priority: 1001\n")
        pins.insert(0, f"Package: {' '.join(_OWN_VERSION)}\nPin: release *\nPin-Priority: 500\n")
    patterns = sorted({each.replace("*", "") for each in _FAMILY})
    blacklist = "".join(f'  "^{pattern}";\n' for pattern in patterns)
    return {
        str(PREFERENCES): _HEAD.format("#") + "\n".join(pins),
        str(UNATTENDED): _HEAD.format("//") + f"Unattended-Upgrade::Package-Blacklist {{\n{blacklist}}};\n",
        str(DROP_IN): _HEAD.format("#") + _NODES,
        str(BLACKLIST): _HEAD.format("#") + "blacklist nouveau\noptions nouveau modeset=0\n",
    }


# The driver makes this node when a program first asks for it, as root; the service's sandbox may not, and
# opens only nodes that are there when it starts.
_NODES = """\
[Unit]
Before=katago-mcp.service
[Service]
ExecStartPost=/usr/bin/nvidia-modprobe -u -c 0
"""
_HEAD = "{} Kept by the role gpu_driver, which alone changes the driver.\n"


def sources(targets: str, codename: str, components: Sequence[str]) -> str:
    """One-line sources with `components` for every archive from which a Debian host takes `main`.

    `targets`: what `INDEXTARGETS` prints. [sources.list(5)]
    """
    lines = [_HEAD.format("#").rstrip()]
    for row in sorted(set(targets.splitlines())):
        uri, suite, component, signed_by = (*row.split("|"), "", "", "")[:4]
        if component == "main" and suite.startswith(codename):
            # APT prints the variable itself where the option is not set.
            option = f"[signed-by={signed_by}] " if signed_by and not signed_by.startswith("$") else ""
            lines.append(f"deb {option}{uri} {suite} {' '.join(components)}")
    return "\n".join(lines) + "\n"


INDEXTARGETS = (
    "apt-get",
    "indextargets",
    "--format",
    "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)",
    "Created-By: Packages",
)


def lacking_components(targets: str, codename: str) -> list[str]:
    """The components with the driver that a host does not take from the archives of its own release."""
    rows = (row.split("|") for row in targets.splitlines())
    have = {row[2] for row in rows if len(row) > 2 and row[1] == codename}
    return [each for each in COMPONENTS if each not in have]


def nvidia_source(system: str, release: str, url: str) -> str:
    """The line of NVIDIA's own repository, or of a mirror of it, for a system."""
    address = url or f"{NVIDIA_REPOSITORY}/{system}{release.replace('.', '')}/x86_64/"
    return _HEAD.format("#") + f"deb [signed-by={KEYRING}] {address} /\n"


def dkms_modules(status: str) -> dict[str, str]:
    """The version of NVIDIA's module by kernel, of what `dkms status` calls installed.

    Its lines are `nvidia-current/535.309.01, 6.1.0-44-amd64, x86_64: installed`, possibly with a
    warning in parentheses.
    """
    found = re.findall(r"^nvidia[\w-]*[/,] ?([\w.]+), ([^,\s]+), \w+: installed\b", status, re.M)
    return {kernel: version for version, kernel in found}


def compiler_errors(log: str, most: int = 4) -> list[str]:
    """The compiler's first errors in a log of make; its last words where it names none."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\berror:|\*\*\* |undefined!", line)]
    return (errors or lines[-most:])[:most]


def restoration(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """How to go back from the packages `now` to those `before`: which are removed, which installed."""
    removed = sorted(now.keys() - before.keys())
    installed = {name: version for name, version in before.items() if now.get(name) != version}
    return removed, dict(sorted(installed.items()))


def backends(vendor: str) -> tuple[str, ...]:
    """KataGo's backends that work on a host's device, the fastest first."""
    return {
        "nvidia": ("trt", "cuda", "opencl"),
        "amd": ("opencl",),
        "intel": ("opencl",),
    }.get(vendor, ("opencl", "eigenavx2", "eigen"))
