"""The watch of a fleet's alerts during a drill. A real alert has the drill end.

It runs on the control node beside the drill, one run of Ansible for all monitoring hosts, since their
Alertmanagers listen on the loopback interface only.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import files, shape
from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import alerts
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.procedure_runs import Setting
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.store import DrillRecords

MODULE = "katago.fleet.drill_alerts"
_ANSWERS = "alerts.jsonl"
_OUTPUT = "alerts.log"
_PORT = "{{ monitoring_alertmanager_port | default(9093) }}"


def start(
    setting: Setting, monitors: Sequence[str], root: Path, drill: str, seconds: float
) -> subprocess.Popen[bytes]:
    """Start the watch of a drill. It ends with the drill, or after `seconds`. Raises OSError.

    Its command line has nothing that is secret in a sealed drill.
    """
    arguments = {"records_dir": str(root), "drill": drill, "seconds": seconds, "port": _PORT}
    with (setting.directory / _OUTPUT).open("wb") as output:
        return subprocess.Popen(
            setting.module(MODULE, monitors, arguments),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


class Watch:
    """The watch of a drill on one monitoring host."""

    def __init__(self, records: DrillRecords, drill: str, monitor: str) -> None:
        self._records, self._drill, self._monitor = records, drill, monitor
        self._noted = {"problem": False, "answer": False}

    def is_over(self, life: Callable[[str], host_lock.Life]) -> bool:
        """Whether the drill has ended or must end, or its run is gone. Raises DrillRecordError."""
        return (
            self._records.load(self._drill)["outcome"] != "running"
            or bool(self._records.abort_requested(self._drill))
            or life(self._records.run_of(self._drill)) == "dead"
        )

    def look(self, answer: Mapping[str, Any], here: datetime) -> None:
        """Have the drill end if an answer of the monitoring host has a real alert.

        `here`: the time of the control node when the host answered. An answer that cannot be used is noted
        once, and the drill continues. Raises DrillRecordError and OSError.
        """
        if problem := str(answer.get("problem") or ""):
            self._note(problem)
            return
        drill = self._records.load(self._drill)
        try:
            since = alerts.since(drill, here, datetime.fromisoformat(str(answer.get("now"))))
            alert = alerts.real(alerts.read(answer.get("alerts") or []), drill, since)
        except ValueError as error:
            self._note(f"its answer cannot be used: {error}")
            return
        self._note("")
        if alert is not None:
            self._records.request_abort(self._drill, alerts.reason(alert))

    def _note(self, problem: str) -> None:
        kind = "problem" if problem else "answer"
        if not self._noted[kind]:
            self._noted[kind] = True
            line = json.dumps({"monitor": self._monitor, "problem": problem}) + "\n"
            files.append(self._records.directory(self._drill) / _ANSWERS, line.encode(), mode=0o600)


def problems(records: DrillRecords, drill: str, monitors: Sequence[str]) -> Iterator[str]:
    """A sentence for each monitoring host that could not be asked during a drill. Raises OSError."""
    path = records.directory(drill) / _ANSWERS
    content = path.read_bytes() if path.exists() else b""
    answers = [shape.mapping(shape.parsed(line)) for line in content.splitlines()]
    for monitor in monitors:
        own = [str(each["problem"]) for each in answers if each["monitor"] == monitor]
        if not own:
            output = records.directory(drill) / _OUTPUT
            yield f"The watch of alerts did not ask {monitor} before the drill ended; its output is {output}."
        elif problem := next(filter(None, own), ""):
            yield f"The alerts of {monitor} could not be read, so none of them ended the drill: {problem}."
