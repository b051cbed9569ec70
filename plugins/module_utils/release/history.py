"""The history of a host's releases: an append-only file with one JSON line for each switch and verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import directories, files, shape

Verdict = Literal["good", "bad"]
How = Literal["deployment", "rollback", "return", "restore"]


@dataclass(frozen=True)
class Record:
    """A switch to a release (`verdict` is None), or a verdict on one.

    `how` is what the switch was part of: a deployment; a rollback that an operator ordered; a return, which
    is the automatic rollback after a release failed; or a restore.
    """

    at: str
    who: str
    release: str
    previous: str | None
    why: str
    verdict: Verdict | None = None
    how: How = "deployment"


def read(path: Path) -> list[Record]:
    """All records, oldest first. Lines that are not records are skipped; a power cut can leave one."""
    if not path.exists():
        return []
    records = []
    for line in path.read_bytes().splitlines():
        try:
            records.append(parse(line))
        except shape.ShapeError:
            continue
    return records


def parse(line: bytes) -> Record:
    """Parse one line. Raises shape.ShapeError.

    Unknown keys, which a later version may write, are ignored. An earlier version wrote no `how`.
    """
    content = shape.mapping(shape.parsed(line), "the record")
    declared = {field.name: content[field.name] for field in fields(Record) if field.name in content}
    record = shape.record(Record, {"previous": None, **declared})
    try:
        timestamps.parse(record.at)
    except ValueError as error:
        raise shape.ShapeError(f"at is {record.at!r:.40}, not a time such as 2026-11-24T06:00:00Z") from error
    return record


def append(record: Record, path: Path) -> None:
    """Append a record durably and atomically. Raises OSError; the file is then unchanged."""
    directories.make(path.parent, own=path.parent)
    files.append(path, json.dumps(asdict(record)).encode() + b"\n", mode=0o644)


def verdict_on(records: Sequence[Record], release: str) -> Record | None:
    """The newest verdict on a release; None if it has none."""
    verdicts = (record for record in reversed(records) if record.release == release and record.verdict)
    return next(verdicts, None)


def standing(records: Sequence[Record], release: str) -> Verdict | None:
    """The verdict on a release since the last switch to it; None if there is none yet."""
    newest = next((record for record in reversed(records) if record.release == release), None)
    return newest.verdict if newest else None


def current(records: Sequence[Record]) -> str | None:
    """The release of the newest switch; None if there was no switch."""
    switches = (record.release for record in reversed(records) if record.verdict is None)
    return next(switches, None)


def left_by_rollback(records: Sequence[Record], release: str) -> Record | None:
    """The newest switch from or to a release, if it was a rollback from it; None otherwise."""
    switches = (
        record
        for record in reversed(records)
        if record.verdict is None and release in (record.release, record.previous)
    )
    newest = next(switches, None)
    return newest if newest and newest.previous == release and newest.how == "rollback" else None


def rollback_targets(
    records: Sequence[Record], *, available: Sequence[str], besides: str | None
) -> list[str]:
    """The rollback targets among `available`, best first: validated, and not rejected since.

    `besides` is left out.
    """
    return [release for release in reversed(_trail(records)) if release in available and release != besides]


def unfinished_rollback(records: Sequence[Record], since: str) -> Record | None:
    """The switch of an interrupted rollback; None if there is no rollback to finish.

    A rollback is unfinished if its release has no verdict yet, or if the procedure that made the switch
    is still running. `since` is when that procedure started (UTC). If the release failed, the result is
    the switch of the return, and only while that procedure is running.
    """
    switch = next((record for record in reversed(records) if record.verdict is None), None)
    if switch is None or switch.how not in ("rollback", "return"):
        return None
    verdict = standing(records, switch.release)
    running = switch.at >= since and verdict != "bad"
    return switch if running or (switch.how == "rollback" and verdict is None) else None


def _trail(records: Sequence[Record]) -> list[str]:
    """The validated releases, oldest first; each one's rollback target is the release before it.

    A deployment adds to the trail. A rollback removes every release after its target. A second rollback
    therefore goes further back, and never to a release that a rollback has left.
    """
    trail: list[str] = []
    how: dict[str, How] = {}
    for record in records:
        release = record.release
        if record.verdict is None:
            how[release] = record.how
        elif record.verdict == "good" and release in trail and how.get(release) not in (None, "deployment"):
            del trail[trail.index(release) + 1 :]
        else:
            trail = [each for each in trail if each != release]
            trail += [release] if record.verdict == "good" else []
    return trail
