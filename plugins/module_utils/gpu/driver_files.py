"""The role's own files on a host: where they are, and what is in them."""

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
    """The role's own files by path: APT's pins, what unattended upgrades leave alone, nouveau's, the nodes'.

    `components`: those that the host lacked, of which nothing but the driver is to be taken, in `releases`.
    `version`: of the driver, empty before it is known.
    """
    # APT takes the first record that names a package and matches a version, so the order matters.
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


# The driver makes this node when a program first asks for it, as root; the service's sandbox may not, and
# opens only nodes that are there when it starts. Ubuntu has that program in a package of its own.
_NODES = """\
[Unit]
Before=katago-mcp.service
[Service]
ExecStartPost=-/usr/bin/nvidia-modprobe -u -c 0
"""

HEAD = "{} Kept by the role gpu_driver, which alone changes the driver.\n"

# What APT reads before it does anything.
OF_APT = (KEYRING, SOURCES, STANZAS, PREFERENCES)

FILES = (*OF_APT, UNATTENDED, BLACKLIST, DROP_IN)
