"""Every path and unit name of a host that more than one module knows."""

from __future__ import annotations

from pathlib import Path

PROC = Path("/proc")
# The unified hierarchy, and systemd's own where both are mounted.
CONTROL_GROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"))
SYSTEM_UNITS = Path("/etc/systemd/system")
JOURNALS = (Path("/var/log/journal"), Path("/run/log/journal"))
NFT = Path("/usr/sbin/nft")
DEV = Path("/dev")
OS_RELEASE = Path("/etc/os-release")

# What the kernel and NVIDIA's driver say of GPUs.
PCI_DEVICES = Path("/sys/bus/pci/devices")
KERNEL_MODULES = Path("/sys/module")
NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")
NVIDIA_VERSION = Path("/proc/driver/nvidia/version")

# The service.
SERVICE_UNIT = "katago-mcp.service"
SERVICE_UNIT_FILE = SYSTEM_UNITS / SERVICE_UNIT
# The user has the same name.
SERVICE_GROUP = SERVICE_USER = "katago-mcp"
CONFIG = Path("/etc/katago-mcp/config.json")
COMMAND = Path("/usr/local/bin/katago-mcp")
CREDENTIALS = Path("/etc/katago-mcp/credentials")
TOKENS = "tokens.json"
OPERATOR_TOKEN = "operator.token"  # noqa: S105 (a file's name)
CERTIFICATE = "tls.crt"
KEY = "tls.key"
# The certificate is no secret: whoever on the host talks to the service pins it.
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

# Limits lowered for a while: written by root, read by the service, no part of a release, kept over a reboot.
OVERLAY = STATE / "overlay.json"
OVERLAY_TIMER = "katago-mcp-overlay-expiry.timer"
OVERLAY_EXPIRY_UNIT = "katago-mcp-overlay-expiry.service"

# On a file system in memory: it works where disks are full or read-only, and a reboot ends it, as it
# ends whatever ran on the host.
HOST_LOCK = Path("/run/katago-mcp.lock")

# Not below the service's state, which backups keep: a host that is restored later is not in security mode.
SECURITY_DIRECTORY = Path("/var/lib/katago-security")
# The one works where disks are full or read-only, the other survives a reboot.
SECURITY_MODE_VOLATILE = Path("/run/katago-security.json")
SECURITY_MODE_LASTING = SECURITY_DIRECTORY / "mode.json"
SECURITY_MODE = (SECURITY_MODE_VOLATILE, SECURITY_MODE_LASTING)
ISOLATION_RULES = SECURITY_DIRECTORY / "isolation.nft"
ISOLATION_UNIT = "katago-security.service"

# Reminders of an incident: the plans, and beside them what was sent.
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

# Root's alone; the backup's unit is given them with LoadCredential.
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
# Where the trial of a backup without environments finds the restored configuration.
BACKUP_TRIAL_CONFIG = Path("/run/katago-backup-config")
