"""Which version of the driver is requested, whether it is available, and where it comes from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ansible_collections.katago.fleet.plugins.module_utils.common.apt import Change
from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    apt_sources,
    driver_files,
    driver_packages,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_host import Host
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import (
    DISTRIBUTION,
    LATEST,
    NVIDIA,
    Settings,
)


def package_owner(settings: Settings) -> str:
    """The owner of the packages that the settings select."""
    return "the distribution" if settings.source == DISTRIBUTION else "NVIDIA"


def other_version(settings: Settings, host: Host, dkms: str, branch: str) -> str:
    """Why the installed version must be replaced; empty if it stays, or if none is installed."""
    version = host.installed.get(dkms)
    if version is None:
        return ""
    if settings.version not in ("", LATEST):
        wrong = not is_version(version, settings.version)
        return f"{dkms} is {version}, but {settings.version} is requested" if wrong else ""
    if version in host.elsewhere:
        return f"{dkms} is {version}, which is not {package_owner(settings)}'s package"
    if branch and not driver_packages.of_branch(version, branch):
        return f"{dkms} is {version}, but the branch {branch} is requested"
    newest_offered = next(
        (each for each in host.available if driver_packages.of_branch(each, branch)), version
    )
    if settings.version == LATEST and newest_offered != version:
        return f"{dkms} is {version}, but the latest is {newest_offered}"
    return ""


def wanted_version(settings: Settings, host: Host) -> str:
    """The driver's version to pin while packages change; empty for the newest of the branch.

    Without a request for another version or branch, the installed version stays.
    """
    if settings.version == LATEST:
        return ""
    branch = driver_packages.branch_of(settings, host)
    dkms, _ = driver_packages.of_driver(settings, host, branch)
    if settings.version or other_version(settings, host, dkms, branch):
        return settings.version
    return driver_packages.upstream(host.installed.get(dkms)) or ""


def lacks_version(settings: Settings, host: Host) -> bool:
    """Whether the requested version is neither installed nor kept, and no archive of the source has it.

    False while this role still has to add archives of the source.
    """
    dkms, _ = driver_packages.of_driver(settings, host, driver_packages.branch_of(settings, host))
    if settings.source == NVIDIA:
        has_sources = host.files.get(str(driver_files.SOURCES)) == apt_sources.nvidia_source(
            host.system, host.release, settings.url
        )
    else:
        has_sources = not host.lacking_components
    versions = {host.installed.get(dkms, ""), host.record.earlier.get(dkms, ""), *host.available}
    return (
        settings.version not in ("", LATEST)
        and has_sources
        and not any(is_version(each, settings.version) for each in versions)
    )


def needs_kept_archives(settings: Settings, host: Host) -> bool:
    """Whether the requested version is the previous one, and only its kept archives are left."""
    dkms, _ = driver_packages.of_driver(settings, host, driver_packages.branch_of(settings, host))
    earlier = host.record.earlier.get(dkms, "")
    offered = any(is_version(each, settings.version) for each in host.available)
    return not offered and is_version(earlier, settings.version)


def strays(
    changes: Iterable[Change],
    host: Host,
    present: Mapping[str, str],
    *,
    dkms_package: str,
    branch: str,
    version: str = "",
) -> list[str]:
    """The driver packages that APT would install from another branch, source or `version` than planned.

    `host`: the host after its archives were added. `present`: the versions of its packages, including half
    installed ones, which APT completes without installing them again.
    """
    changed = {each.name: each.new for each in changes if each.new}
    result = [
        f"{name} {new}"
        for name, new in changed.items()
        if driver_packages.belongs(name)
        and name not in driver_packages.OWN_VERSION
        and re.match(r"\d{3}\.\d", driver_packages.upstream(new) or "")
        and not driver_packages.of_branch(new, branch)
    ]
    dkms = changed.get(dkms_package, present.get(dkms_package, ""))
    wrong = version not in ("", LATEST) and not is_version(dkms, version)
    astray = dkms_package not in changed and not driver_packages.of_branch(dkms, branch)
    if wrong or astray or dkms in host.elsewhere:
        result.append(f"{dkms_package} {dkms}")
    return list(dict.fromkeys(result))


def is_version(version: str, requested: str) -> bool:
    """Whether a package's version matches a requested driver version or package version."""
    return driver_packages.upstream(version) == requested or version == requested
