"""The role's own files on a host: their paths and contents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.gpu import driver_packages
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_settings import DISTRIBUTION, Settings

PREFERENCES = Path("/etc/apt/preferences.d/katago-gpu-driver")

SOURCES = Path("/etc/apt/sources.list.d/katago-gpu-driver.list")

STANZAS = Path("/etc/apt/sources.list.d/katago-gpu-driver.sources")

UNATTENDED = Path("/etc/apt/apt.conf.d/51katago-gpu-driver")

BLACKLIST = Path("/etc/modprobe.d/katago-gpu-driver.conf")

DROP_IN = Path("/etc/systemd/system/nvidia-persistenced.service.d/katago-gpu-driver.conf")

KEYRING = Path("/etc/apt/keyrings/katago-gpu-driver.asc")


def contents(
    settings: Settings,
    *,
    components: Sequence[str],
    version: str,
    branch: str,
    releases: Sequence[str] = (),
) -> dict[str, str]:
    """The contents of the role's own files by path.

    They are APT's pins, the blacklist for unattended upgrades, the blacklist for nouveau, and the drop-in
    that creates device nodes. `components`: added components of `releases`, from which only the driver may
    be installed. `version`: the driver's version; empty while it is unknown.
    """
    # APT uses the first record that names a package and matches a version, so the order matters.
    of_its_branch = f"version {branch.partition('-')[0]}.*"
    pins = []
    if settings.source == DISTRIBUTION:
        pins.append(_pin(driver_packages.FAMILY, "release o=NVIDIA", -1))
    elif branch:
        pins.append(_pin(driver_packages.OWN_VERSION, of_its_branch, 1001))
    pins.append(_pin(driver_packages.OWN_VERSION, "release *", 500))
    if version or branch:
        pins.append(_pin(driver_packages.FAMILY, f"version {version}*" if version else of_its_branch, 1001))
    for component in components:
        pins += [_pin("*", f"release {release},c={component}", -1) for release in releases]
    if components:
        pins.append(_pin(driver_packages.FAMILY, "release o=Debian", 500))
    patterns = sorted({each.replace("*", "") for each in driver_packages.FAMILY})
    blacklist = "".join(f'  "^{pattern}";\n' for pattern in patterns)
    return {
        str(PREFERENCES): HEAD.format("#") + "\n".join(pins),
        str(UNATTENDED): HEAD.format("//") + f"Unattended-Upgrade::Package-Blacklist {{\n{blacklist}}};\n",
        str(DROP_IN): HEAD.format("#") + _NODES,
        str(BLACKLIST): HEAD.format("#") + "blacklist nouveau\noptions nouveau modeset=0\n",
    }


def _pin(names: Iterable[str], which: str, priority: int) -> str:
    return f"Package: {' '.join(names)}\nPin: {which}\nPin-Priority: {priority}\n"


# The node nvidia-uvm is created when a root program first uses it. The service's sandbox cannot create it,
# and opens only nodes that exist when it starts. On Ubuntu, nvidia-modprobe is a separate package.
_NODES = """\
[Unit]
Before=katago-mcp.service
[Service]
ExecStartPost=-/usr/bin/nvidia-modprobe -u -c 0
"""

HEAD = "{} Kept by the role gpu_driver, which alone changes the driver.\n"

# Files that APT reads before every operation.
OF_APT = (KEYRING, SOURCES, STANZAS, PREFERENCES)

FILES = (*OF_APT, UNATTENDED, BLACKLIST, DROP_IN)
