"""The systemd timer that sends reminders of incidents from a host, and the record of what it sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import systemd_run

WHO = "timekeeper"
"""The value of `who` in records. It keeps its first name, so that older records match."""


def read(record: Path) -> list[dict[str, Any]]:
    """The recorded events, the oldest first. An incomplete last line is ignored."""
    if not record.exists():
        return []
    whole = record.read_bytes().rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def units() -> Mapping[Path, str]:
    """The timer and its service, by path. systemd passes the secrets as a credential."""
    directory = Path("/etc/systemd/system")
    return {
        directory / paths.REMINDER_UNIT: f"""\
[Unit]
Description=Incident reminders for the KataGo MCP server
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={paths.REMINDER_PROGRAM}
LoadCredential=sinks:{paths.INCIDENT_CHANNELS}
StateDirectory={paths.INCIDENT_STATE.name}
StateDirectoryMode=0700
TimeoutStartSec=300
{systemd_run.HARDENED}MemoryDenyWriteExecute=true
CapabilityBoundingSet=
UMask=0077
""",
        directory / paths.REMINDER_TIMER: """\
[Unit]
Description=Incident reminders for the KataGo MCP server

[Timer]
OnCalendar=minutely
AccuracySec=1s

[Install]
WantedBy=timers.target
""",
    }
