"""What the journal of a host can show: whether journald keeps messages, and what it lacks of a period.

A journal without errors is a finding only if it would show them.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils import paths

JOURNALD = "systemd-journald.service"
# SD_MESSAGE_JOURNAL_DROPPED of systemd's catalogue: the rate limit dropped messages of a unit.
_DROPPED = "a596d6fe7bfa4994828e72309e95d61e"
# The newest entries, in which a change of the clock shows.
_COMPARED = 500
_CLOCK_SECONDS = 30
_START_SECONDS = 60
_SECONDS = 10
_FILES = ("/run/log/journal", "/var/log/journal")
_SETTING = re.compile(r"^\s*(Storage|MaxLevelStore)\s*=\s*(\w+)", re.M)
_LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info")
"""Levels of syslog, the most severe first. The service logs at the last one."""


class View(TypedDict):
    """`blind`: why the journal shows nothing of the service, empty if it does. `gaps`: what it lacks."""

    blind: str
    gaps: list[str]


@dataclass(frozen=True)
class Reading:
    """What is known of a host's journal.

    `journald`, `unit`: properties of the two units in systemd. `storage`, `stored`: where and up to which
    level journald keeps messages, as configured, empty by default.
    `files`: whether there are journal files. `oldest`: the oldest entry since the boot. `newest`: the newest
    entries, the newest last. `dropped`: the messages about dropped ones. `problems`: of journalctl, such as
    damaged files. `realtime`, `monotonic`: now, in seconds by the host's two clocks.
    """

    journald: Mapping[str, str]
    unit: Mapping[str, str]
    storage: str
    stored: str
    files: bool
    oldest: Mapping[str, Any] | None
    newest: Sequence[Mapping[str, Any]]
    dropped: Sequence[str]
    problems: Sequence[str]
    realtime: float
    monotonic: float


def view(reading: Reading, minutes: int) -> View:
    """What the journal shows of the last `minutes`. Pure."""
    return {"blind": _blind(reading), "gaps": _gaps(reading, minutes)}


def look(minutes: int) -> View:
    """What the host's journal shows of the last `minutes`. Raises OSError and subprocess.TimeoutExpired."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    of_boot = f"_BOOT_ID={boot}"
    newest, problems = _entries([of_boot], lines=_COMPARED)
    settings = _settings()
    dropped, _ = _entries([f"MESSAGE_ID={_DROPPED}", f"--since=-{minutes}min"], lines=100)
    reading = Reading(
        journald=_properties(JOURNALD, "ActiveState", "ExecMainStartTimestampMonotonic"),
        unit=_properties(paths.SERVICE_UNIT, "LoadState", "StandardError", "LogNamespace", "LogLevelMax"),
        storage=settings.get("Storage", ""),
        stored=settings.get("MaxLevelStore", ""),
        files=any(True for place in _FILES for _ in Path(place).glob("*/*.journal")),
        oldest=_oldest(of_boot),
        newest=newest,
        dropped=[str(each.get("MESSAGE") or "") for each in dropped],
        problems=problems,
        realtime=time.time(),
        monotonic=time.monotonic(),
    )
    return view(reading, minutes)


def _blind(reading: Reading) -> str:
    if reading.journald.get("ActiveState") not in ("active", "activating", "reloading"):
        return f"{JOURNALD} is {reading.journald.get('ActiveState') or 'in an unknown state'}"
    if namespace := reading.unit.get("LogNamespace"):
        return f"the unit logs to the journal namespace {namespace} (LogNamespace=)"
    output = reading.unit.get("StandardError") or "journal"
    if reading.unit.get("LoadState") == "loaded" and not output.startswith(("journal", "inherit")):
        return f"the unit does not log to the journal (StandardError={output})"
    for setting, level in (
        ("MaxLevelStore= in journald.conf", reading.stored),
        ("LogLevelMax= of the unit", reading.unit.get("LogLevelMax", "")),
    ):
        if level in _LEVELS[:-1] or (level.isdigit() and int(level) < len(_LEVELS) - 1):
            return (
                f"the service's messages are not kept, because they have the level info ({setting}: {level})"
            )
    started = int(reading.journald.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
    newest = _monotonic(reading.newest[-1]) if reading.newest else 0.0
    if newest < started and (reading.storage == "none" or not reading.files):
        return "journald keeps no messages on this host; see Storage= in journald.conf"
    return ""


def _gaps(reading: Reading, minutes: int) -> list[str]:
    gaps = list(reading.problems)
    since = reading.monotonic - 60 * minutes
    started = int(reading.journald.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
    oldest = _monotonic(reading.oldest) if reading.oldest else None
    if oldest is not None and oldest > max(since, started + _START_SECONDS):
        gaps.append(
            f"its oldest entry is only {reading.monotonic - oldest:.0f} s old; older ones were deleted"
        )
    if dropped := [each for each in reading.dropped if paths.SERVICE_UNIT in each]:
        gaps.append(f"journald's rate limit dropped messages: {dropped[-1]}")
    offset = reading.realtime - reading.monotonic
    jumps = [
        offset - (int(each["__REALTIME_TIMESTAMP"]) / 1e6 - _monotonic(each))
        for each in reading.newest
        if _monotonic(each) >= since
    ]
    if jumps and abs(jump := max(jumps, key=abs)) > _CLOCK_SECONDS:
        gaps.append(
            f"the host's clock was changed by {jump:+.0f} s, so times in the journal are not comparable"
        )
    return gaps


def _monotonic(entry: Mapping[str, Any]) -> float:
    return int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6


def _journalctl(arguments: Sequence[str]) -> list[str]:
    fields = "--output-fields=MESSAGE"
    return ["journalctl", "--output=json", "--quiet", "--no-pager", fields, *arguments]


def _entries(arguments: Sequence[str], *, lines: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The newest matching entries, the newest last, and what journalctl could not read."""
    done = subprocess.run(
        _journalctl([f"--lines={lines}", *arguments]),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_SECONDS,
        check=False,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr.strip().splitlines()[:1]


def _oldest(match: str) -> dict[str, Any] | None:
    """The oldest matching entry. journalctl of systemd 252 has no option for it, so its output is cut."""
    with subprocess.Popen(
        _journalctl([match]), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace"
    ) as running:
        line = running.stdout.readline() if running.stdout else ""
        running.kill()
    return json.loads(line) if line else None


def _properties(unit: str, *names: str) -> dict[str, str]:
    done = subprocess.run(
        ["systemctl", "show", unit, f"--property={','.join(names)}"],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def _settings() -> dict[str, str]:
    """The configured settings of journald, without defaults; none if systemd-analyze is not installed."""
    try:
        done = subprocess.run(
            ["systemd-analyze", "cat-config", "systemd/journald.conf"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        return {}
    return {name: value.lower() for name, value in _SETTING.findall(done.stdout)}
