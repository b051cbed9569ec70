"""Reads and verifies what a review is made from: the record of an incident and its evidence."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import state as incident_state
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import (
    bundle,
    records,
    table,
    verification,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import store as incident_store

# Manifests round offsets to milliseconds.
_ROUNDED = 0.001


@dataclass(frozen=True)
class Line:
    """A line of a file of JSON lines, and its number, from 1."""

    number: int
    value: Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """A file of evidence. `offset`: seconds by which the host's clock was ahead, None if unknown.

    `exit`: the exit status of its command, None if there was no command or it was cut. `problem`: what went
    wrong. `began`: when it was collected, by the host's clock, None if unknown; `seconds`: how long that
    took. `moved`: seconds by which the clock was changed since the previous evidence. `since`: the time, by
    the control node's clock, since which the clock was certainly not changed.
    """

    path: str
    text: str
    offset: float | None
    uncertainty: float
    exit: int | None = None
    problem: str = ""
    began: float | None = None
    seconds: float = 0.0
    moved: float = 0.0
    since: float = -math.inf

    @property
    def whole(self) -> bool:
        """Whether it is complete: no deadline cut it, and its command did not fail."""
        return self.exit == 0 or (self.exit is None and not self.problem)

    def corrected(self, at: float) -> float:
        """Convert a time from the host's clock to the control node's, in seconds since the epoch."""
        return at - (self.offset or 0.0)


@dataclass(frozen=True)
class Collection:
    """The evidence collected from a host at one time. `problems`: those of its verification.

    `absent`: listed items that are missing. `withheld`: items that were kept on the host. `failed`: items
    that are incomplete.
    """

    host: str
    at: float
    path: str
    items: Mapping[str, Item]
    problems: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether it is complete and unchanged."""
        return not self.problems


@dataclass(frozen=True)
class Sources:
    """All sources on an incident. `fleet`: the current hosts. `unread`: what could not be read."""

    incident: incident_state.Incident
    state: Sequence[Line] = ()
    timeline: Sequence[Line] = ()
    collections: Sequence[Collection] = ()
    fleet: Sequence[str] = ()
    unread: Sequence[str] = field(default=())

    @property
    def hosts(self) -> tuple[str, ...]:
        """The fleet's hosts, and other hosts that the incident or the evidence names."""
        named = {*self.fleet, *self.incident.hosts, *(each.host for each in self.collections)}
        return tuple(sorted(named))

    def of(self, host: str) -> list[Collection]:
        """The evidence of a host, the oldest first."""
        return [each for each in self.collections if each.host == host]


def read(root: Path, incident: str, fleet: Sequence[str]) -> Sources:
    """Read all sources on an incident below `root`.

    Raises:
        RecordError: if the id is not valid or the incident has no record.
        DamagedError: if the incident's record has an invalid line.
    """
    store = incident_store.IncidentRecords(root)
    folded = store.load(incident)
    if folded.incident is None:
        recorded = ", ".join(sorted(store.load_all()[0])) or "none"
        raise records.RecordError(f"There is no incident {incident!r}. Recorded incidents: {recorded}.")
    unread: list[str] = []
    if folded.torn:
        unread.append(f"{incident_store.STATE}: the last line is incomplete, because its run was killed")
    directory = store.state(incident).parent
    state = _lines(directory / incident_store.STATE, unread)
    timeline = _lines(directory / "timeline.jsonl", unread)
    collections = list(moved(agreed(list(_collections(root, incident)))))
    return Sources(folded.incident, state, timeline, collections, tuple(fleet), tuple(unread))


def agreed(collections: Sequence[Collection]) -> list[Collection]:
    """Combine measurements of a host's clock that agree into one offset.

    Measurements agree if their intervals intersect: the true offset is then in the intersection (RFC 5905,
    section 11.2.1). All times of the host are then corrected by the same offset, which keeps their order.
    """
    clocks: dict[str, set[tuple[str, float, float]]] = {}
    for each in collections:
        clocks.setdefault(each.host, set()).update(
            (each.path, item.offset, item.uncertainty)
            for item in each.items.values()
            if item.offset is not None
        )
    combined: dict[tuple[str, float, float], tuple[float, float]] = {}
    for measured in clocks.values():
        together: list[tuple[str, float, float]] = []
        low, high = -math.inf, math.inf
        for clock in sorted(measured):
            _, offset, doubt = clock
            least, most = offset - doubt, offset + doubt
            if together and (least > high + _ROUNDED or most < low - _ROUNDED):
                together, low, high = [], -math.inf, math.inf
            together.append(clock)
            low, high = max(low, least), min(high, most)
            combined |= dict.fromkeys(together, ((low + high) / 2, abs(high - low) / 2))
    return [
        replace(each, items={name: _clocked(each.path, item, combined) for name, item in each.items.items()})
        for each in collections
    ]


def moved(collections: Sequence[Collection]) -> Iterator[Collection]:
    """Mark the evidence since a change of the host's clock with `moved` and `since`."""
    previous: dict[str, float] = {}
    since: dict[str, float] = {}
    for each in collections:
        offsets = [item.offset for item in each.items.values() if item.offset is not None]
        if not offsets:
            yield each
            continue
        # If offsets within one collection differ, times in between have the same uncertainty.
        compared = [previous.get(each.host, offsets[0]), *offsets]
        distance = max(compared) - min(compared)
        if distance:
            taken = (item.corrected(item.began) for item in each.items.values() if item.began is not None)
            since[each.host] = max(taken, default=each.at)
        previous[each.host] = offsets[-1]
        start = since.get(each.host, -math.inf)
        items = {name: replace(item, moved=distance, since=start) for name, item in each.items.items()}
        yield replace(each, items=items)


def _clocked(path: str, item: Item, combined: Mapping[tuple[str, float, float], tuple[float, float]]) -> Item:
    if item.offset is None:
        return item
    offset, uncertainty = combined[(path, item.offset, item.uncertainty)]
    return replace(item, offset=offset, uncertainty=uncertainty)


def parsed_lines(text: str) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    """The lines of a file with their numbers, from 1; None for a line that is not a JSON object."""
    for number, line in enumerate(text.splitlines(), 1):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        yield number, value if isinstance(value, dict) else None


def _lines(path: Path, unread: list[str]) -> list[Line]:
    """The valid lines of a file. Invalid ones, without a time, are added to `unread`."""
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        unread.append(f"{path.name}: the file does not exist")
        return []
    valid, damaged = [], []
    for number, value in parsed_lines(text):
        if value is None or not _is_time(value.get("at")):
            damaged.append(str(number))
        else:
            valid.append(Line(number, value))
    if damaged:
        unread.append(f"{path.name}: invalid lines: {', '.join(damaged)}")
    return valid


def _is_time(value: object) -> bool:
    try:
        timestamps.parse(str(value))
    except ValueError:
        return False
    return True


def _collections(root: Path, incident: str) -> Iterator[Collection]:
    top = root / "evidence" / incident
    for directory in sorted(verification.kept_below(top)):
        if directory == top:
            continue
        verified = bundle.verify(directory, [root / bundle.KEYS])
        entries = list(_entries(directory / bundle.MANIFEST))
        # An item has the name of its file. Files that the manifest does not list have no clock offset.
        listed = {str(entry["name"]): entry for entry in entries if "name" in entry}
        host = directory.parent.name if verified.host == "?" else verified.host
        items = {
            path.name: _item(path, root, listed.get(path.name, {}))
            for path in sorted(directory.iterdir())
            if path.is_file() and not path.is_symlink() and path.name != bundle.MANIFEST
        }
        yield Collection(
            host=host,
            at=_began(verified.at, directory.name),
            path=str(directory.relative_to(root)),
            items=items,
            problems=tuple(problem.replace(f"{root}/", "") for problem in verified.problems),
            absent=tuple(verified.absent),
            withheld=tuple(
                f"{name}: {entry['withheld']}" for name, entry in listed.items() if entry.get("withheld")
            ),
            failed=tuple(
                f"{name}: {entry['problem']}"
                for name, entry in listed.items()
                if table.became(entry) in ("failed", "cut")
            ),
        )


def _entries(manifest: Path) -> Iterator[Mapping[str, Any]]:
    try:
        text = manifest.read_text(errors="replace")
    except OSError:
        return
    for _, value in parsed_lines(text):
        entry = value.get("entry") if value else None
        if isinstance(entry, dict):
            yield entry


def _item(path: Path, root: Path, entry: Mapping[str, Any]) -> Item:
    offset = _number(entry.get("clock_offset_seconds"))
    uncertainty = _number(entry.get("clock_uncertainty_seconds"))
    return Item(
        path=str(path.relative_to(root)),
        text=path.read_text(errors="replace"),
        offset=offset,
        uncertainty=uncertainty or 0.0 if offset is not None else 0.0,
        exit=entry["exit"] if isinstance(entry.get("exit"), int) else None,
        problem=str(entry.get("problem") or "") if entry else "not listed in the manifest",
        began=_number(entry.get("began")),
        seconds=_number(entry.get("seconds")) or 0.0,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _began(at: str, name: str) -> float:
    """When a collection started, from its manifest or, without one, from the name of its directory."""
    day, _, clock = name[:18].partition("T")
    named = f"{day}T{clock[:2]}:{clock[2:4]}:{clock[4:6]}Z"
    for text in (at, named):
        try:
            return timestamps.parse(text).timestamp()
        except ValueError:
            continue
    return 0.0
