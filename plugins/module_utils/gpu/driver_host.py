"""The facts of a host that the driver's plan is based on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.katago.fleet.plugins.module_utils.gpu import devices as gpus
from ansible_collections.katago.fleet.plugins.module_utils.gpu.devices import Device
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_record import NOTHING, Record
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import Settings
from ansible_collections.katago.fleet.plugins.module_utils.gpu.secure_boot import DKMS_KEY, KeyState

# Space for the driver's packages, its sources and the DKMS builds. /boot holds an initramfs for each kernel.
DISK_MB = {"/usr": 2500, "/var": 1500, "/boot": 150}


@dataclass(frozen=True)
class Host:
    """The facts of a host.

    System: `system`, `release` and `codename` are from os-release(5); `system_name` is for people.

    Kernels: `kernels` can be booted. `image_packages`: installed kernel packages and their versions.
    `header_versions`: available versions of their header packages; a package is missing here if its
    availability is unknown, because APT has read no archive of the host's release. `loaded`: the version of
    the loaded NVIDIA driver. `loaded_kind`: its kernel module, open or proprietary. `nouveau`: whether
    nouveau is loaded. `persistence`: whether nvidia-persistenced is enabled and running. `stale`: kernels
    whose initramfs is older than this role's modprobe file.

    Secure Boot: `secure_boot` is None if unknown. `key`: the certificate of the key that DKMS signs with.
    `key_state`: its enrollment state in the firmware.

    Packages: `modules`: the version of the DKMS module by kernel. `available`: versions of the DKMS package
    in the archives of the configured source, newest first. `elsewhere`: versions that only other archives
    have. `components`: enabled components of the host's own release. `lacking_components`: components with
    the driver that are not enabled (Debian only). `release_known`: whether APT has sources of the host's own
    release. `releases`: its names in pins. `sources_trouble`: APT's error if this role's own sources break
    APT. `files`: the contents of this role's files; None for a missing file.

    Disk: `file_systems`: the device number of the file system of each path of `DISK_MB`. A path without a
    number counts as a file system of its own.
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


def vendor_of(settings: Settings, on_bus: Sequence[Device]) -> str:
    """The vendor of the GPUs that the host uses; `none` on a CPU host. `on_bus`: the GPUs on its PCI bus."""
    devices, problem = choose(settings, on_bus)
    if devices:
        return devices[0].vendor
    return settings.vendor if problem else "none"


def devices_of(settings: Settings, on_bus: Sequence[Device]) -> list[Device]:
    """The GPUs that the host uses; [] on a CPU host. `on_bus`: the GPUs on its PCI bus."""
    return choose(settings, on_bus)[0]


def choose(settings: Settings, on_bus: Sequence[Device]) -> tuple[list[Device], str]:
    """The GPUs that the host uses, and the problem with the settings that select them; empty if none."""
    if settings.vendor == "none":
        return [], ""
    try:
        devices = list(on_bus) if settings.devices is None else gpus.named(settings.devices, on_bus)
    except ValueError as error:
        return [], str(error)
    mine = gpus.chosen(devices, settings.vendor)
    if mine or settings.vendor == gpus.AUTO:
        return mine, ""
    return [], (
        f"gpu_driver_vendor is {settings.vendor}, but the host has no GPU of that vendor."
        " Set another vendor, auto, or none for a CPU host."
    )
