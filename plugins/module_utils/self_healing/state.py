"""What the program of self-healing remembers: its state for monitoring, its settings, and who paused it.

A state that is missing or damaged is an error: an empty one would restore the whole budget.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, Self, TypeVar

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import files, shape
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.budget import Clock, Spent, recent

T = TypeVar("T")
FORMAT = 1
MODE = 0o644
_MOST_REPAIRS = 100
_LONGEST_REASON = 1000

Name = Literal["free_disk", "roll_back", "restart", "quarantine_cache", "lower_limits"]
"""The repairs of the allow-list."""
Status = Literal["idle", "unknown", "paused", "blocked", "waiting", "would_repair", "repairing", "stopped"]
Result = Literal["started", "repaired", "failed", "interrupted"]


class StateError(Exception):
    """The state cannot be used; the message says why, as part of a sentence."""


@dataclass(frozen=True)
class Repaired:
    """A repair of the last day. `at`: UTC, by the host's clock. `total`: as in `Clock`.

    `drill`: the drill that was on the host; empty if none was.
    """

    id: str
    repair: str
    at: str
    total: float
    result: Result
    drill: str = ""


@dataclass(frozen=True)
class Escalation:
    """Why a person is needed. `stops`: nothing is repaired until a person resumes.

    Otherwise it ends when the fault is gone. `drill`: as in `Repaired`; the escalation ends with the drill.
    """

    at: str
    why: str
    stops: bool
    drill: str = ""


@dataclass(frozen=True)
class Remembered:
    """What the programs of both levels remember, for the host and for the fleet.

    `checked_at`: the last run of the program. `status` and `why`: its result; `since`: from when on.
    `counts`: the finished repairs since the installation, by repair and by result.
    """

    clock: Clock
    checked_at: str
    status: Status = "idle"
    why: str = ""
    since: str = ""
    escalation: Escalation | None = None
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def is_stopped(self) -> bool:
        """Whether only a person can resume."""
        return self.escalation is not None and self.escalation.stops

    def having(self, status: Status, why: str = "") -> Self:
        """The state with another status, which began now unless it is the same."""
        since = self.since if (status, why) == (self.status, self.why) else self.checked_at
        return replace(self, status=status, why=why, since=since)

    def counted(self, repair: str, result: str) -> Mapping[str, Mapping[str, int]]:
        """The numbers of finished repairs with one more."""
        by_result = self.counts.get(repair, {})
        return {**self.counts, repair: {**by_result, result: by_result.get(result, 0) + 1}}


@dataclass(frozen=True)
class State(Remembered):
    """The content of the state's file."""

    repairs: tuple[Repaired, ...] = ()

    def spent(self, drill: str = "") -> list[Spent]:
        """The repairs that count towards the budget. A drill has a budget of its own."""
        return [Spent(each.repair, each.total) for each in self.repairs if each.drill == drill]

    def at(self, clock: Clock, now: str) -> State:
        """The state at a later reading of the clock, without repairs that no longer count."""
        counted = recent([Spent(each.repair, each.total) for each in self.repairs], clock.total)
        kept = tuple(each for each in self.repairs if Spent(each.repair, each.total) in counted)
        return replace(self, clock=clock, checked_at=now, repairs=kept)

    def without_drills(self, but: str) -> State:
        """The state without what other drills left: their repairs, and a call for a person."""
        kept = tuple(each for each in self.repairs if each.drill in ("", but))
        if self.escalation is None or self.escalation.drill in ("", but):
            return replace(self, repairs=kept)
        return replace(self, repairs=kept, escalation=None).having("idle")

    def started(self, id: str, repair: str, why: str, drill: str = "") -> State:
        """The state with a new repair that has started."""
        new = Repaired(id, repair, self.checked_at, self.clock.total, "started", drill)
        return replace(self.having("repairing", why), repairs=(*self.repairs, new))

    def finished(self, id: str, result: Result) -> State:
        """The state after a repair has ended with this result."""
        repair = next((each.repair for each in self.repairs if each.id == id), "unknown")
        repairs = tuple(replace(each, result=result) if each.id == id else each for each in self.repairs)
        return replace(self, repairs=repairs, counts=self.counted(repair, result))


def load(path: Path) -> State:
    """Read and check the state. Raises StateError."""
    state = read(State, path, "the state")
    check(path, state, [each.total for each in state.repairs], len(state.repairs), _MOST_REPAIRS)
    return state


def read(kind: type[T], path: Path, place: str) -> T:
    """Read a record. Raises StateError."""
    try:
        return shape.record(kind, shape.parsed(path.read_bytes()), place)
    except (OSError, ValueError) as error:
        raise StateError(f"{path} cannot be used: {error}") from error


def check(path: Path, state: Remembered, totals: Sequence[float], repairs: int, most: int) -> None:
    """Reject what no version of the program would have written.

    `totals`: when what it remembers happened. `repairs`: their number, of which there are at most `most`.

    Raises:
        StateError: for the first problem.
    """
    if problem := next(_problems(state, totals, repairs, most), ""):
        raise StateError(f"{path} cannot be used: {problem}")


def save(state: Remembered, path: Path) -> None:
    """Replace the state's file. Raises OSError; the file is then unchanged."""
    files.write(path, (json.dumps(asdict(state), indent=1) + "\n").encode(), mode=MODE)


def _problems(state: Remembered, totals: Sequence[float], repairs: int, most: int) -> Iterator[str]:
    if state.format != FORMAT:
        yield f"its format is {state.format}, not {FORMAT}"
    numbers = [state.clock.uptime, state.clock.total, *totals]
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        yield "a time in it is negative or not finite"
    if any(total > state.clock.total for total in totals):
        yield "something in it happened after it was written"
    if repairs > most:
        yield f"it has {repairs} repairs of one day"
    if any(count < 0 for by_result in state.counts.values() for count in by_result.values()):
        yield "a number of repairs in it is negative"


@dataclass(frozen=True)
class Settings:
    """The host's variables: only report what would be done (`dry_run`); do nothing (`paused`)."""

    dry_run: bool = False
    paused: bool = False


def settings(path: Path) -> Settings:
    """Read the settings. Raises StateError."""
    return read(Settings, path, "the settings")


@dataclass(frozen=True)
class Pause:
    """Who paused repairs when, and why. `incident`: empty for none."""

    since: str
    who: str
    why: str
    incident: str = ""

    def __str__(self) -> str:
        text = f"paused since {self.since} by {self.who}: {self.why.rstrip('.')}"
        return f"{text} (incident {self.incident})" if self.incident else text


def pause(places: Iterable[Path]) -> Pause | None:
    """Who paused repairs with a file; None if there is none.

    A file with other content pauses too: whoever made it in a hurry meant it.
    """
    by_hand: Pause | None = None
    for path in places:
        try:
            return shape.record(Pause, json.loads(path.read_text()))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError):
            by_hand = Pause("an unknown time", "somebody", f"the file {path} exists")
    return by_hand


def paused_at(places: Iterable[Path]) -> float | None:
    """Since when files pause repairs, in Unix time; None if there is none. Raises OSError."""
    return min((_since(paused, path) for path in places if (paused := pause([path]))), default=None)


def _since(paused: Pause, path: Path) -> float:
    try:
        return timestamps.parse(paused.since).timestamp()
    except ValueError:
        # Somebody made the file by hand.
        return path.stat().st_mtime


def write_pause(new: Pause, places: Iterable[Path], *, check: bool) -> bool:
    """Pause; return whether it was not paused by a file before. The first reason stays.

    Raises OSError if no file can be written.
    """
    places = list(places)
    if pause(places):
        return False
    if not check:
        errors = []
        for path in places:
            try:
                files.write(path, (json.dumps(asdict(new), indent=1) + "\n").encode(), mode=MODE)
            except OSError as error:
                # One of them is enough: the disk may be full or read-only.
                errors.append(error)
        if len(errors) == len(places):
            raise errors[0]
    return True


def reason(why: str) -> str:
    """The reason on one line. Raises ValueError if it is empty or too long."""
    line = " ".join(why.split())
    if not 0 < len(line) <= _LONGEST_REASON:
        raise ValueError(
            f"why has {len(line)} characters; give the reason in 1 to {_LONGEST_REASON} characters."
        )
    return line
