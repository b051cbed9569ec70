"""What the fleet's healing may do, and for which alerts: the allow-list. Pure.

Nothing on it is destructive: every action only reads, records, or can be undone with one command.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

Name = Literal["open_incident", "evidence", "drain", "mitigate", "back_up", "page"]
Repair = Literal["drain", "mitigate", "back_up"]

TRIAGE = "triage"
"""The procedure by which everything is decided. It only reads, and is always allowed."""


@dataclass(frozen=True)
class Action:
    """An entry of the allow-list: a procedure of `run/procedures.py` and the inputs that it may get.

    `does`: what it does, for people, in the form of "going to ...".
    """

    procedure: str
    does: str
    inputs: frozenset[str] = frozenset()


ACTIONS: Mapping[Name, Action] = {
    "open_incident": Action(
        "incident_open",
        "open or join an incident",
        frozenset({"alert", "triage_json", "severity", "impact", "summary"}),
    ),
    "evidence": Action("evidence", "keep evidence of all hosts", frozenset({"incident"})),
    "drain": Action("rotation_out", "take the host out of rotation", frozenset({"incident", "why"})),
    "mitigate": Action(
        "mitigate",
        "lower the limits of the host for a while",
        frozenset({"incident", "why", "minutes", "visits", "concurrent"}),
    ),
    "back_up": Action("backup", "back up the host", frozenset({"incident"})),
    "page": Action("incident_escalate", "call a person", frozenset({"incident", "to", "why"})),
}
REPAIRS: tuple[Repair, ...] = get_args(Repair)
"""The actions that change a host, so they need the budget and the consent of triage."""


@dataclass(frozen=True)
class Response:
    """What an alert leads to. `repairs`: those that are considered, in this order."""

    repairs: tuple[Repair, ...] = ()
    incident: bool = True


_NOTIFIES = Response()
_BACKS_UP = Response(("back_up",), incident=False)

RESPONSES: Mapping[str, Response] = {
    "FleetDown": _NOTIFIES,
    "ServiceDown": _NOTIFIES,
    "EngineDown": _NOTIFIES,
    "EngineRestarting": Response(("mitigate", "drain")),
    "ProbeFailed": _NOTIFIES,
    "ProbeWrong": Response(("drain",)),
    "ProbeSlow": Response(("mitigate",)),
    "ErrorRateCritical": Response(("mitigate", "drain")),
    "AnalysisSlow": Response(("mitigate",)),
    "MemoryLow": Response(("mitigate",)),
    "OutOfMemory": Response(("mitigate",)),
    "GpuFault": Response(("drain",)),
    "FilesystemReadOnly": _NOTIFIES,
    "HostDown": _NOTIFIES,
    "ReleaseChanged": _NOTIFIES,
    "LoadBalancerNoServer": _NOTIFIES,
    "ErrorBudgetBurnsFast": _NOTIFIES,
    "BackupOld": _BACKS_UP,
    "BackupNeverMade": _BACKS_UP,
    "BackupFailed": _BACKS_UP,
}
"""The alerts that healing is called for, by name. Other alerts only go to people."""


class NotAllowedError(ValueError):
    """Something is not on the allow-list; the message names it, and what is."""


@dataclass(frozen=True)
class Step:
    """A procedure to run. `host`: its limit; empty for the whole fleet."""

    action: Name
    host: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)


def parse(names: Sequence[str]) -> frozenset[Name]:
    """The actions of a list of names. Raises NotAllowedError for any other name, and for an empty list."""
    if isinstance(names, str) or not names:
        raise NotAllowedError(
            f"the list of actions is {names!r}; give a list of some of these: {', '.join(ACTIONS)}"
        )
    if unknown := [name for name in names if name not in ACTIONS]:
        listed = ", ".join(repr(name) for name in unknown)
        raise NotAllowedError(f"{listed}: not an action of healing; these are: {', '.join(ACTIONS)}")
    return frozenset(name for name in ACTIONS if name in names)


def arguments(step: Step, allowed: Collection[Name]) -> list[str]:
    """The arguments of ansible-playbook for a step. Raises NotAllowedError for what is not on the list."""
    if step.action not in ACTIONS or step.action not in allowed:
        raise NotAllowedError(
            f"{step.action!r} is not among the allowed actions: {', '.join(sorted(allowed))}"
        )
    action = ACTIONS[step.action]
    if surplus := sorted(step.inputs.keys() - action.inputs):
        raise NotAllowedError(f"{step.action} may not get the input {surplus[0]}")
    if step.action in REPAIRS and not step.host:
        raise NotAllowedError(f"{step.action} needs a host")
    return playbook(action.procedure, step.host, step.inputs)


def playbook(procedure: str, host: str, inputs: Mapping[str, str]) -> list[str]:
    """The arguments of ansible-playbook for a procedure. Each input is one argument."""
    limit = [f"--limit={host}"] if host else []
    return [
        f"katago.fleet.{procedure}",
        *limit,
        *(f"--extra-vars={_variable(*each)}" for each in inputs.items()),
    ]


def _variable(name: str, value: str) -> str:
    # As JSON, because NAME=VALUE ends at the first space.
    return json.dumps({name: value}, ensure_ascii=False)
