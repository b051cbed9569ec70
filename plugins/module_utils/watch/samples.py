"""The file of a watch: what was ordered, every sample that was taken, and why sampling ended.

Time is the seconds since the host was started (CLOCK_BOOTTIME), so a clock that is set decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.triage import baseline, entries
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import (
    Answer,
    Comparable,
    TimedAnswer,
    Unit,
)

CLIENT_SECONDS = 20
WINDOWS_AT_MOST = 4


@dataclass(frozen=True)
class Terms:
    """What is asked of a window.

    `minutes`: its length. `interval`, `patience`: seconds from sample to sample, and for a sample's checks.
    `fewest_requests`: requests that count, its own analyses among them. `probes`: whether a sample has
    analyses made, one of them with `visits`, the baseline's number.
    """

    minutes: int
    interval: int = 30
    patience: int = 30
    fewest_requests: int = 20
    probes: bool = True
    visits: int = 32

    @property
    def seconds(self) -> float:
        """The window's length."""
        return 60.0 * self.minutes

    @property
    def longest_gap(self) -> float:
        """Seconds between two samples that still count as watched."""
        return 2.0 * self.interval

    @property
    def longest_sample(self) -> float:
        """Seconds beyond all deadlines of a sample's checks."""
        return 2.0 * self.patience + CLIENT_SECONDS

    @property
    def at_most(self) -> float:
        """Seconds after which the sampler gives up."""
        return WINDOWS_AT_MOST * self.seconds


class ServedMetrics(TypedDict):
    """Counters since the service was started; None for a series that is missing or NaN.

    `requests`: tool calls by the status that they ended in. `cache_errors`: operations of the cache that were
    given up.
    """

    served: Literal[True]
    requests: dict[str, float] | None
    engine_up: float | None
    engine_restarts: float | None
    cache_errors: float | None


class UnservedMetrics(TypedDict):
    """Why there are no metrics: the end of a sentence that begins with /metrics."""

    served: Literal[False]
    why: str


class Validation(TypedDict):
    """What failed of the checks of the role `validate`; `own`: the status that each request is counted by."""

    failures: list[str]
    own: list[str]


class Probed(TypedDict):
    """Analyses that can be compared with the baseline."""

    answers: list[TimedAnswer]


class Values(TypedDict, total=False):
    """The facts of a sample that are known.

    `unit`, `health`, `ready`, `baseline` are those of triage; the body of `health` has in `lowered` which
    limits are lowered, empty for none. `release`: the one that the process runs, None without a process.
    `validation` and `probe` are missing where the window makes no analyses.
    """

    unit: Unit
    health: Answer
    ready: Answer
    release: str | None
    baseline: Comparable
    validation: Validation
    probe: Probed
    metrics: ServedMetrics | UnservedMetrics


Facts = entries.Facts[Values]


@dataclass(frozen=True)
class Sample:
    """What was measured from `began` to `ended`, in seconds since the boot; `at` by the host's clock, UTC."""

    began: float
    ended: float
    at: str
    facts: Facts


@dataclass(frozen=True)
class Watched:
    """All that a host has of a watch: what its file tells.

    `begun`: seconds since the boot. `over`: why the sampler ended, empty while it works.
    """

    terms: Terms
    begun: float
    begun_at: str
    who: str
    incident: str
    rebooted: bool
    samples: tuple[Sample, ...]
    over: str


class Header(TypedDict):
    """The first line of a watch's file, without what each line has: when it was written, and by whom."""

    event: Literal["begun"]
    begun: float
    terms: dict[str, Any]
    who: str
    incident: str
    rebooted: bool


class _WrittenHeader(Header):
    at: str


class _Line(TypedDict):
    event: str


class _SampleLine(TypedDict):
    began: float
    ended: float
    at: str
    facts: dict[str, Any]


class _OverLine(TypedDict):
    why: str


def read_facts(content: object) -> Facts:
    """The facts of a sample, from its checks' entries. Raises ShapeError when they are no object."""
    return entries.read(Values, content, {"baseline": _check_baseline})


def header(terms: Terms, *, begun: float, who: str, incident: str, rebooted: bool) -> Header:
    """The first line of a watch's file."""
    return {
        "event": "begun",
        "begun": begun,
        "terms": asdict(terms),
        "who": who,
        "incident": incident,
        "rebooted": rebooted,
    }


def as_line(sample: Sample) -> dict[str, Any]:
    """A sample's line."""
    return {
        "event": "sample",
        "began": sample.began,
        "ended": sample.ended,
        "at": sample.at,
        "facts": entries.as_entries(sample.facts),
    }


def read(content: bytes) -> Watched:
    """What a watch's file tells; a last line that was cut short is left out.

    Raises ShapeError when it is no such file, or damaged, naming the line. A fact of another shape costs
    itself alone.
    """
    lines = [
        shape.mapping(shape.parsed(line), f"line {number}")
        for number, line in enumerate(content.split(b"\n")[:-1], start=1)
    ]
    if not lines:
        raise shape.ShapeError("it is empty")
    first = shape.typed(_WrittenHeader, lines[0], "line 1")
    samples = []
    over = ""
    for number, line in enumerate(lines[1:], start=2):
        place = f"line {number}"
        event = shape.typed(_Line, line, place)["event"]
        if event == "sample":
            samples.append(_sample(line, place))
        elif event == "over":
            over = over or shape.typed(_OverLine, line, place)["why"]
    return Watched(
        terms=shape.record(Terms, first["terms"], "line 1.terms"),
        begun=float(first["begun"]),
        begun_at=first["at"],
        who=first["who"],
        incident=first["incident"],
        rebooted=first["rebooted"],
        samples=tuple(samples),
        over=over,
    )


def _sample(line: Mapping[str, Any], place: str) -> Sample:
    taken = shape.typed(_SampleLine, line, place)
    return Sample(taken["began"], taken["ended"], taken["at"], read_facts(taken["facts"]))


def _check_baseline(value: Comparable) -> None:
    if value["found"] is not None:
        baseline.check(value["found"], "baseline.found")
