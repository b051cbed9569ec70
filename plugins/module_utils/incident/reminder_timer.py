"""The timer that sends reminders of incidents from a host, and the record of what it did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import systemd_run

WHO = "timekeeper"


def read(book: Path) -> list[dict[str, Any]]:
    """What was done, the oldest first; a line that was cut short is left out."""
    if not book.exists():
        return []
    whole = book.read_bytes().rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def units() -> Mapping[Path, str]:
    """The timer and what it starts; secrets are handed over by systemd."""
    directory = Path("/etc/systemd/system")
    return {
        directory / paths.REMINDER_UNIT: f"""\
[Unit]
Description=Reminders of incidents of the KataGo MCP server
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
Description=Reminders of incidents of the KataGo MCP server

[Timer]
OnCalendar=minutely
AccuracySec=1s

[Install]
WantedBy=timers.target
""",
    }
