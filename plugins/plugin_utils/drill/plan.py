"""Decides what a drill does: its scenario, its hosts, and whether the inventory allows it."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, time
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import rotation
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import LoadBalancerError
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.alerts import CAUSED
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Mode
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS, Scenario, Where

RANDOM = "random"
PRODUCTION = "production"
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WINDOW = re.compile(
    r"(?P<days>[A-Z][a-z]{2}(?:,[A-Z][a-z]{2})*) (?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d) UTC"
)
_MARGIN_SECONDS = 60
"""The host undoes a fault this long after the drill had to."""


class PlanError(Exception):
    """The drill is refused. The message has a sentence for each reason."""


@dataclass(frozen=True)
class Request:
    """What the operator asks for. `hosts`: those that get the fault; empty to have one chosen."""

    scenario: str
    mode: Mode
    minutes: float
    sealed: bool = False
    hosts: tuple[str, ...] = ()
    participants: tuple[str, ...] = ()


@dataclass(frozen=True)
class Guard:
    """What the inventory allows.

    `environment`: what the fleet is used for. `window`: such as `Tue 10:00-12:00 UTC`; empty for none.
    `max_hosts`: how many hosts of the fleet may get a fault. `min_available`: as `fleet_min_available`.
    `outage_seconds`: after which an external cause, such as lost power, ends.
    """

    environment: str
    allow_production: bool
    window: str
    max_hosts: int
    min_available: str
    outage_seconds: float = 30


@dataclass(frozen=True)
class Target:
    """A host, the fault that it gets, and after how many seconds the host itself undoes it.

    `alerts`: those about the host that the fault causes.
    """

    host: str
    fault: str
    where: Where
    ttl: int
    parameters: Mapping[str, str] = field(default_factory=dict)
    leaves_traces: bool = False
    alerts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A drill that is allowed. `seconds`: for the response.

    `outage`: seconds after which an external cause ends; None if the response must repair the fault.
    """

    scenario: str
    mode: Mode
    sealed: bool
    seconds: float
    targets: tuple[Target, ...]
    participants: tuple[str, ...]
    outage: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, from which `plan` makes it again."""
        return asdict(self)


def plan(value: Mapping[str, Any]) -> Plan:
    """The plan that `as_dict` returned."""
    targets = tuple(Target(**{**each, "alerts": tuple(each["alerts"])}) for each in value["targets"])
    return Plan(**{**value, "targets": targets, "participants": tuple(value["participants"])})


def decide(
    request: Request,
    guard: Guard,
    fleet: Sequence[str],
    load_balancers: Sequence[str],
    *,
    now: datetime,
    chance: random.Random,
) -> Plan:
    """The plan of a drill.

    Raises:
        PlanError: the request is not valid, or the inventory does not allow it.
    """
    problems = list(_invalid(request, fleet))
    if problems:
        raise PlanError(" ".join(problems))
    scenario = (
        _drawn(request.mode, load_balancers, chance)
        if request.scenario == RANDOM
        else SCENARIOS[request.scenario]
    )
    if problem := _missing(scenario, load_balancers):
        raise PlanError(problem)
    targets = tuple(_targets(request, guard, scenario, fleet, load_balancers, chance))
    if problems := list(_forbidden(guard, targets, fleet, load_balancers, now)):
        raise PlanError(" ".join(problems))
    return Plan(
        scenario=scenario.name,
        mode=request.mode,
        sealed=request.sealed,
        seconds=request.minutes * 60,
        targets=targets,
        participants=request.participants,
        outage=guard.outage_seconds if scenario.external else None,
    )


def is_in_window(window: str, now: datetime) -> bool:
    """Whether a time is in a window such as `Tue,Thu 10:00-12:00 UTC`.

    Raises:
        ValueError: the window has another form.
    """
    form = _WINDOW.fullmatch(window.strip())
    days = form["days"].split(",") if form else []
    if form is None or not set(days) <= set(_DAYS):
        raise ValueError(f"drill_window is {window!r}; give days and times such as Tue 10:00-12:00 UTC")
    start, end = time.fromisoformat(form["start"]), time.fromisoformat(form["end"])
    if end <= start:
        raise ValueError(f"drill_window is {window!r}, which ends before it starts; a window ends on its day")
    moment = now.astimezone(UTC)
    return _DAYS[moment.weekday()] in days and start <= moment.time() < end


def _invalid(request: Request, fleet: Sequence[str]) -> Iterator[str]:
    if request.scenario not in (*SCENARIOS, RANDOM):
        yield (f"-e scenario is {request.scenario!r}; give {RANDOM} or one of {', '.join(SCENARIOS)}.")
    if request.sealed and request.scenario != RANDOM:
        yield "-e sealed=true needs -e scenario=random: a scenario that was named is no secret."
    for host in request.hosts:
        if host not in fleet:
            yield f"-e targets names {host}, which is not in the group katago of the inventory."
    if request.mode == "person" and not request.participants:
        yield "-e mode=person needs -e participants=NAME, whose response is measured."


def _drawn(mode: Mode, load_balancers: Sequence[str], chance: random.Random) -> Scenario:
    possible = [
        each
        for each in SCENARIOS.values()
        if not _missing(each, load_balancers)
        # The loss of the control node would end the session of the person.
        and each.faults[0].where != "control_node"
        # People could not act before such a fault has ended.
        and not (mode == "person" and any("seconds" in use.parameters for use in each.faults))
    ]
    return chance.choice(possible)


def _missing(scenario: Scenario, load_balancers: Sequence[str]) -> str:
    if load_balancers or all(each.where != "load_balancer" for each in scenario.faults):
        return ""
    return f"{scenario.name} needs a load balancer, and the inventory has no host in the group load_balancer."


def _targets(
    request: Request,
    guard: Guard,
    scenario: Scenario,
    fleet: Sequence[str],
    load_balancers: Sequence[str],
    chance: random.Random,
) -> Iterator[Target]:
    lasts = guard.outage_seconds if scenario.external else request.minutes * 60
    hosts = request.hosts or (chance.choice(fleet) if request.scenario == RANDOM else fleet[0],)
    for use in scenario.faults:
        for host in load_balancers[:1] if use.where == "load_balancer" else hosts:
            yield Target(
                host,
                use.fault,
                use.where,
                int(lasts) + _MARGIN_SECONDS,
                dict(use.parameters),
                use.leaves_traces,
                CAUSED[use.fault],
            )


def _forbidden(
    guard: Guard,
    targets: Sequence[Target],
    fleet: Sequence[str],
    load_balancers: Sequence[str],
    now: datetime,
) -> Iterator[str]:
    hosts = {each.host for each in targets if each.host in fleet}
    try:
        required = rotation.must_stay(guard.min_available, len(fleet))
    except LoadBalancerError as error:
        yield f"{error}."
        return
    if hosts and len(fleet) - len(hosts) < required:
        yield (
            f"{len(hosts)} of {len(fleet)} hosts would get the fault, and {required} must stay in rotation"
            f" (fleet_min_available is {guard.min_available})."
        )
    if len(hosts) > guard.max_hosts:
        yield (
            f"{len(hosts)} hosts would get the fault; drill_max_hosts is {guard.max_hosts}."
            " Name fewer hosts with -e targets."
        )
    if any(each.where == "load_balancer" for each in targets) and len(load_balancers) == 1:
        yield "The fleet has one load balancer. Without a second one, its loss is an outage for all clients."
    if guard.environment == PRODUCTION:
        yield from _forbidden_in_production(guard, now)


def _forbidden_in_production(guard: Guard, now: datetime) -> Iterator[str]:
    if not guard.allow_production:
        yield (
            "This is a production fleet: fleet_environment is production unless the inventory sets it."
            " Add -e drill_allow_production=true to practise on it."
        )
    if not guard.window:
        yield "drill_window is not set: set when drills are allowed, such as Tue 10:00-12:00 UTC."
        return
    try:
        if not is_in_window(guard.window, now):
            yield f"It is {now.astimezone(UTC):%a %H:%M} UTC, and drill_window is {guard.window}."
    except ValueError as error:
        yield f"{error}."
