"""The load generator: its order, its report, and the limits that keep it from doing harm."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Literal, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.client import Target
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.positions import Tool
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.statistics import Period, Row

SCHEMA = 1
MOST_RUNNING = 256
"""The most calls that run at the same time with a rate."""

REPORT = "report "
"""With this begins the line in which the program prints its report as JSON."""

Ended = Literal["running", "done", "interrupted", "overload"]


@dataclass(frozen=True)
class Order:
    """What the load generator does.

    `targets`: called in turn. `token`: the bearer token. `rate`: calls a second, started at fixed times; 0
    for `clients` that each call again as soon as their last call ended. `session_percent`: the share of
    calls, or of clients, in the session generation. `seconds`: of the run. `deadline`: seconds for a call.
    `overload_seconds`: the run stops if the service reports overload, or half of the calls fail, for so long.
    """

    targets: tuple[Target, ...]
    token: str = field(default="", repr=False)
    rate: float = 0.0
    clients: int = 4
    session_percent: int = 50
    seconds: float = 60.0
    deadline: float = 30.0
    overload_seconds: float = 10.0
    tool: Tool = "analyzePosition"
    visits: int = 8

    @classmethod
    def parse(cls, text: str) -> Order:
        """Read an order that was passed as JSON. Raises shape.ShapeError."""
        content = shape.mapping(shape.parsed(text))
        targets = tuple(shape.record(Target, each) for each in content["targets"])
        return shape.record(cls, {**content, "targets": targets})

    def as_json(self) -> str:
        """The order as JSON, with its token."""
        return json.dumps(asdict(self))


class Settings(TypedDict):
    """The part of the order that the report repeats."""

    targets: dict[str, str]
    rate: float
    clients: int
    session_percent: int
    seconds: float
    tool: str
    visits: int


class Bar(TypedDict):
    """A range of durations in seconds, and the calls that succeeded in it."""

    above: float
    to: float
    calls: int


class Report(TypedDict):
    """What a run measured. Times of day have the format of `timestamps.py`.

    `ended`: why the run ended, in words in `reason`. `seconds`: how long it ran. `width`: seconds of a
    period. `reasons`: for each kind of failure, that of the first call.
    """

    schema: int
    started: str
    seconds: float
    ended: Ended
    reason: str
    settings: Settings
    total: Row
    generations: dict[str, Row]
    hosts: dict[str, Row]
    width: float
    periods: list[Period]
    bars: list[Bar]
    reasons: dict[str, str]
