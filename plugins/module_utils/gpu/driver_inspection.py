"""Gathers the facts of a host for the driver's plan; changes nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import apt, os_release
from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    apt_sources,
    devices,
    dkms,
    driver_files,
    driver_host,
    driver_packages,
    driver_record,
    kernel_module,
    kernels,
    nvidia_kernel,
    programs,
    secure_boot,
    texts,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_host import Host
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import NVIDIA, Settings


def persistence() -> bool | None:
    """Whether nvidia-persistenced is enabled and running; None if it is not installed."""
    status, output = programs.ask(["systemctl", "is-enabled", kernel_module.PERSISTENCED])
    if status and output.strip() != "disabled":
        return None
    return status == 0 and programs.ask(["systemctl", "is-active", kernel_module.PERSISTENCED])[0] == 0


def free_mb(path: str) -> int:
    """Free space for root on the file system of `path`, in MB."""
    status = os.statvfs(path)
    return status.f_bfree * status.f_frsize >> 20


def inspect(settings: Settings) -> Host:
    """The host's facts; on a CPU host, only the system's facts and the devices."""
    system = os_release.read(paths.OS_RELEASE)
    host: dict[str, Any] = {
        "system": system.id,
        "release": system.version,
        "codename": system.codename,
        "system_name": str(system),
        "architecture": platform.machine(),
        "running": platform.release(),
        "devices": devices.on_bus(paths.PCI_DEVICES),
    }
    bare = Host(**host)
    if driver_host.vendor_of(settings, bare.devices) == "none":
        return bare
    with apt_sources.readable_sources() as (trouble, options):
        return inspect_driver(settings, bare, options, trouble)


def inspect_driver(settings: Settings, bare: Host, options: Sequence[str], trouble: str) -> Host:
    """The facts of a host with a GPU.

    `bare`: its system's facts. `trouble`: APT's error if this role's sources break APT. `options`: APT
    options that work around it.
    """
    packages = apt.query()
    archives = apt_sources.archives(apt_sources.index_targets(options))
    own = apt_sources.own_archives(archives, bare.codename)
    branch = driver_packages.branch_of(settings, replace(bare, installed=packages.installed))
    package, _ = driver_packages.of_driver(settings, bare, branch)
    images = {
        name: version for name, version in packages.installed.items() if name.startswith("linux-image-")
    }
    enabled = secure_boot.enabled()
    key, key_state = secure_boot.signing_key(bare.system) if enabled else (bare.key, bare.key_state)
    can_boot = kernels.bootable()
    available: dict[str, None] = {}
    others: dict[str, None] = {}
    for offer in apt.offers(package, options):
        is_nvidia = apt_sources.of_nvidia(offer.uri, archives, settings.url)
        is_configured = is_nvidia == (settings.source == NVIDIA)
        (available if is_configured else others)[offer.version] = None
    return replace(
        bare,
        kernels=can_boot,
        image_packages=images,
        header_versions=apt_sources.header_versions(images, own, options),
        loaded=kernel_module.version(),
        loaded_kind=kernel_module.kind(),
        nouveau=nvidia_kernel.loaded_version("nouveau", paths.KERNEL_MODULES) is not None,
        persistence=persistence(),
        secure_boot=enabled,
        key=key,
        key_state=key_state,
        installed=packages.installed,
        held=packages.held,
        modules=dkms.built(),
        available=tuple(available),
        elsewhere=tuple(version for version in others if version not in available),
        lacking_components=(
            apt_sources.lacking_components(own, bare.codename) if bare.system == "debian" else ()
        ),
        components=tuple(sorted({each.component for each in own})),
        release_known=bool(own),
        releases=apt_sources.pinned_releases(own, bare.codename),
        sources_trouble=trouble,
        disk_free_mb={path: free_mb(path) for path in driver_host.DISK_MB},
        file_systems={path: Path(path).stat().st_dev for path in driver_host.DISK_MB},
        runfile=Path("/usr/bin/nvidia-uninstall").exists(),
        files={str(path): texts.read(path) for path in driver_files.FILES},
        stale=kernels.stale(can_boot, driver_files.BLACKLIST),
        record=driver_record.read(),
    )
