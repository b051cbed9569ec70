"""Measures an outage from outside: a process that calls the service every 100 ms, and what its record shows.

The process is independent of the one that starts it. It stops on request, or after `Order.seconds`.
Each call is one line of a file. Lines are in the order in which calls finished, not started.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import background
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.client import (
    GENERATIONS,
    OK,
    Generation,
    Kind,
    Target,
)

INTERVAL_SECONDS = 0.1
# An engine without a GPU can do a few analyses a second besides its work, and not ten.
ANALYSIS_EVERY = 5
DEADLINE_SECONDS = 5.0
MOST_SECONDS = 3600.0
"""A prober that nobody stops ends after this time."""

_PROGRAM = "probing"
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Order:
    """What the prober calls, and how often.

    `targets`: load balancers or hosts, called in turn. `token`: the bearer token; it is passed to the process
    through a pipe. `interval`: seconds between the starts of two calls. `analysis_every`: one of so many
    calls is an analysis, and the others ask whether the engine is ready, which costs it nothing. `visits`:
    of an analysis; with fewer than 2 the engine names no move. `deadline`: seconds for one call.
    `generations`: called in turn. `sessions`: how many sessions each target gets. `most_running`: calls that
    may run at the same time; a call that would exceed it fails as `not_started`. `seconds`: after which the
    process stops.
    """

    targets: tuple[Target, ...]
    token: str = field(default="", repr=False)
    interval: float = INTERVAL_SECONDS
    analysis_every: int = ANALYSIS_EVERY
    visits: int = 2
    deadline: float = DEADLINE_SECONDS
    generations: tuple[Generation, ...] = GENERATIONS
    sessions: int = 4
    most_running: int = 128
    seconds: float = MOST_SECONDS

    @classmethod
    def parse(cls, text: str) -> Order:
        """Read an order that was passed as JSON. Raises shape.ShapeError."""
        content = shape.mapping(shape.parsed(text))
        targets = tuple(shape.record(Target, each) for each in content["targets"])
        return shape.record(cls, {**content, "targets": targets})


class Call(TypedDict):
    """A line of the record.

    `time`: when the call started, in Unix time. `monotonic`: the same by `time.monotonic` here, which no
    change of a clock moves. `seconds`: its duration. `session`: the number of the session
    that it used, 0 for none. `session_lost`: it is the first call that found the session lost. `status`: of
    HTTP; null without a response. `host`: which one answered, if it is known. `reason`: why it failed.
    """

    time: float
    monotonic: float
    seconds: float
    target: str
    generation: Generation
    tool: str
    outcome: Kind
    status: int | None
    session: int
    session_lost: bool
    host: NotRequired[str]
    reason: NotRequired[str]


class Traffic(TypedDict):
    """What the prober saw. `interval`: seconds between two calls."""

    interval: float
    requests: int
    failed: int
    sessions: int
    sessions_lost: int


class Outage(NamedTuple):
    """A period in which calls failed: times of `time.monotonic`, and the number of failed calls.

    `end`: when the first call started that succeeded again; None if the outage lasts until the record's end.
    """

    start: float
    end: float | None
    failed: int


class ProberError(Exception):
    """The prober cannot be started, or its record cannot be used. The message is complete for people."""


@dataclass(frozen=True)
class Running:
    """A prober that runs, and its record. `pid`: of its process."""

    pid: int
    path: Path

    def stop(self) -> None:
        """Start no more calls, wait for those that run, and end the process.

        Does nothing if it has ended. A prober that does not end within 30 s is killed.
        """
        background.stop(self.pid, lock_of(self.path), _STOP_SECONDS)


def start(order: Order, path: Path) -> Running:
    """Start a prober that appends to `path`, in a directory that exists. Return as soon as it calls.

    Raises:
        ProberError: it did not start, or another one writes to the file.
    """
    try:
        pid = background.start(_PROGRAM, json.dumps(asdict(order)), [str(path)])
    except background.NotStartedError as error:
        raise ProberError(f"the prober for {path} did not start: {error}") from error
    return Running(pid, path)


def running(path: Path) -> Running | None:
    """The prober that writes to `path`, whichever process started it; None if there is none."""
    pid = background.holder(lock_of(path))
    return None if pid is None else Running(pid, path)


def lock_of(path: Path) -> Path:
    """The lock that the prober holds which writes to `path`."""
    return path.with_name(f"{path.name}.lock")


def calls(path: Path, since: float = 0.0) -> Iterator[Call]:
    """The calls that started at `since` (`time.monotonic`) or later, in the order of the file.

    A line that a killed prober left incomplete is skipped.

    Raises:
        ProberError: the record is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                content = shape.typed(Call, shape.parsed(line), f"line {number}")
                if content["monotonic"] >= since:
                    yield content
    except (OSError, shape.ShapeError) as error:
        raise ProberError(f"the prober's record {path} cannot be used: {error}") from error


def summary(path: Path, since: float = 0.0, interval: float = INTERVAL_SECONDS) -> Traffic:
    """The totals of the calls since `since` (`time.monotonic`). Raises ProberError."""
    result = Traffic(interval=interval, requests=0, failed=0, sessions=0, sessions_lost=0)
    sessions = set()
    for call in calls(path, since):
        result["requests"] += 1
        result["failed"] += call["outcome"] != OK
        result["sessions_lost"] += call["session_lost"]
        sessions.add(call["session"])
    result["sessions"] = len(sessions - {0})
    return result


def outages(path: Path, since: float = 0.0, quiet: float = 1.0) -> list[Outage]:
    """The periods in which calls failed, in order of time. Raises ProberError.

    An outage ends when a call succeeds of each tool that failed: an engine that gives wrong answers is not
    healthy again because it reports that it is ready. `quiet`: outages that are at most so many seconds apart
    are one. So a load balancer that sends every third call to a broken host is one outage.
    """
    tools: dict[str, list[Call]] = {}
    for call in sorted(calls(path, since), key=lambda each: each["monotonic"]):
        tools.setdefault(call["tool"], []).append(call)
    found = [outage for each in tools.values() for outage in _outages(each)]
    return _joined(sorted(found, key=lambda outage: outage.start), quiet)


def _outages(calls_of_tool: Sequence[Call]) -> Iterator[Outage]:
    """Each series of failed calls, which ends with a success."""
    series: list[float] = []
    for call in calls_of_tool:
        if call["outcome"] != OK:
            series.append(call["monotonic"])
        elif series:
            yield Outage(series[0], call["monotonic"], len(series))
            series = []
    if series:
        yield Outage(series[0], None, len(series))


def _joined(found: Sequence[Outage], quiet: float) -> list[Outage]:
    joined: list[Outage] = []
    for outage in found:
        last = joined[-1] if joined else None
        if last is None or (last.end is not None and outage.start - last.end > quiet):
            joined.append(outage)
        else:
            lasts = last.end is None or outage.end is None
            end = None if lasts else max(last.end or 0.0, outage.end or 0.0)
            joined[-1] = Outage(last.start, end, last.failed + outage.failed)
    return joined
