"""Runs all scenarios in a row, each as a drill of its own, and writes their table."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import directories, files, shape
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import game_day
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.store import DrillRecords
from ansible_collections.katago.fleet.plugins.plugin_utils.run import (
    arguments,
    commands,
    fleet_hosts,
    procedures,
)

display = Display()


class ActionModule(ActionBase):
    """Runs once, on the control node."""

    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the drills, write the table after each of them, and return the outcomes."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given, known = arguments.validated(self), task_vars or {}
        names = given["scenarios"] or list(SCENARIOS)
        if unknown := [name for name in names if name not in SCENARIOS]:
            msg = f"-e scenarios names {', '.join(unknown)}. Accepted: {', '.join(SCENARIOS)}."
            return {**result, "failed": True, "refused": True, "msg": f"Refused; nothing was changed. {msg}"}
        records = DrillRecords(Path(given["records_dir"]))
        started, begun = timestamps.now(), time.monotonic()
        directory = Path(given["records_dir"]) / "reports"
        path = directory / f"game-day-{started.replace(':', '')}.md"
        rows: list[game_day.Row] = []
        try:
            directories.make(directory, mode=directories.PRIVATE)
            fleet = known["groups"][fleet_hosts.GROUP]
            for number, name in enumerate(names):
                # In turn, because the budget of self-healing counts the repairs of a host.
                rows.append(self._drill(records, name, fleet[number % len(fleet)], given, known))
                files.write(path, game_day.table(rows).encode(), mode=0o600)
                display.display(f"[{len(rows)}/{len(names)}] {game_day.line(rows[-1])}")
        except OSError as error:
            raise AnsibleActionFail(f"The game day was interrupted: {error}") from error
        counts = game_day.totals(rows)
        shown = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
        duration = timedelta(seconds=round(time.monotonic() - begun))
        message = f"{len(rows)} drills in {duration}: {shown}. The table is in {path}."
        failed = counts.get("passed", 0) < len(rows)
        return {**result, "changed": True, "failed": failed, "msg": message, "table": str(path), **counts}

    def _drill(
        self, records: DrillRecords, name: str, host: str, given: Mapping[str, Any], known: Mapping[str, Any]
    ) -> game_day.Row:
        before = {each["id"] for each in records.load_all()[0]}
        own = procedures.inputs_of("drill_game_day")
        extra = {key: value for key, value in load_extra_vars(DataLoader()).items() if key not in own}
        command = [str(Path(sys.executable).parent / "ansible-playbook")]
        command += shlex.split(commands.playbook("drill"))
        for source in known.get("ansible_inventory_sources") or []:
            command += ["-i", str(source)]
        extra |= {"scenario": name, "mode": "unattended", "minutes": given["minutes"], "targets": [host]}
        done = subprocess.run(
            [*command, "-e", json.dumps(extra)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        new = [each for each in records.load_all()[0] if each["id"] not in before]
        if not new:
            return game_day.Row(name, None, reason=game_day.refusal(done.stdout, done.stderr))
        (record,) = new
        return game_day.Row(name, record, _score(records.directory(record["id"])))


def _score(directory: Path) -> float | None:
    """The score of a drill; None if it was not scored."""
    try:
        score = shape.mapping(shape.parsed((directory / "scorecard.json").read_bytes())).get("score")
    except (OSError, shape.ShapeError):
        return None
    return float(score) if isinstance(score, int | float) else None
