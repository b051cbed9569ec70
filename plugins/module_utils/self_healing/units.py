"""The systemd units of self-healing: a service for the program, its timer, and the drop-in that starts it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths

CHECK_SECONDS = 60
# More than a repair takes that waits for an engine which is tuned at its start.
_DEADLINE = 9000


def files() -> Mapping[Path, str]:
    """The files of the units, by path."""
    return {
        paths.SYSTEM_UNITS / paths.SELF_HEALING_UNIT: f"""\
[Unit]
Description=Repairs of the KataGo MCP server by its own host (%i)
ConditionPathExists={paths.SELF_HEALING_SETTINGS}
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart={paths.SELF_HEALING_PROGRAM}
TimeoutStartSec={_DEADLINE}
StateDirectory={paths.SELF_HEALING_DIRECTORY.name}
StateDirectoryMode=0755
ProtectSystem=strict
# Links to the release, override and its timer, cache and its quarantine, journal, records.
ReadWritePaths=-{paths.RELEASE_ROOT} -{paths.CONFIG.parent} -{paths.COMMAND.parent} -{paths.SYSTEM_UNITS}
ReadWritePaths=-/var/cache -{paths.STATE} -/var/log/journal /run
ProtectHome=true
PrivateTmp=true
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectControlGroups=true
ProtectClock=true
ProtectHostname=true
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
MemoryDenyWriteExecute=true
NoNewPrivileges=true
SystemCallArchitectures=native
IPAddressDeny=any
IPAddressAllow=localhost
# Reads the files of all users, kills processes of the service, and runs clients as users without rights.
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_KILL CAP_SETGID CAP_SETUID
CapabilityBoundingSet=CAP_SYS_PTRACE CAP_SYSLOG
UMask=0022
""",
        paths.SYSTEM_UNITS / paths.SELF_HEALING_TIMER: f"""\
[Unit]
Description=Repairs of the KataGo MCP server by its own host

[Timer]
# Not by the calendar, because the clock may jump.
OnActiveSec={CHECK_SECONDS}
OnUnitInactiveSec={CHECK_SECONDS}
AccuracySec=5s
Unit={paths.SELF_HEALING_CHECK}

[Install]
WantedBy=timers.target
""",
        paths.SELF_HEALING_DROP_IN: f"""\
[Unit]
OnFailure={paths.SELF_HEALING_ON_FAILURE}
""",
    }
