"""Which version of a driver is wanted, whether it can be had, and which versions a restore brings back."""

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


def whose(settings: Settings) -> str:
    """Whose packages are wanted."""
    return "the distribution" if settings.source == DISTRIBUTION else "NVIDIA"


def other_version(settings: Settings, host: Host, dkms: str, branch: str) -> str:
    """Why another version than the installed one is wanted; empty when none is, or none is installed."""
    version = host.installed.get(dkms)
    if version is None:
        return ""
    if settings.version not in ("", LATEST):
        wrong = not is_version(version, settings.version)
        return f"{dkms} is {version}; wanted is {settings.version}" if wrong else ""
    if version in host.elsewhere:
        return f"{dkms} is {version}, which is not {whose(settings)}'s package"
    if branch and not driver_packages.of_branch(version, branch):
        return f"{dkms} is {version}; wanted is the branch {branch}"
    newest_offered = next(
        (each for each in host.available if driver_packages.of_branch(each, branch)), version
    )
    if settings.version == LATEST and newest_offered != version:
        return f"{dkms} is {version}; the newest is {newest_offered}"
    return ""


def wanted_version(settings: Settings, host: Host) -> str:
    """The driver's version to pin while packages change; empty for the newest of the branch.

    What is installed stays, when nothing else is asked for.
    """
    if settings.version == LATEST:
        return ""
    branch = driver_packages.branch_of(settings, host)
    dkms, _ = driver_packages.of_driver(settings, host, branch)
    if settings.version or other_version(settings, host, dkms, branch):
        return settings.version
    return driver_packages.upstream(host.installed.get(dkms)) or ""


def lacks_version(settings: Settings, host: Host) -> bool:
    """Whether the version that is wanted is neither there nor kept, and no archive of its source has it.

    False where those archives are not all known yet, since this role has still to add them.
    """
    dkms, _ = driver_packages.of_driver(settings, host, driver_packages.branch_of(settings, host))
    if settings.source == NVIDIA:
        known = host.files.get(str(driver_files.SOURCES)) == apt_sources.nvidia_source(
            host.system, host.release, settings.url
        )
    else:
        known = not host.lacking_components
    there = {host.installed.get(dkms, ""), host.record.earlier.get(dkms, ""), *host.available}
    return (
        settings.version not in ("", LATEST)
        and known
        and not any(is_version(each, settings.version) for each in there)
    )


def returns(settings: Settings, host: Host) -> bool:
    """Whether the version that is wanted is the earlier one, of which only the kept archives are left."""
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
    """What APT would install of the driver that is of another branch, source or `version` than planned.

    `host`: the host after its archives were added. `present`: the versions of its packages, also of those
    that an interrupted run left in part, which APT finishes without installing them again.
    """
    changed = {each.name: each.new for each in changes if each.new}
    found = [
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
        found.append(f"{dkms_package} {dkms}")
    return list(dict.fromkeys(found))


def is_version(version: str, wanted: str) -> bool:
    """Whether a package's version is the driver's or the package's own that is wanted."""
    return driver_packages.upstream(version) == wanted or version == wanted
