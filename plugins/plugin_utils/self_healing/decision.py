"""What is done about alerts: by the allow-list, the findings of triage, and the budget. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.self_healing import budget, policy
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.fleet_state import Handled, State
from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing import allowed
from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing.messages import Alert

MOST_IN_A_RUN = 2
EPISODE = budget.HOUR
"""Seconds in which an alert that fires again belongs to the same trouble."""
MINUTES = "60"
_LIMITS = ("visits", "concurrent")
_PROPOSED = re.compile(rf"mitigate\.yml -e ({'|'.join(_LIMITS)})=([1-9][0-9]{{0,8}})(?: |$)")
_UNHEALTHY = ("P0", "P1", "P2")
_DRAINABLE = frozenset(
    ("engine_failures", "engine_up", "engines", "error_rate", "gpu", "health", "probe", "ready")
)
"""The rules of triage whose findings mean that a host must not get requests."""


@dataclass(frozen=True)
class Planned:
    """A repair to make: its step, the alert that led to it, and what triage found, as part of a sentence."""

    step: allowed.Step
    alert: Alert
    fault: str


@dataclass(frozen=True)
class Refused:
    """Why nothing is repaired for an alert, as part of a sentence.

    `calls`: whether a person is called. `stops`: whether only a person can resume. `settled`: whether the
    next message about the same alert is ignored.
    """

    alert: Alert
    why: str
    calls: bool = False
    stops: bool = False
    settled: bool = True


@dataclass(frozen=True)
class Decision:
    """What to do about new alerts. `incident`: the alerts that need an incident, the most severe first."""

    incident: tuple[Alert, ...] = ()
    repairs: tuple[Planned, ...] = ()
    refused: tuple[Refused, ...] = ()
    settled: tuple[Alert, ...] = field(default=())


def new(alerts: Sequence[Alert], state: State) -> list[Alert]:
    """The alerts that have to be decided on; the others were handled.

    An alert that resolves and fires again within an hour is decided on again only if its host was repaired,
    because then the repair did not last.
    """
    return [each for each in alerts if not _is_handled(each, state)]


def _is_handled(alert: Alert, state: State) -> bool:
    before = next((each for each in state.handled if each.key == alert.key), None)
    if before is None or not before.settled or state.clock.total - before.total >= EPISODE:
        return False
    return before.starts_at == alert.starts_at or not _repaired(alert, state)


def _repaired(alert: Alert, state: State) -> bool:
    return any(
        (each.alert, each.host) == alert.key and state.clock.total - each.total < EPISODE
        for each in state.repairs
    )


def known_incident(alert: Alert, state: State) -> str:
    """The incident that an alert has already; empty if it has none of the last hour."""
    return next(
        (
            each.incident
            for each in state.handled
            if each.key == alert.key and state.clock.total - each.total < EPISODE
        ),
        "",
    )


def decide(
    alerts: Sequence[Alert],
    report: Mapping[str, Any],
    state: State,
    *,
    actions: Collection[allowed.Name],
    drains: bool,
) -> Decision:
    """Decide on new alerts.

    Args:
        alerts: the most severe first.
        report: of triage, as its JSON.
        state: of the program, with the repairs that count.
        actions: what may be done.
        drains: whether there are load balancers.
    """
    planned: list[Planned] = []
    refused: list[Refused] = []
    for alert in alerts:
        outcome = _one(alert, report, state, planned, actions=actions, drains=drains)
        if isinstance(outcome, Planned):
            planned.append(outcome)
        elif outcome is not None:
            refused.append(outcome)
    planned, refused = _without_mass_drain(planned, refused, report)
    open_ = {each.alert.key for each in refused if not each.settled}
    causes = {each.alert.key for each in refused if each.calls}
    return Decision(
        tuple(each for each in alerts if allowed.RESPONSES[each.name].incident or each.key in causes),
        tuple(planned),
        tuple(refused),
        tuple(each for each in alerts if each.key not in open_),
    )


def _one(
    alert: Alert,
    report: Mapping[str, Any],
    state: State,
    planned: Sequence[Planned],
    *,
    actions: Collection[allowed.Name],
    drains: bool,
) -> Planned | Refused | None:
    """The repair for an alert, why there is none, or None if it needs none."""
    considered = [each for each in allowed.RESPONSES[alert.name].repairs if each in actions]
    if not considered or not alert.host:
        return None
    host = (report.get("hosts") or {}).get(alert.host)
    if not isinstance(host, Mapping):
        return Refused(alert, f"triage has no result of {alert.host}", settled=False)
    if forbidden := _forbidden(alert, host):
        return forbidden
    choices = ((each, _consent(each, host, drains=drains)) for each in considered)
    chosen = next(((name, inputs, fault) for name, (inputs, fault) in choices if fault), None)
    if chosen is None:
        return Refused(alert, f"triage finds nothing on {alert.host} that {_listed(considered)} would repair")
    name, inputs, fault = chosen
    if any(each.step.host == alert.host for each in planned):
        return Refused(alert, f"{alert.host} gets another repair in this run", settled=False)
    if refusal := _over_budget(name, alert.host, state, planned):
        why = f"{alert.host}: {fault}; {refusal.why}"
        return Refused(alert, why, calls=refusal.stops, stops=refusal.stops, settled=refusal.stops)
    return Planned(allowed.Step(name, alert.host, inputs), alert, fault)


def _forbidden(alert: Alert, host: Mapping[str, Any]) -> Refused | None:
    """Why nothing may be repaired on a host, whatever is wrong with it."""
    reasons = _reasons(host)
    if suspicious := next((each for each in reasons if each.get("suspicious")), None):
        why = f"{alert.host} may be evidence of an intrusion: {suspicious.get('measured')}"
        return Refused(alert, why, calls=True)
    undecided = set(host.get("undecided") or ()) | {
        each["rule"] for each in reasons if each.get("level") == "unknown" and each.get("rule")
    }
    if missing := [rule for rule in policy.SUSPICIOUS if rule in undecided]:
        why = f"an intrusion on {alert.host} cannot be excluded: triage has no result of {', '.join(missing)}"
        return Refused(alert, why, calls=True, settled=False)
    if host.get("verdict") == "unknown" or not host.get("facts"):
        return Refused(alert, f"the state of {alert.host} is unknown", calls=True, settled=False)
    lock = _fact(host, "lock")
    if isinstance(lock, Mapping):
        why = f"{lock.get('owner')} has locked {alert.host} for {lock.get('procedure')}"
        return Refused(alert, why, settled=False)
    return None


def _consent(repair: allowed.Repair, host: Mapping[str, Any], *, drains: bool) -> tuple[dict[str, str], str]:
    """The inputs of a repair and the fault that it repairs, if triage finds one; else an empty fault."""
    if repair == "back_up":
        # The alert is about the backup. Triage only shows that the host may be worked on.
        return {}, "its backup is missing or old"
    worst = next((each for each in _reasons(host) if each.get("level") in _UNHEALTHY), None)
    if repair == "mitigate":
        proposed = _PROPOSED.match(str(host.get("next") or ""))
        if worst is None or proposed is None:
            return {}, ""
        return {proposed[1]: proposed[2], "minutes": MINUTES}, str(worst.get("measured"))
    broken = next((each for each in _reasons(host) if _must_leave(each)), None)
    if broken is None or not drains:
        return {}, ""
    return {}, str(broken.get("measured"))


def _must_leave(reason: Mapping[str, Any]) -> bool:
    return reason.get("rule") in _DRAINABLE and reason.get("level") in ("P0", "P1")


def _over_budget(
    name: allowed.Repair, host: str, state: State, planned: Sequence[Planned]
) -> budget.Refusal | None:
    now = state.clock.total
    spent = [budget.Spent(each.action, each.total) for each in state.repairs if each.host == host]
    if refusal := budget.refusal(spent, name, now):
        return refusal
    if len(planned) >= MOST_IN_A_RUN:
        return budget.Refusal(f"a run makes at most {MOST_IN_A_RUN} repairs", stops=False)
    for most, span, text in (
        (budget.FLEET_PER_HOUR, budget.HOUR, "an hour"),
        (budget.FLEET_PER_DAY, budget.DAY, "a day"),
    ):
        made = sum(now - each.total < span for each in state.repairs) + len(planned)
        if made >= most:
            return budget.Refusal(f"the fleet's budget of {most} repairs in {text} is used up", stops=True)
    return None


def _without_mass_drain(
    planned: Sequence[Planned], refused: Sequence[Refused], report: Mapping[str, Any]
) -> tuple[list[Planned], list[Refused]]:
    """Without any drain, if most hosts should leave rotation: then the cause is no host."""
    hosts = report.get("hosts") or {}
    broken = [name for name, host in hosts.items() if any(map(_must_leave, _reasons(host)))]
    if len(broken) * 2 <= len(hosts):
        return list(planned), list(refused)
    why = f"{len(broken)} of {len(hosts)} hosts should leave rotation, so draining would not help"
    drains = [each for each in planned if each.step.action == "drain"]
    kept = [each for each in planned if each not in drains]
    return kept, [*refused, *(Refused(each.alert, why, calls=True) for each in drains)]


def as_handled(alerts: Sequence[Alert], decision: Decision, state: State, incident: str) -> Iterator[Handled]:
    """What is remembered of the alerts of a run before anything is done about them: none is settled."""
    in_incident = {each.key for each in decision.incident}
    for each in alerts:
        name = incident if each.key in in_incident else ""
        yield Handled(
            each.name,
            each.host,
            each.starts_at,
            state.clock.total,
            False,
            name or known_incident(each, state),
        )


def _reasons(host: Any) -> list[Mapping[str, Any]]:
    found = host.get("reasons") if isinstance(host, Mapping) else None
    return [each for each in found or () if isinstance(each, Mapping)]


def _fact(host: Mapping[str, Any], name: str) -> Any:
    entry = host["facts"].get(name) if isinstance(host["facts"], Mapping) else None
    return entry.get("value") if isinstance(entry, Mapping) else None


def _listed(repairs: Sequence[str]) -> str:
    return " or ".join(repairs)
