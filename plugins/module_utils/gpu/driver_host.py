"""What a driver's plan is made of: the facts of a host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.katago.fleet.plugins.module_utils.gpu import devices as gpus
from ansible_collections.katago.fleet.plugins.module_utils.gpu.devices import Device
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_record import NOTHING, Record
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import Settings
from ansible_collections.katago.fleet.plugins.module_utils.gpu.secure_boot import DKMS_KEY, KeyState

# A driver's packages, its sources and what DKMS builds of them; an initramfs of each kernel is in /boot.
DISK_MB = {"/usr": 2500, "/var": 1500, "/boot": 150}


@dataclass(frozen=True)
class Host:
    """A host as it is.

    `system`, `release` and `codename` as os-release(5) has them, `system_name` for people.
    `kernels`: those that can be booted. `image_packages`: the installed packages of kernels and their
    versions, `header_versions`: those that APT knows of the packages with their headers, without those of
    which it cannot tell, since it has read no archive of the host's release. `loaded` and `nouveau`: what
    the running kernel has. `loaded_kind`: which of NVIDIA's kernel modules that is. `persistence`: whether
    nvidia-persistenced is enabled and runs.
    `secure_boot`: None where it cannot be told. `key`: the certificate of the key that DKMS signs with,
    `key_state` what the firmware has of it.
    `modules`: the version of DKMS's module by kernel. `available`: the versions of the DKMS package
    that APT knows in the archives of the wanted source, the newest first; `elsewhere`: those that are in
    others only. `components`: those that APT takes of the host's own release, `lacking_components`: those
    with the driver that it does not take there, on Debian. `release_known`: whether APT takes packages of
    the host's own release, `releases`: how pins name it. `sources_trouble`: APT's error where this role's
    own sources keep it from reading any. `files`: the content of this role's files, None where there is
    none. `stale`: kernels whose initramfs is older than this role's modprobe file. `file_systems`: the
    number of the one that each path of `DISK_MB` is on; those that are not named have one each.
    """

    system: str
    release: str
    codename: str
    architecture: str
    running: str
    devices: Sequence[Device]
    system_name: str = ""
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
    components: Sequence[str] = ()
    lacking_components: Sequence[str] = ()
    release_known: bool = True
    releases: Sequence[str] = ()
    sources_trouble: str = ""
    disk_free_mb: Mapping[str, int] = field(default_factory=dict)
    file_systems: Mapping[str, int] = field(default_factory=dict)
    runfile: bool = False
    files: Mapping[str, str | None] = field(default_factory=dict)
    stale: Sequence[str] = ()
    record: Record = NOTHING


def vendor_of(settings: Settings, found: Sequence[Device]) -> str:
    """Whose GPUs are used on a host with those `found` on its bus; `none` on a CPU host."""
    devices, problem = choose(settings, found)
    if devices:
        return devices[0].vendor
    return settings.vendor if problem else "none"


def devices_of(settings: Settings, found: Sequence[Device]) -> list[Device]:
    """The GPUs that are used on a host with those `found` on its bus; [] on a CPU host."""
    return choose(settings, found)[0]


def choose(settings: Settings, found: Sequence[Device]) -> tuple[list[Device], str]:
    """The GPUs that are used, and what is wrong about the settings that name them."""
    if settings.vendor == "none":
        return [], ""
    try:
        devices = list(found) if settings.devices is None else gpus.named(settings.devices, found)
    except ValueError as error:
        return [], str(error)
    mine = gpus.chosen(devices, settings.vendor)
    if mine or settings.vendor == gpus.AUTO:
        return mine, ""
    return [], f"gpu_driver_vendor is {settings.vendor}, and the host has no GPU of that vendor."
