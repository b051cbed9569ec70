"""The timer that undoes a fault when its time to live is over, and its service."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import Places

RETRY_SECONDS = 5
LOST_STATUS = 65
"""The exit status of the program if the record of the drill is lost."""


def files(places: Places, ttl: int, expires: datetime) -> Mapping[Path, str]:
    """The files of the units, by path. `ttl`: seconds from now to `expires`.

    The timer elapses by the running time, which no change of the clock moves, and by the clock, which also
    counts while the host is off. The program undoes nothing before the time is over.
    """
    return {
        places.system_units / paths.DRILL_UNDO_UNIT: f"""\
[Unit]
Description=Undo the fault of a drill
StartLimitIntervalSec=0

[Service]
Type=oneshot
# Without a sandbox: a file system can only be unmounted from the host's own name space.
ExecStart={places.program} expire
Restart=on-failure
RestartSec={RETRY_SECONDS}
# Without its record, only a person can undo the rest.
RestartPreventExitStatus={LOST_STATUS}
TimeoutStartSec=120
""",
        places.system_units / paths.DRILL_UNDO_TIMER: f"""\
[Unit]
Description=Time to undo the fault of a drill

[Timer]
OnActiveSec={ttl}
OnCalendar={expires:%Y-%m-%d %H:%M:%S} UTC
Persistent=true
AccuracySec=100ms
Unit={paths.DRILL_UNDO_UNIT}

[Install]
WantedBy=timers.target
""",
    }
