"""The file of a watch: its parameters, every sample, and why sampling stopped.

Times are seconds since the host booted (CLOCK_BOOTTIME), so a change of the host's clock has no effect.
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
    """The parameters of a window.

    `minutes`: its length. `interval`: seconds between samples. `patience`: deadline of a sample's analyses,
    in seconds. `fewest_requests`: the minimum number of requests, including the sampler's own. `probes`:
    whether the sampler sends analyses; one of them has `visits` visits and is compared with the baseline.
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
        """The longest gap between two samples of a window, in seconds."""
        return 2.0 * self.interval

    @property
    def longest_sample(self) -> float:
        """The longest duration of a sample, in seconds; more than all deadlines of its checks."""
        return 2.0 * self.patience + CLIENT_SECONDS

    @property
    def at_most(self) -> float:
        """Seconds after which the sampler stops without a result."""
        return WINDOWS_AT_MOST * self.seconds


class ServedMetrics(TypedDict):
    """Counters since the service was started. None: the series is missing or NaN.

    `requests`: tool calls by status. `cache_errors`: failed cache operations.
    """

    served: Literal[True]
    requests: dict[str, float] | None
    engine_up: float | None
    engine_restarts: float | None
    cache_errors: float | None


class UnservedMetrics(TypedDict):
    """Why there are no metrics. `why` completes a sentence that starts with "/metrics"."""

    served: Literal[False]
    why: str


class Validation(TypedDict):
    """The failed checks of the role `validate`. `own`: the status under which each own request is counted."""

    failures: list[str]
    own: list[str]


class Probed(TypedDict):
    """Analyses that can be compared with the baseline."""

    answers: list[TimedAnswer]


class Values(TypedDict, total=False):
    """The known facts of a sample.

    `unit`, `health`, `ready`, `baseline`: as in triage. The body of `health` lists the lowered limits under
    `lowered`, empty for none. `release`: the release that the process runs, None without a process.
    `validation` and `probe` are missing if the sampler sends no analyses.
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
    """The content of a watch's file.

    `begun`: the start, in seconds since the boot. `over`: why the sampler stopped, empty while it is running.
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
    """The first line of a watch's file, without its time and author, which every line has."""

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
    """Read the facts of a sample from its checks' entries. Raises ShapeError if they are not an object."""
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
    """The line of a sample in the file."""
    return {
        "event": "sample",
        "began": sample.began,
        "ended": sample.ended,
        "at": sample.at,
        "facts": entries.as_entries(sample.facts),
    }


def read(content: bytes) -> Watched:
    """Parse a watch's file. A truncated last line is ignored.

    Raises ShapeError that names the line if the file is damaged. A malformed fact makes only itself unknown.
    """
    lines = [
        shape.mapping(shape.parsed(line), f"line {number}")
        for number, line in enumerate(content.split(b"\n")[:-1], start=1)
    ]
    if not lines:
        raise shape.ShapeError("the file is empty")
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
