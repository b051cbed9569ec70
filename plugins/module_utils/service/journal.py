"""The service's journal as data: the server's own lines, and systemd's messages about the unit.

The server logs one JSON object a line. Lines are counted by their fields, so a harmless line that contains
the word "error" does not count.
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

# Message ids of systemd's catalogue: SD_MESSAGE_UNIT_STARTED, SD_MESSAGE_UNIT_FAILURE_RESULT.
_STARTED = "39f53479d3a045ac8e11786248231fbf"
_FAILED = "d9b373ed55a64feb8242e02dbe79a49c"
_COUNTED = ("warning", "error", "critical")
_FAILURES = ("error", "critical")
_COMPLAINTS = 5
# The states of an engine that has exited; after hung, the state is backoff.
_ENDED = ("backoff", "config_error")
# The fields of a line that describe a failure, the most specific first.
_CODES = ("code", "state", "reason", "errorType")
MOST_LINES = 5000
_LONGEST_CODE = 120
# The verification of a file that is being written fails now and then, each time at another offset.
_TRIALS = 4
_AT = re.compile(r"^File corruption detected at .+:(\w+) \(of ", re.M)


class Group(TypedDict):
    """Warnings or errors with the same level, event and code.

    `count`: how many. `exception`: whether one of them was an unexpected exception.
    """

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
    """journalctl failed; the message is its own."""


def read(
    minutes: int, *matches: str, grep: str | None = None, lines: int = MOST_LINES
) -> list[dict[str, Any]]:
    """The newest matching entries of the last `minutes`, at most `lines`, oldest first.

    Raises:
        JournalError: if journalctl fails.
    """
    argv = ["journalctl", "--output=json", "--quiet", "--no-pager", f"--since=-{minutes}min"]
    argv += [f"--lines={lines}", "--output-fields=MESSAGE,MESSAGE_ID,PRIORITY,_PID"]
    argv += [f"--grep={grep}"] if grep else []
    done = subprocess.run([*argv, *matches], capture_output=True, text=True, errors="replace", check=False)
    # With --grep, status 1 without a message means that nothing matched.
    if done.returncode != 0 and (not grep or done.stderr.strip()):
        raise JournalError(
            redaction.last_lines(done.stderr, 1000) or f"journalctl exited with status {done.returncode}"
        )
    return [json.loads(line) for line in done.stdout.splitlines()]


def own(minutes: int) -> list[dict[str, Any]]:
    """The entries that the service itself wrote."""
    return read(minutes, f"_SYSTEMD_UNIT={paths.SERVICE_UNIT}")


def since(at: float) -> list[dict[str, Any]]:
    """The entries that the service itself wrote since a time, in seconds since the epoch."""
    # Entries of a program that has just exited may not be in the journal yet.
    subprocess.run(["journalctl", "--sync"], capture_output=True, check=False)
    minutes = int((time.time() - at) / 60) + 1
    return [entry for entry in own(minutes) if int(entry["__REALTIME_TIMESTAMP"]) >= at * 1e6]


def complaints(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """What entries say about a failure: errors, and lines that are not JSON. At most the last `_COMPLAINTS`.

    The server writes a problem of its configuration as plain text, because it cannot log before it is read.
    """
    texts = []
    for entry in entries:
        line = fields(entry)
        if line is None:
            texts.append(message(entry).strip())
        elif line["level"] in _FAILURES:
            details = (f"{name}: {line[name]}" for name in (*_CODES, "message") if line.get(name))
            texts.append(" ".join([str(line.get("event", "")), *details]).strip())
    return [text for text in texts if text][-_COMPLAINTS:]


def engine(minutes: int) -> list[dict[str, Any]]:
    """The entries about states of the engine; other entries do not count towards the limit of lines."""
    return read(minutes, f"_SYSTEMD_UNIT={paths.SERVICE_UNIT}", grep='"event": ?"engine_state"')


def manager(minutes: int) -> list[dict[str, Any]]:
    """The entries that systemd wrote about the unit."""
    return read(minutes, f"UNIT={paths.SERVICE_UNIT}", "_PID=1")


def message(entry: Mapping[str, Any]) -> str:
    """An entry's text. journald returns bytes that are not text as numbers."""
    text = entry.get("MESSAGE")
    if isinstance(text, list):
        return bytes(text).decode(errors="replace")
    return str(text or "")


def fields(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """The JSON object of a line of the server; None if the line is not one."""
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
        # Not shortened: redaction would not recognize half of a secret.
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
    """The number of lines that are not JSON, for example of a traceback."""
    return sum(fields(entry) is None for entry in entries)


def engine_failures(entries: Sequence[Mapping[str, Any]]) -> int:
    """How often the engine exited unexpectedly; a restart by an operator does not count."""
    lines = [line for line in map(fields, entries) if line and line.get("event") == "engine_state"]
    return sum(line.get("state") in _ENDED for line in lines)


def cache_trouble(entries: Sequence[Mapping[str, Any]]) -> str | None:
    """Why the cache does not work, by its last message; None if it works or has recovered."""
    trouble = None
    for line in map(fields, entries):
        event = line.get("event") if line else None
        if line and event in ("cache_trouble", "cache_damaged"):
            trouble = str(line.get("reason") or event)
        elif event == "cache_recovered":
            trouble = None
    return trouble


def runs(entries: Sequence[Mapping[str, Any]]) -> Runs:
    """The starts and failures of the unit that systemd logged."""

    def at(message_id: str) -> list[float]:
        return [int(each["__REALTIME_TIMESTAMP"]) / 1e6 for each in entries if _is(each, message_id)]

    return {"started": at(_STARTED), "failed": at(_FAILED)}


def _is(entry: Mapping[str, Any], message_id: str) -> bool:
    return entry.get("MESSAGE_ID") == message_id


@dataclass
class Verification:
    """The result of verifying the journal's files.

    `whole`: number of intact files. `damaged`: path to problem. `left`: number of files without a result,
    because the time was over.
    """

    whole: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    left: int = 0


def verified(places: Sequence[Path], seconds: float) -> Verification:
    """Verify the journal's files in the directories `places`, newest first, for at most `seconds`.

    A file counts as damaged if `journalctl --verify` reports the same offset every time.
    """
    verification = Verification()
    end = time.monotonic() + seconds
    for path in _files(places):
        try:
            trouble = _trouble(path, end)
        except subprocess.TimeoutExpired:
            verification.left += 1
            continue
        if trouble is None:
            verification.whole += 1
        else:
            verification.damaged[str(path)] = trouble
    return verification


def _files(places: Sequence[Path]) -> list[Path]:
    times: dict[Path, float] = {}
    for place in places:
        # Files named *.journal~ were not closed cleanly.
        for path in [*place.glob("*/*.journal"), *place.glob("*/*.journal~")]:
            with contextlib.suppress(FileNotFoundError):
                times[path] = path.stat().st_mtime
    return sorted(times, key=lambda path: -times[path])


def _trouble(path: Path, end: float) -> str | None:
    """Why a file is damaged; None if it is intact or was rotated away meanwhile. Raises TimeoutExpired."""
    offsets = set()
    problem = ""
    for _ in range(_TRIALS):
        seconds = max(end - time.monotonic(), 0)
        done = subprocess.run(
            ["journalctl", "--verify", f"--file={path}"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
        match = _AT.search(done.stderr)
        offsets.add(match and match[1])
        if done.returncode == 0 or len(offsets) > 1 or not path.exists():
            return None
        problem = redaction.plain(done.stderr).strip().partition("\n")[0]
    return problem or "journalctl reports no details"
