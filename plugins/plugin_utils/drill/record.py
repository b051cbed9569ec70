"""The record of a drill on the control node: RECORDS/drills/<id>/drill.json.

Timestamps have the format of `timestamps.py`. Durations are in seconds from the injection of the fault.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

FILE = "drill.json"
SCHEMA = 1

Mode = Literal["unattended", "person", "tabletop"]
Outcome = Literal["running", "passed", "failed", "invalid", "aborted"]


class SteadyState(TypedDict):
    """The state of the fleet before the fault. `problems`: why it was not healthy."""

    healthy: bool
    problems: list[str]


class Fault(TypedDict):
    """`injected`: when the injector returned. `landed`: when a probe saw it; `seen`: what the probe saw."""

    injected: str | None
    landed: str | None
    seen: str


class Times(TypedDict):
    """Seconds from the injection; null if it did not happen."""

    detect: float | None
    acknowledge: float | None
    mitigate: float | None
    recover: float | None


class Traffic(TypedDict):
    """What the prober saw, through a load balancer if there is one. `interval`: seconds."""

    interval: float
    requests: int
    failed: int
    sessions: int
    sessions_lost: int


class Data(TypedDict):
    """Known writes before the fault, and how many of them are lost. `rpo_seconds`: age of the oldest one."""

    writes: int
    lost: int
    rpo_seconds: float | None


class Action(TypedDict):
    """A procedure that was run during the drill. `by`: a person's name, `self-healing` or `drill`."""

    time: str
    procedure: str
    hosts: list[str]
    arguments: dict[str, str]
    by: str
    outcome: Literal["done", "failed", "unknown"]


class Message(TypedDict):
    """A step of communication, as in the incident's record."""

    time: str
    kind: Literal["opened", "acknowledged", "update", "escalated", "status", "closed"]
    audience: list[str]
    by: str


class Undo(TypedDict):
    """The guaranteed undo, armed before the injection. `expires`: when the host undoes the fault itself."""

    armed: str | None
    expires: str | None
    done: str | None
    by: Literal["", "drill", "abort", "expiry"]


class Difference(TypedDict):
    """What a drill left changed on a host."""

    host: str
    what: str
    before: str
    after: str


class Record(TypedDict):
    """A drill. `sealed`: its scenario was drawn at random and stays secret until the end.

    `hosts`: those that got the fault. `participants`: people. `incident`: the ID of its incident.
    `answers`: a person's answers to the questions of the scenario, by the question's ID. `notes`: what the
    drill could not do, as sentences.
    """

    schema: int
    id: str
    scenario: str
    sealed: bool
    mode: Mode
    fleet: str
    hosts: list[str]
    participants: list[str]
    incident: str
    level: str
    started: str
    ended: str | None
    outcome: Outcome
    reason: str
    steady_state: SteadyState
    fault: Fault
    times: Times
    targets: Times
    traffic: Traffic
    data: Data
    actions: list[Action]
    messages: list[Message]
    undo: Undo
    differences: list[Difference]
    answers: dict[str, str]
    notes: NotRequired[list[str]]
    version: NotRequired[str]
