"""The verdict on a host, with the next step, and the verdict on a fleet.

A host's verdict is the worst level of its reasons. Pure: facts in, verdict out. A check without a result is
unknown. A host on which a deciding check is unknown is never healthy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.service import checks as service_checks
from ansible_collections.katago.fleet.plugins.module_utils.severity import LEVELS, RESPONSE, Level, rank
from ansible_collections.katago.fleet.plugins.module_utils.triage import (
    at_work,
    notes,
    proposals,
    reason,
    rules,
    rules_release,
    rules_security,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts as triage_facts
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import Facts
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason

RECENT_SWITCH_SECONDS = 3600

PRESERVE = (
    "restarting destroys evidence, so no command that restarts or changes the service is proposed; after a"
    " false alarm, end the security mode with security_off.yml -e 'why=\"false alarm\"'"
)


@dataclass(frozen=True)
class Verdict:
    """The verdict on a host, the worst reasons first.

    `respond_by`: UTC, None if the level has no deadline. `undecided`: the names of the rules without a
    result. `next`: the playbook to run, with its arguments and without `-l`.
    """

    verdict: Level
    respond_by: str | None
    reasons: tuple[Reason, ...]
    undecided: tuple[str, ...]
    escalate: tuple[str, ...]
    changes: tuple[str, ...]
    notes: tuple[str, ...]
    proposals: tuple[str, ...]
    next: str | None


@dataclass(frozen=True)
class Fleet:
    """The verdict on a fleet: that of its worst host. `hosts`: the number of hosts by verdict."""

    verdict: Level
    respond_by: str | None
    hosts: Mapping[str, int]
    unknown: tuple[str, ...]


@dataclass
class _Describing:
    """Collects lines of text. `contain`: an exception is added to `defects` instead of being raised."""

    contain: bool
    defects: list[str] = field(default_factory=list)

    def lines(self, *descriptions: Callable[[], Iterable[str]]) -> list[str]:
        collected: list[str] = []
        for describe in descriptions:
            try:
                collected += describe()
            except Exception as error:
                if not self.contain:
                    raise
                self.defects.append(reason.defect(error))
        return collected


def judge(facts: Facts, *, now: datetime, breach: bool = False, contain: bool = False) -> Verdict:
    """The verdict on a host that answered. `breach`: an operator reported a security breach.

    `contain`: an exception in our own code affects only the rule or the note that raised it, and the verdict
    reports it. Use it wherever somebody acts on the verdict. Without it, the exception is raised.
    """
    reasons = [
        *([rules_security.breach()] if breach else []),
        *_reasons(facts, contain=contain),
    ]
    if facts.values.get("undeployed"):
        reasons = rules_release.without_consequences(reasons)
    lock = facts.values.get("lock")
    if lock is not None and at_work.is_at_work(lock):
        reasons = at_work.attributed(reasons, lock)
    reasons.sort(key=lambda each: -rank(each.level))
    describing = _Describing(contain)
    changes = describing.lines(lambda: notes.changes(facts))
    observations = describing.lines(lambda: [at_work.text(lock)] if lock else [])
    observations += describing.lines(
        lambda: notes.notes(facts), lambda: notes.gpu(facts), lambda: notes.load_balancer(facts)
    )
    skew = describing.lines(lambda: notes.skew(facts, now))
    suspicious = [each for each in reasons if each.suspicious]
    if suspicious:
        # A restart, a rollback, a purge or a cleanup would destroy the traces of an intruder.
        return _verdict(
            [each if each.suspicious else replace(each, next=None) for each in reasons],
            now,
            changes=changes,
            notes=[PRESERVE, *observations, *skew, *describing.defects],
            next_step=_isolating(suspicious),
        )
    performance = describing.lines(
        lambda: [] if triage_facts.is_only_load_balancer(facts) else notes.performance(facts)
    )
    proposed = describing.lines(lambda: proposals.proposals(facts))
    return _verdict(
        reasons,
        now,
        changes=changes,
        notes=[*observations, *performance, *skew, *describing.defects],
        proposals=proposed,
        next_step=_next(facts, reasons),
    )


def extended(verdict: Verdict, reasons: Iterable[Reason], *, now: datetime) -> Verdict:
    """A verdict with further reasons, which only the facts of several hosts show."""
    added = sorted(reasons, key=lambda each: -rank(each.level))
    if not added:
        return verdict
    is_evidence = any(each.suspicious for each in verdict.reasons)
    step = next((each.next for each in added if each.next), None)
    is_worse = rank(added[0].level) > rank(verdict.verdict)
    merged = sorted([*verdict.reasons, *added], key=lambda each: -rank(each.level))
    return _verdict(
        merged,
        now,
        changes=verdict.changes,
        notes=verdict.notes,
        proposals=verdict.proposals,
        next_step=verdict.next if is_evidence or not is_worse else step or verdict.next,
    )


def unreachable(why: str, *, now: datetime, breach: bool = False) -> Verdict:
    """The verdict on a host without facts: unknown, never healthy."""
    reasons = [*([rules_security.breach()] if breach else []), reason.unknown("reachable", why)]
    note = (
        "the service may still be running: check from another network, on the host's console, or at the"
        " load balancer"
    )
    return _verdict(reasons, now, notes=[note])


def fleet(hosts: Mapping[str, Verdict], *, now: datetime) -> Fleet:
    """The verdict on all hosts. A fleet without hosts is unknown."""
    levels = [verdict.verdict for verdict in hosts.values()]
    worst = _worst(levels) if levels else "unknown"
    return Fleet(
        verdict=worst,
        respond_by=_respond_by(worst, now),
        hosts={level: levels.count(level) for level in reversed(LEVELS) if level in levels},
        unknown=tuple(sorted(host for host, verdict in hosts.items() if verdict.verdict == "unknown")),
    )


def as_dict(verdict: Verdict | Fleet) -> dict[str, Any]:
    """A verdict as plain values."""
    return asdict(verdict)


def parse(value: object) -> Verdict:
    """The verdict in plain values as returned by `as_dict`. Raises ShapeError that names the wrong field."""
    return shape.record(Verdict, value, "verdict")


def _reasons(facts: Facts, *, contain: bool) -> list[Reason]:
    """The reasons of all rules for what was measured on the host."""
    if not triage_facts.is_only_load_balancer(facts):
        return rules.examine(facts, rules.RULES, contain=contain)
    # The playbooks for the resources of a host are for the service.
    of_host = rules.examine(facts, rules.HOST, contain=contain)
    own = rules.examine(facts, rules.LOAD_BALANCER, contain=contain)
    return [*(replace(each, next=None) for each in of_host), *own]


def _verdict(
    reasons: Sequence[Reason],
    now: datetime,
    *,
    changes: Iterable[str] = (),
    notes: Iterable[str] = (),
    proposals: Iterable[str] = (),
    next_step: str | None = None,
) -> Verdict:
    level = _worst(["healthy", *(each.level for each in reasons)])
    return Verdict(
        verdict=level,
        respond_by=_respond_by(level, now),
        reasons=tuple(each for each in reasons if each.level != "healthy"),
        undecided=tuple(dict.fromkeys(each.rule for each in reasons if each.level == "unknown")),
        escalate=tuple(dict.fromkeys(each.escalate for each in reasons if each.escalate)),
        changes=tuple(changes),
        notes=tuple(notes),
        proposals=tuple(proposals),
        next=next_step,
    )


def _worst(levels: Sequence[Level]) -> Level:
    return max(levels, key=rank)


def _respond_by(level: Level, now: datetime) -> str | None:
    if level not in RESPONSE:
        return None
    return timestamps.stamp(now + RESPONSE[level])


def _isolating(suspicious: Sequence[Reason]) -> str | None:
    """The playbook for a suspicious host: the one for its security mode, or the one that turns it on."""
    modes = [each for each in suspicious if each.rule == "security_mode"]
    return (modes or suspicious)[0].next


def _next(facts: Facts, reasons: Sequence[Reason]) -> str | None:
    """The playbook for the worst reason. After a recent switch, a rollback instead of a restart."""
    if at_work.is_at_work(facts.values.get("lock")):
        # The lock refuses every other procedure.
        return reason.TRIAGE if any(each.level != "healthy" for each in reasons) else None
    if any(each.rule == "filesystems" and each.level == "P2" for each in reasons):
        # The playbooks refuse a disk that the service cannot write to: the engine would not start again.
        return None
    if any(each.rule == "ports" for each in reasons):
        # The service cannot start while another process uses its port.
        return None
    steps = [each.next for each in reasons if each.next]
    again = any(each.rule == "fails_again" and each.level != "unknown" for each in reasons)
    if not steps and not again:
        undecided = any(each.level == "unknown" for each in reasons)
        validation = reason.LOAD_BALANCER if triage_facts.is_only_load_balancer(facts) else reason.VALIDATE
        return validation if undecided else None
    step = steps[0] if steps else reason.FORCE
    severe = rank(reasons[0].level) >= rank("P1")
    if step in (reason.RESTART, reason.FORCE) and severe and (target := _rollback_target(facts, again=again)):
        return f"rollback.yml -e release={target}"
    if step == reason.MITIGATE:
        finding = next(each.rule for each in reasons if each.next == step)
        health = facts.values.get("health")
        lowered = service_checks.lowered_visits(health["body"]) if health else None
        return reason.mitigation(lowered or facts.values.get("max_visits"), finding)
    return step


def _rollback_target(facts: Facts, *, again: bool) -> str | None:
    if "history" not in facts.values:
        return None
    history = facts.values["history"]
    switch = history["switch"]
    recent = switch is not None and switch["seconds_ago"] <= RECENT_SWITCH_SECONDS
    return history["way_back"] if recent or again else None
