"""The paths and unit names on a host that more than one module uses."""

from __future__ import annotations

from pathlib import Path

PROC = Path("/proc")
# The unified hierarchy, and systemd's own hierarchy on hosts that mount both.
CONTROL_GROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"))
SYSTEM_UNITS = Path("/etc/systemd/system")
JOURNALS = (Path("/var/log/journal"), Path("/run/log/journal"))
NFT = Path("/usr/sbin/nft")
DEV = Path("/dev")
OS_RELEASE = Path("/etc/os-release")

# Information about GPUs from the kernel and NVIDIA's driver.
PCI_DEVICES = Path("/sys/bus/pci/devices")
KERNEL_MODULES = Path("/sys/module")
NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")
NVIDIA_VERSION = Path("/proc/driver/nvidia/version")

# The service.
SERVICE_UNIT = "katago-mcp.service"
# Units of this collection besides the service: tuning, pre-flight validation, backups, watches, and so on.
OWN_UNITS = "katago-"
SERVICE_UNIT_FILE = SYSTEM_UNITS / SERVICE_UNIT
# User and group have the same name.
SERVICE_GROUP = SERVICE_USER = "katago-mcp"
CONFIG = Path("/etc/katago-mcp/config.json")
COMMAND = Path("/usr/local/bin/katago-mcp")
CREDENTIALS = Path("/etc/katago-mcp/credentials")
TOKENS = "tokens.json"
OPERATOR_TOKEN = "operator.token"  # noqa: S105 (a file's name)
SESSION_KEY = "session.key"
SHARED_CACHE_PASSWORD = "shared-cache.password"  # noqa: S105 (a file's name)
SHARED_CACHE_CA = "shared-cache.crt"
CERTIFICATE = "tls.crt"
KEY = "tls.key"
# A public copy of the certificate. Clients on the host pin it.
PINNED_CERTIFICATE = Path("/etc/katago-mcp") / CERTIFICATE
STATE = Path("/var/lib/katago-mcp")
CACHE = Path("/var/cache/katago-mcp")
ANSWERS = CACHE / "answers.sqlite3"
HISTORY = STATE / "history.jsonl"
BASELINE = STATE / "baseline.json"
QUARANTINE = STATE / "quarantine"

# Releases, and what they depend on.
RELEASE_ROOT = Path("/opt/katago-mcp")
ASSETS = Path("/opt/katago")

# The uppermost directories that are ours and open to all users of the host.
OWN = (RELEASE_ROOT, ASSETS, CONFIG.parent, STATE)

# Temporarily lowered limits: written by root, read by the service, not part of a release. Survives a reboot.
OVERLAY = STATE / "overlay.json"
OVERLAY_TIMER = "katago-mcp-overlay-expiry.timer"
OVERLAY_EXPIRY_UNIT = "katago-mcp-overlay-expiry.service"

# In memory, so that it works if disks are full or read-only. A reboot removes the lock, and also ends the
# playbook's work on the host.
HOST_LOCK = Path("/run/katago-mcp.lock")

# Exists from the first change of a replaced host until its replacement has finished.
REPLACEMENT = Path("/var/lib/katago-replacement/started.json")

# Not below the service's state, which is backed up: a restored host must not be in security mode.
SECURITY_DIRECTORY = Path("/var/lib/katago-security")
# The first works if disks are full or read-only, the second survives a reboot.
SECURITY_MODE_VOLATILE = Path("/run/katago-security.json")
SECURITY_MODE_LASTING = SECURITY_DIRECTORY / "mode.json"
SECURITY_MODE = (SECURITY_MODE_VOLATILE, SECURITY_MODE_LASTING)
ISOLATION_RULES = SECURITY_DIRECTORY / "isolation.nft"
ISOLATION_UNIT = "katago-security.service"

# Reminders of an incident: the plans, and a record of what was sent.
INCIDENT_STATE = Path("/var/lib/katago-incident")
INCIDENT_CHANNELS = Path("/etc/katago-incident/sinks.json")
REMINDER_PROGRAM = Path("/usr/local/sbin/katago-incident-timekeeper")
REMINDER_UNIT = "katago-incident.service"
REMINDER_TIMER = "katago-incident.timer"

WATCH_PROGRAM = Path("/usr/local/sbin/katago-watch")
WATCH_ORDER = Path("/var/lib/katago-watch/order.json")
WATCH_SAMPLES = Path("/run/katago-watch/samples.jsonl")
WATCH_UNIT = "katago-watch.service"
WATCH_UNIT_FILE = SYSTEM_UNITS / WATCH_UNIT

# The configuration of the monitoring hosts.
MONITORING = Path("/etc/katago-monitoring")
# The directory that node exporter reads metrics from.
TEXTFILES = Path("/var/lib/prometheus/node-exporter")
HOST_METRICS = TEXTFILES / "katago_host.prom"
HOST_METRICS_PROGRAM = Path("/usr/local/sbin/katago-host-metrics")
HOST_METRICS_CHECKED = Path("/run/katago-host-metrics/checked.json")
INVENTORY_METRICS = TEXTFILES / "katago_inventory.prom"
PROBER_PROGRAM = Path("/usr/local/sbin/katago-prober")
PROBER_ORDER = MONITORING / "prober.json"
HOST_METRICS_UNIT = "katago-host-metrics.service"
HOST_METRICS_TIMER = "katago-host-metrics.timer"

# Repairs by the host itself. The state is readable by all users, so that monitoring can export it.
SELF_HEALING_PROGRAM = Path("/usr/local/sbin/katago-self-healing")
SELF_HEALING_SETTINGS = Path("/etc/katago-self-healing/settings.json")
SELF_HEALING_DIRECTORY = Path("/var/lib/katago-self-healing")
SELF_HEALING_STATE = SELF_HEALING_DIRECTORY / "state.json"
SELF_HEALING_LOG = SELF_HEALING_DIRECTORY / "repairs.jsonl"
SELF_HEALING_EVIDENCE = SELF_HEALING_DIRECTORY / "evidence"
# The first works if disks are full or read-only, the second survives a reboot. Any file there pauses repairs.
SELF_HEALING_PAUSE = (Path("/run/katago-self-healing.paused"), SELF_HEALING_DIRECTORY / "paused")
# Only one instance of the program works at a time.
SELF_HEALING_GUARD = Path("/run/katago-self-healing.guard")
SELF_HEALING_UNIT = "katago-self-healing@.service"
SELF_HEALING_ON_FAILURE = "katago-self-healing@failure.service"
SELF_HEALING_CHECK = "katago-self-healing@check.service"
SELF_HEALING_TIMER = "katago-self-healing.timer"
SELF_HEALING_DROP_IN = SYSTEM_UNITS / f"{SERVICE_UNIT}.d" / "50-self-healing.conf"

# Repairs of the fleet, by a monitoring host: its account, which every host has, and what it works with.
FLEET_HEALING_ACCOUNT = "katago-healing"
FLEET_HEALING_SETTINGS = Path("/etc/katago-healing/settings.json")
FLEET_HEALING_PROGRAMS = Path("/opt/katago-healing")
FLEET_HEALING_DIRECTORY = Path("/var/lib/katago-healing")
FLEET_HEALING_STATE = FLEET_HEALING_DIRECTORY / "state.json"
FLEET_HEALING_GUARD = FLEET_HEALING_DIRECTORY / "guard"
FLEET_HEALING_LOG = FLEET_HEALING_DIRECTORY / "repairs.jsonl"
# The home of the account on hosts that it logs in to. Root owns it, so the account cannot change its key.
FLEET_HEALING_HOME = Path("/etc/katago-healing-account")
FLEET_HEALING_SUDO = Path("/etc/sudoers.d/katago-healing")
# Written by the receiver of alerts, which has no other right.
FLEET_HEALING_EVENTS = Path("/var/spool/katago-healing")
FLEET_HEALING_PAUSE = (Path("/run/katago-healing.paused"), FLEET_HEALING_DIRECTORY / "paused")
FLEET_HEALING_UNIT = "katago-healing.service"
FLEET_HEALING_PATH_UNIT = "katago-healing.path"
FLEET_HEALING_RECEIVER = "katago-healing-receiver.service"

# Drills. The state is what undoes a fault, so it must survive a reboot.
DRILL_PROGRAM = Path("/usr/local/sbin/katago-drill")
DRILL_DIRECTORY = Path("/var/lib/katago-drill")
DRILL_VOLATILE = Path("/run/katago-drill")
DRILL_UNDO_UNIT = "katago-drill-undo.service"
DRILL_UNDO_TIMER = "katago-drill-undo.timer"
DRILL_HELPER_UNIT = "katago-drill-helper.service"
DRILL_DROP_IN = "50-katago-drill.conf"

# Readable by root only. The backup's unit receives them with LoadCredential.
BACKUP_SECRETS = Path("/etc/katago-backup")
RESTIC_REPOSITORY = "repository"
RESTIC_PASSWORD = "password"  # noqa: S105 (a file's name)
RESTIC_ENVIRONMENT = "environment"
RESTIC_SSH_KEY = "ssh_key"
RESTIC_KNOWN_HOSTS = "known_hosts"
BACKUP_SETTINGS = BACKUP_SECRETS / "settings.json"
BACKUP_DIRECTORY = Path("/var/lib/katago-backup")
BACKUP_STATE = BACKUP_DIRECTORY / "state.json"
BACKUP_CACHE = Path("/var/cache/katago-backup")
BACKUP_LOCK = Path("/run/katago-backup.lock")
BACKUP_UNIT = "katago-backup.service"
BACKUP_TRIAL_UNIT = "katago-backup-trial.service"
# The restored configuration, for the pre-flight validation of a backup without environments.
BACKUP_TRIAL_CONFIG = Path("/run/katago-backup-config")

# The load balancer.
LOAD_BALANCER_UNIT = "haproxy.service"
LOAD_BALANCER_DIRECTORY = Path("/etc/katago-load-balancer")
LOAD_BALANCER_SETTINGS = LOAD_BALANCER_DIRECTORY / "settings.json"
LOAD_BALANCER_STATE = Path("/var/lib/katago-load-balancer")
ROTATION = LOAD_BALANCER_STATE / "rotation.json"
LOAD_BALANCER_CHECK = Path("/usr/local/sbin/katago-load-balancer-check")
HAPROXY = Path("/usr/sbin/haproxy")
HAPROXY_CONFIG = Path("/etc/haproxy/haproxy.cfg")
HAPROXY_SOCKET = Path("/run/haproxy/admin.sock")
KEEPALIVED = Path("/usr/sbin/keepalived")
KEEPALIVED_UNIT = "keepalived.service"
LOADED = Path("/run/katago-loaded")
"""What units have loaded whose programs do not report it."""
KEEPALIVED_CONFIG = Path("/etc/keepalived/keepalived.conf")


def own(path: Path) -> Path | None:
    """The uppermost of our directories that leads to `path`, or is it; None if there is none.

    Only for directories that all users of the host may enter.
    """
    return next((directory for directory in OWN if path.is_relative_to(directory)), None)
