"""The program that repairs the fleet. A unit starts it on the monitoring host when messages wait."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import endings
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import guard, uptime
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import store
from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing.healer import (
    Healer,
    Places,
    Ran,
    World,
)

DEADLINE = 1800.0
"""Seconds that a procedure may take. A backup of a large host is the longest one."""
MOST_PROCEDURES = 8
"""In a run: triage, incident, evidence, two repairs, and a call after each and after what was refused."""
_GUARD_SECONDS = 60
INVENTORY = "KATAGO_HEALING_INVENTORY"
"""The variable of the environment with the path of the inventory."""


def run(arguments: Sequence[str]) -> Ran:
    """Run ansible-playbook of the program's own environment; never raises for its result."""
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        f"--inventory={os.environ[INVENTORY]}",
        *arguments,
    ]
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            # The output has texts from hosts.
            errors="replace",
            timeout=DEADLINE,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Ran(1, endings.of_error(error))
    return Ran(ended.returncode, endings.last_lines(ended.stdout, ended.stderr, lines=8))


def incident(records: Path, alert: str) -> str:
    """The newest open incident of an alert, or of any alert if it has none; empty without one."""
    incidents, _ = store.IncidentRecords(records).load_all()
    is_open = sorted((each for each in incidents.values() if each.is_open), key=lambda each: each.opened_at)
    same = [each.id for each in is_open if each.alert == alert]
    return (same or [each.id for each in is_open] or [""])[-1]


def journal(level: int, text: str) -> None:
    """Write a line to the journal."""
    print(f"<{level}>{' '.join(text.split())}", file=sys.stderr, flush=True)


def main() -> int:
    """Run once, after a person has resumed."""
    with guard.held(paths.FLEET_HEALING_GUARD, _GUARD_SECONDS), tempfile.TemporaryDirectory() as work:
        world = World(run=run, incident=incident, clock=uptime.read, now=timestamps.now, journal=journal)
        return Healer(Places(Path(work)), world).run()


if __name__ == "__main__":
    sys.exit(main())
