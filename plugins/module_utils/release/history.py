"""The history of a host's releases: every switch and every verdict, one JSON line each, only appended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import files, shape

Verdict = Literal["good", "bad"]
How = Literal["deployment", "rollback", "return", "restore"]


@dataclass(frozen=True)
class Record:
    """A switch to a release (`verdict` is None), or a verdict on one.

    `how` says what the switch was part of: a deployment, a rollback that was ordered, the return of a
    procedure whose release failed, a restore.
    """

    at: str
    who: str
    release: str
    previous: str | None
    why: str
    verdict: Verdict | None = None
    how: How = "deployment"


def read(path: Path) -> list[Record]:
    """All records, oldest first. A line that is no record, as a power cut leaves one, is passed over."""
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
    """The record that a line is. Raises shape.ShapeError.

    What a later version adds to a record is ignored; an earlier one wrote none of `how`.
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
    """Add a record durably, whole or not at all. Raises OSError, with the file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    files.append(path, json.dumps(asdict(record)).encode() + b"\n", mode=0o644)


def verdict_on(records: Sequence[Record], release: str) -> Record | None:
    """The newest verdict on a release; None when it was never judged."""
    judged = (record for record in reversed(records) if record.release == release and record.verdict)
    return next(judged, None)


def standing(records: Sequence[Record], release: str) -> Verdict | None:
    """The verdict on a release since it was last switched to; None when there is none yet."""
    newest = next((record for record in reversed(records) if record.release == release), None)
    return newest.verdict if newest else None


def current(records: Sequence[Record]) -> str | None:
    """The release of the newest switch; None when there was none."""
    switches = (record.release for record in reversed(records) if record.verdict is None)
    return next(switches, None)


def ways_back(records: Sequence[Record], *, available: Sequence[str], besides: str | None) -> list[str]:
    """The releases to return to, the best first: found good, still there, not bad since."""
    return [release for release in reversed(_trail(records)) if release in available and release != besides]


def unfinished_rollback(records: Sequence[Record], since: str) -> Record | None:
    """The switch of a rollback that was killed; None when there is none to bring to its end.

    Its release has no verdict yet; or the procedure that made it still goes on, which began at `since` (UTC).
    Of one whose release failed it is the return, while that procedure goes on.
    """
    switch = next((record for record in reversed(records) if record.verdict is None), None)
    if switch is None or switch.how not in ("rollback", "return"):
        return None
    verdict = standing(records, switch.release)
    going_on = switch.at >= since and verdict != "bad"
    return switch if going_on or (switch.how == "rollback" and verdict is None) else None


def _trail(records: Sequence[Record]) -> list[str]:
    """The releases that were found good, each leading back to the one before it; the newest is last.

    A deployment adds to the trail. Going back cuts it off after the release that was gone back to, so
    that going back again goes further, never to what was left.
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
