"""The service's journal as data: its own lines by level and error code, and what systemd did with it.

The server logs one JSON object a line, so a line counts by its fields; a harmless line in which the
word "error" occurs does not count.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import redaction

# Of systemd's catalogue: SD_MESSAGE_UNIT_STARTED, SD_MESSAGE_UNIT_FAILURE_RESULT.
_STARTED = "39f53479d3a045ac8e11786248231fbf"
_FAILED = "d9b373ed55a64feb8242e02dbe79a49c"
_COUNTED = ("warning", "error", "critical")
# The states that an engine which ended is in; one that hung is in backoff next.
_ENDED = ("backoff", "config_error")
# What a line says of a failure, the most telling first.
_CODES = ("code", "state", "reason", "errorType")
MOST_LINES = 5000
_LONGEST_CODE = 120
# A file that is being written to fails its verification now and then, each time at another place.
_TRIALS = 4
_AT = re.compile(r"^File corruption detected at .+:(\w+) \(of ", re.M)


class Group(TypedDict):
    """Warnings or errors that are alike: how many, and whether one was an exception nobody had foreseen."""

    level: str
    event: str
    code: str
    count: int
    exception: bool


class Runs(TypedDict):
    """When the unit was started and when it failed, in seconds since the epoch."""

    started: list[float]
    failed: list[float]


class JournalError(Exception):
    """journalctl did not answer; the text is its own."""


def read(
    minutes: int, *matches: str, grep: str | None = None, lines: int = MOST_LINES
) -> list[dict[str, Any]]:
    """The newest entries of the last minutes that match, oldest first.

    Raises:
        JournalError: if journalctl fails.
    """
    argv = ["journalctl", "--output=json", "--quiet", "--no-pager", f"--since=-{minutes}min"]
    argv += [f"--lines={lines}", "--output-fields=MESSAGE,MESSAGE_ID,PRIORITY,_PID"]
    argv += [f"--grep={grep}"] if grep else []
    done = subprocess.run([*argv, *matches], capture_output=True, text=True, errors="replace", check=False)
    # With --grep, status 1 and no words mean that nothing matched.
    if done.returncode != 0 and (not grep or done.stderr.strip()):
        raise JournalError(
            redaction.last_lines(done.stderr, 1000) or f"journalctl ended with {done.returncode}"
        )
    return [json.loads(line) for line in done.stdout.splitlines()]


def own(minutes: int) -> list[dict[str, Any]]:
    """What the service itself wrote."""
    return read(minutes, f"_SYSTEMD_UNIT={paths.SERVICE_UNIT}")


def engine(minutes: int) -> list[dict[str, Any]]:
    """What the service wrote on the states of its engine, however much else it wrote."""
    return read(minutes, f"_SYSTEMD_UNIT={paths.SERVICE_UNIT}", grep='"event": ?"engine_state"')


def manager(minutes: int) -> list[dict[str, Any]]:
    """What systemd wrote about the unit."""
    return read(minutes, f"UNIT={paths.SERVICE_UNIT}", "_PID=1")


def message(entry: Mapping[str, Any]) -> str:
    """An entry's text; journald gives bytes that are no text as numbers."""
    text = entry.get("MESSAGE")
    if isinstance(text, list):
        return bytes(text).decode(errors="replace")
    return str(text or "")


def fields(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """The JSON object that a line of the server is; None when it is none."""
    try:
        parsed = json.loads(message(entry))
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) and "level" in parsed else None


def groups(entries: Sequence[Mapping[str, Any]]) -> list[Group]:
    """Warnings and errors by level, event and code, the most frequent first."""
    counts: Counter[tuple[str, str, str]] = Counter()
    raised = set[tuple[str, str, str]]()
    for entry in entries:
        line = fields(entry)
        if line is None or line["level"] not in _COUNTED:
            continue
        code = next((str(line[name]) for name in _CODES if line.get(name)), "")
        # Half of a secret would not be found in it.
        code = code if len(code) <= _LONGEST_CODE else f"a text of {len(code)} characters"
        group = str(line["level"]), str(line.get("event", "")), code
        counts[group] += 1
        if line.get("traceback"):
            raised.add(group)
    return [
        {"level": group[0], "event": group[1], "code": group[2], "count": count, "exception": group in raised}
        for group, count in counts.most_common()
    ]


def unstructured(entries: Sequence[Mapping[str, Any]]) -> int:
    """How many lines are no JSON, such as those of a traceback."""
    return sum(fields(entry) is None for entry in entries)


def engine_failures(entries: Sequence[Mapping[str, Any]]) -> int:
    """How often the engine ended and had to be started again; a restart by an operator does not count."""
    lines = [line for line in map(fields, entries) if line and line.get("event") == "engine_state"]
    return sum(line.get("state") in _ENDED for line in lines)


def cache_trouble(entries: Sequence[Mapping[str, Any]]) -> str | None:
    """Why the cache does not work, by the last that was said of it; None when it works or recovered."""
    trouble = None
    for line in map(fields, entries):
        event = line.get("event") if line else None
        if line and event in ("cache_trouble", "cache_damaged"):
            trouble = str(line.get("reason") or event)
        elif event == "cache_recovered":
            trouble = None
    return trouble


def runs(entries: Sequence[Mapping[str, Any]]) -> Runs:
    """The starts and failures that systemd wrote of."""

    def at(message_id: str) -> list[float]:
        return [int(each["__REALTIME_TIMESTAMP"]) / 1e6 for each in entries if _is(each, message_id)]

    return {"started": at(_STARTED), "failed": at(_FAILED)}


def _is(entry: Mapping[str, Any], message_id: str) -> bool:
    return entry.get("MESSAGE_ID") == message_id


@dataclass
class Verification:
    """Of the journal's files: how many are whole, why others are damaged by path, how many were not tried."""

    whole: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    left: int = 0


def verified(places: Sequence[Path], seconds: float) -> Verification:
    """Verify every file of the journal in `places`, the newest first, as long as there is time.

    A file counts as damaged when `journalctl --verify` names the same place of it over and over.
    """
    seen = Verification()
    end = time.monotonic() + seconds
    for path in _files(places):
        try:
            trouble = _trouble(path, end)
        except subprocess.TimeoutExpired:
            seen.left += 1
            continue
        if trouble is None:
            seen.whole += 1
        else:
            seen.damaged[str(path)] = trouble
    return seen


def _files(places: Sequence[Path]) -> list[Path]:
    found: dict[Path, float] = {}
    for place in places:
        # *.journal~ are those that were not closed in order.
        for path in [*place.glob("*/*.journal"), *place.glob("*/*.journal~")]:
            with contextlib.suppress(FileNotFoundError):
                found[path] = path.stat().st_mtime
    return sorted(found, key=lambda path: -found[path])


def _trouble(path: Path, end: float) -> str | None:
    """Why a file is damaged; None when it is not, or was rotated away meanwhile. Raises TimeoutExpired."""
    places = set()
    words = ""
    for _ in range(_TRIALS):
        left = max(end - time.monotonic(), 0)
        done = subprocess.run(
            ["journalctl", "--verify", f"--file={path}"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=left,
            check=False,
        )
        found = _AT.search(done.stderr)
        places.add(found and found[1])
        if done.returncode == 0 or len(places) > 1 or not path.exists():
            return None
        words = redaction.plain(done.stderr).strip().partition("\n")[0]
    return words or "journalctl says no more"
