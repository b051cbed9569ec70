"""What this collection puts on a host, and so removes from it; and what it leaves there.

A unit test compares the lists with `module_utils.paths` and with every path in the code, so that none is
forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from ansible_collections.katago.fleet.plugins.module_utils import paths

Keep = Literal["nothing", "data"]


@dataclass(frozen=True)
class Part:
    """Paths that are removed together. `is_data`: `keep=data` keeps them."""

    name: str
    paths: tuple[Path, ...]
    is_data: bool = False


# Links that a deployment makes.
LINKS = (paths.RELEASE_ROOT / "current", paths.SERVICE_UNIT_FILE, paths.COMMAND, paths.CONFIG)

# In the order of their removal. First what makes the host run a release, and last what finds its backup.
PARTS = (
    Part("links to the release", LINKS),
    Part("releases", (paths.RELEASE_ROOT,)),
    Part("engines, networks and tuning", (paths.ASSETS,)),
    Part("credentials and configuration", (paths.CONFIG.parent,)),
    Part("state and history", (paths.STATE,), is_data=True),
    Part("cache", (paths.CACHE, Path("/var/cache/katago-mcp-quarantine")), is_data=True),
    Part(
        "files of tuning and tests",
        (
            Path("/var/cache/katago-ansible"),
            Path("/var/cache/katago-caches"),
            Path("/var/cache/katago-gpu-query"),
            Path("/var/cache/katago-tuning"),
            Path("/run/katago-mcp-trial"),
            Path("/run/katago-tuning-supplied.txt"),
            Path("/run/katago-tuning.cfg"),
            paths.BACKUP_TRIAL_CONFIG,
        ),
    ),
    Part(
        "security mode",
        (
            paths.SECURITY_DIRECTORY,
            paths.SECURITY_MODE_VOLATILE,
        ),
    ),
    Part("watches", (paths.WATCH_PROGRAM, paths.WATCH_ORDER.parent, paths.WATCH_SAMPLES.parent)),
    Part(
        "reminders of incidents",
        (paths.REMINDER_PROGRAM, paths.INCIDENT_CHANNELS.parent, paths.INCIDENT_STATE),
    ),
    Part(
        "exporters and programs of monitoring",
        (
            paths.HOST_METRICS_PROGRAM,
            paths.HOST_METRICS,
            paths.HOST_METRICS_CHECKED.parent,
            paths.PROBER_PROGRAM,
            paths.INVENTORY_METRICS,
            paths.MONITORING,
            Path("/etc/katago-exporters"),
            Path("/var/lib/katago-alertmanager"),
            Path("/var/lib/katago-prometheus"),
        ),
    ),
    Part(
        "repairs by the host itself",
        (
            paths.SELF_HEALING_PROGRAM,
            paths.SELF_HEALING_SETTINGS.parent,
            paths.SELF_HEALING_DIRECTORY,
            paths.SELF_HEALING_PAUSE[0],
            paths.SELF_HEALING_GUARD,
        ),
    ),
    Part(
        "repairs of the fleet and their account",
        (
            paths.FLEET_HEALING_SUDO,
            paths.FLEET_HEALING_HOME,
            paths.FLEET_HEALING_SETTINGS.parent,
            paths.FLEET_HEALING_PROGRAMS,
            paths.FLEET_HEALING_DIRECTORY,
            paths.FLEET_HEALING_EVENTS,
            paths.FLEET_HEALING_PAUSE[0],
            Path("/run/katago-healing-receiver"),
        ),
    ),
    Part("drills", (paths.DRILL_PROGRAM, paths.DRILL_DIRECTORY, paths.DRILL_VOLATILE)),
    Part("mark of a replacement", (paths.REPLACEMENT.parent,)),
    Part(
        "program and settings of backups",
        (
            Path("/usr/local/sbin/katago-backup"),
            paths.BACKUP_LOCK,
            paths.BACKUP_CACHE,
            paths.BACKUP_DIRECTORY,
            paths.BACKUP_SECRETS,
        ),
    ),
)

# Timers first, so that none starts a service that is stopped.
UNITS = (
    "katago-backup.timer",
    paths.DRILL_UNDO_TIMER,
    paths.HOST_METRICS_TIMER,
    paths.OVERLAY_TIMER,
    paths.REMINDER_TIMER,
    paths.SELF_HEALING_TIMER,
    paths.FLEET_HEALING_PATH_UNIT,
    paths.FLEET_HEALING_RECEIVER,
    paths.FLEET_HEALING_UNIT,
    # Before the service is stopped.
    paths.SELF_HEALING_UNIT,
    paths.SELF_HEALING_ON_FAILURE,
    paths.SELF_HEALING_CHECK,
    paths.BACKUP_UNIT,
    paths.BACKUP_TRIAL_UNIT,
    paths.DRILL_UNDO_UNIT,
    paths.DRILL_HELPER_UNIT,
    paths.OVERLAY_EXPIRY_UNIT,
    paths.REMINDER_UNIT,
    paths.WATCH_UNIT,
    paths.ISOLATION_UNIT,
    paths.HOST_METRICS_UNIT,
    "katago-alertmanager.service",
    "katago-blackbox-exporter.service",
    "katago-exporter-gateway.service",
    "katago-node-exporter.service",
    "katago-prober.service",
    "katago-prometheus.service",
    # Units of systemd-run, which modules name.
    "katago-gpu-query.service",
    "katago-mcp-start-check.service",
    "katago-mcp-trial.service",
    paths.SERVICE_UNIT,
)

# Patterns of units of systemd-run. Only transient units are ours: a file with such a name is not.
TRANSIENT_UNITS = ("katago-assets-*.service", "katago-caches-*.service", "katago-tuning-*.service")
TRANSIENT_DIRECTORY = Path("/run/systemd/transient")

# Where systemd has units and drop-ins of the host's administrator; those in /run until the next reboot.
UNIT_DIRECTORIES = (
    paths.SYSTEM_UNITS,
    Path("/run/systemd/system"),
    Path("/etc/systemd/system.control"),
    Path("/run/systemd/system.control"),
)
TIMER_STAMPS = Path("/var/lib/systemd/timers")

# Where systemd puts the directories of a unit whose user exists only while it runs [systemd.exec(5)].
PRIVATE = (Path("/var/cache/private"), Path("/var/lib/private"))

PACKAGES = (
    *("default-jre-headless", "nftables", "ocl-icd-libopencl1", "openssh-client", "openssl"),
    *("pocl-opencl-icd", "python3-venv"),
    *("prometheus", "prometheus-alertmanager", "prometheus-blackbox-exporter"),
    *("prometheus-exporter-exporter", "prometheus-node-exporter", "restic", "sudo"),
)
"""The packages that roles install. They stay: other programs of the host may use them."""


@dataclass(frozen=True)
class Kept:
    """What stays on the host, and why. `paths`: patterns of file names."""

    name: str
    why: str
    patterns: tuple[str, ...]


LOCK = Kept(
    "the host's lock",
    "in memory until the next reboot",
    (str(paths.HOST_LOCK), f"{paths.HOST_LOCK}.guard"),
)
KEPT = (
    Kept(
        "the GPU driver with its settings for APT",
        "the driver's packages stay",
        (
            "/etc/apt/apt.conf.d/51katago-gpu-driver",
            "/etc/apt/keyrings/katago-gpu-driver.asc",
            "/etc/apt/preferences.d/katago-gpu-driver",
            "/etc/apt/sources.list.d/katago-gpu-driver.*",
            "/etc/modprobe.d/katago-gpu-driver.conf",
            "/etc/systemd/system/nvidia-persistenced.service.d/katago-gpu-driver.conf",
            "/var/lib/katago-gpu-driver",
        ),
    ),
    Kept(
        "the load balancer",
        "it belongs to the group load_balancer of the inventory",
        (
            "/etc/haproxy",
            "/etc/katago-load-balancer",
            "/etc/keepalived",
            "/run/haproxy",
            "/run/katago-loaded",
            "/usr/local/sbin/katago-load-balancer-check",
            "/usr/sbin/haproxy",
            "/usr/sbin/keepalived",
            "/var/lib/katago-load-balancer",
        ),
    ),
    Kept(
        "files that a deployment found in the place of its own",
        "somebody else made them",
        (
            "/etc/systemd/system/.replaced-katago-mcp.service-*",
            "/usr/local/bin/.replaced-katago-mcp-*",
        ),
    ),
    LOCK,
)

# Constants of `paths` that belong to the system.
FOREIGN = (
    paths.PROC,
    *paths.CONTROL_GROUPS,
    paths.SYSTEM_UNITS,
    paths.TEXTFILES,
    *paths.JOURNALS,
    paths.NFT,
    paths.DEV,
    paths.OS_RELEASE,
    paths.PCI_DEVICES,
    paths.KERNEL_MODULES,
    paths.NVIDIA_GPUS,
    paths.NVIDIA_VERSION,
)


def to_remove(keep: Keep) -> list[Part]:
    """The parts to remove, in order. With `keep=data`, those that are no data."""
    return [part for part in PARTS if not (part.is_data and keep == "data")]


def private(path: Path) -> Path | None:
    """Where a directory lies if its unit has a user only while it runs; None for other directories."""
    return next((each / path.name for each in PRIVATE if path.parent == each.parent), None)


def removes(path: Path) -> bool:
    """Whether a removal that keeps nothing removes a path."""
    return any(path.is_relative_to(each) for part in PARTS for each in part.paths) or any(
        _is_unit_file(each) for each in (path, path.parent)
    )


def stays(path: Path) -> bool:
    """Whether a path is among those that stay, or is a directory of the system."""
    return path in FOREIGN or any(
        above.match(pattern) for each in KEPT for pattern in each.patterns for above in (path, *path.parents)
    )


def unit_files(directories: Iterable[Path] = UNIT_DIRECTORIES) -> list[Path]:
    """The files of our units, their drop-ins, and the links that enable them, also broken ones."""
    existing = [each for each in directories if each.is_dir()]
    enabling = [
        each
        for directory in existing
        for each in directory.iterdir()
        if each.suffix in (".wants", ".requires") and each.is_dir()
    ]
    return sorted(
        path
        for directory in (*existing, *enabling)
        for path in directory.iterdir()
        if path.name.removesuffix(".d") in UNITS
    )


def is_unit(name: str) -> bool:
    """Whether a unit of this name is ours, if it is transient where its name has a pattern."""
    return name in UNITS or any(fnmatchcase(name, pattern) for pattern in TRANSIENT_UNITS)


def stamps(directory: Path = TIMER_STAMPS) -> list[Path]:
    """The files in which systemd records when our timers ran last."""
    return sorted(path for name in UNITS for path in directory.glob(f"stamp-{name}"))


def kept(root: Path = Path("/")) -> list[tuple[Kept, list[Path]]]:
    """What stays and exists below `root`, with its paths."""
    existing = [
        (each, sorted(path for pattern in each.patterns for path in root.glob(pattern.lstrip("/"))))
        for each in KEPT
    ]
    return [(each, found) for each, found in existing if found]


def _is_unit_file(path: Path) -> bool:
    return path.parent in UNIT_DIRECTORIES and path.name.removesuffix(".d") in UNITS
