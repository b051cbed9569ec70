"""Runs a program in a transient unit until it exits or makes no progress, and describes how it exited."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import endings, progress

POLL_SECONDS = 0.25
LOOK_SECONDS = 2
# Seconds between the exit of a unit and the exit of the systemd-run that waits for it.
_END_SECONDS = 30
_RESULTS = {
    "oom-kill": "it was killed because the host ran out of memory",
    "resources": "systemd could not set up the unit (see `journalctl` of the host)",
    "core-dump": "it crashed",
    "timeout": "systemd stopped it because it ran too long",
}


def clear(unit: str) -> None:
    """Stop a unit and remove it from systemd, so that its name can be used again."""
    for order in ("stop", "reset-failed"):
        subprocess.run(["systemctl", order, unit], check=False, capture_output=True)


def processes(unit: str) -> list[int]:
    """The PIDs of a unit's processes; [] if it has none."""
    group = _show(unit, "ControlGroup").get("ControlGroup", "").strip("/")
    pids: set[int] = set()
    for hierarchy in paths.CONTROL_GROUPS if group else ():
        for file in (hierarchy / group).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                pids.update(map(int, file.read_text().split()))
    return sorted(pids)


def running_for(unit: str) -> float:
    """The seconds since a unit became active; 0 if it is not running."""
    since = _show(unit, "ActiveEnterTimestampMonotonic").get("ActiveEnterTimestampMonotonic", "")
    return time.monotonic() - int(since) / 1e6 if int(since or 0) else 0.0


def ending(unit: str, status: int) -> str:
    """How a unit's program exited: as reported by systemd, or else by the `status` of systemd-run."""
    properties = _show(unit, "Result,ExecMainCode,ExecMainStatus")
    if (result := properties.get("Result", "")) in _RESULTS:
        return _RESULTS[result]
    # CLD_KILLED and CLD_DUMPED [waitid(2)].
    if properties.get("ExecMainCode") in ("2", "3"):
        return endings.of_status(-int(properties["ExecMainStatus"]))
    return endings.of_status(int(properties.get("ExecMainStatus") or 0) or status)


def _show(unit: str, properties: str) -> dict[str, str]:
    done = subprocess.run(
        ["systemctl", "show", unit, f"--property={properties}"], capture_output=True, text=True, check=False
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


@dataclass(frozen=True)
class Run:
    """A program that exited or was stopped. `output`: stdout. `log`: stderr. `ending`: how it exited.

    `stopped`: why it was stopped, with the duration; None if it exited without being stopped.
    """

    status: int
    output: str
    log: str
    ending: str
    stopped: str | None

    def words(self, redact: Callable[[str], str] = str) -> str:
        """How it exited, and its last log lines. Never empty."""
        lines = endings.last_lines(redact(self.log), redact(self.output))
        how = self.stopped or self.ending
        return f"{how}. " + (f"Last log lines: {lines}" if lines else "It wrote nothing.")


def watched(
    command: Sequence[str],
    unit: str,
    *,
    patience: float,
    deadline: float,
    is_enough: Callable[[str], bool] = lambda _: False,
) -> Run:
    """Run a command of `systemd_run.command(wait=True, collect=False)` until its unit exits.

    The unit is stopped after `patience` seconds without progress, after `deadline` seconds in any case, and
    as soon as `is_enough` accepts a line of its output.
    """
    clear(unit)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    outputs: tuple[list[str], list[str]] = ([], [])
    enough = threading.Event()

    def read(stream: Iterable[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line)
            if is_enough(line):
                enough.set()

    streams: list[IO[str]] = [each for each in (process.stdout, process.stderr) if each is not None]
    readers = [
        threading.Thread(target=read, args=pair, daemon=True) for pair in zip(streams, outputs, strict=True)
    ]
    for reader in readers:
        reader.start()

    def activity() -> progress.Activity:
        return progress.of_processes([process.pid, *processes(unit)], paths.PROC, sum(map(len, outputs)))

    watch, began, stopped = progress.Watch(activity()), time.monotonic(), None
    looked = began
    try:
        while process.poll() is None and stopped is None and not enough.wait(POLL_SECONDS):
            now = time.monotonic()
            if now - began > deadline:
                stopped = (
                    f"it was stopped after {now - began:.0f} s, its time limit, while it was still working"
                )
            elif now - looked >= min(LOOK_SECONDS, patience):
                looked = now
                if watch.look(activity()) > patience:
                    still = f"{watch.still:.0f} s"
                    stopped = f"it was stopped because it wrote no output and used no CPU time for {still}"
        if process.poll() is None:
            subprocess.run(["systemctl", "kill", "--signal=KILL", unit], check=False, capture_output=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
    finally:
        process.kill()
        status = process.wait()
        for reader in readers:
            reader.join(_END_SECONDS)
    how = ending(unit, status)
    clear(unit)
    output, log = ("".join(lines) for lines in outputs)
    return Run(status, output, log, how, stopped)
