"""What a host may repair automatically: the allow-list, and the decision by the rules of triage. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ansible_collections.katago.fleet.plugins.module_utils.self_healing.state import Name as Name
from ansible_collections.katago.fleet.plugins.module_utils.service import overlay
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts as triage_facts
from ansible_collections.katago.fleet.plugins.module_utils.triage import rules, rules_host, verdict
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason

JOURNAL_KEPT_BYTES = 64 << 20
LEAST_CACHE_BYTES = 16 << 20
JOURNAL, CACHE = "/var/log/journal", "/var/cache/katago-mcp"
_CACHE_SHOWN = 3

SUSPICIOUS = ("release", "security_mode", "refused_logins")
"""The rules that find signs of an intrusion. Without a result of each, nothing is repaired."""


@dataclass(frozen=True)
class Case:
    """What is known of the host. `cache_problems`: those of the cache's file; None if it was not verified."""

    facts: triage_facts.Facts
    cache_problems: Sequence[str] | None = None

    def finding(self, rule: str) -> Reason | None:
        """What a rule of triage found; None if nothing, or if it has no result."""
        reasons = rules.examine(self.facts, [rule], contain=True)
        return next((each for each in reasons if each.level != "unknown"), None)

    @property
    def has_failed(self) -> bool:
        """Whether the unit has failed. A service that somebody stopped has not."""
        unit = self.facts.values.get("unit")
        return unit is not None and unit["active"] == "failed" and unit["load"] == "loaded"


@dataclass(frozen=True)
class Repair:
    """An entry of the allow-list.

    `does`: what it does, for people. `fault`: the fault that it repairs, as part of a sentence; empty if
    there is none. `prevented_by`: the rules of triage whose findings it cannot repair. `lingers`: its fault
    is still found for a while afterwards, because the journal has it.
    """

    name: Name
    does: str
    fault: Callable[[Case], str]
    prevented_by: tuple[str, ...] = ()
    lingers: bool = False


@dataclass(frozen=True)
class Decision:
    """What to do. `repair`: None if nothing may be done, because of `why`."""

    fault: str
    repair: Repair | None = None
    why: str = ""


def _full_disk(case: Case) -> str:
    """A file system that fills up, and on which the journal or the cache takes space that can be freed."""
    consumers = case.facts.values.get("consumers")
    for each in case.facts.values.get("filesystems", []):
        percent = each["free_percent"]
        if percent is None or percent >= rules_host.SCARCE_PERCENT or each["read_only"]:
            continue
        if case.has_failed and percent >= rules_host.EXHAUSTED_PERCENT:
            # There is enough space to start the service, so the failure has another cause.
            continue
        if consumers is None or any(
            one["device"] == each["device"] and is_freeable(one) for one in consumers
        ):
            return f"only {percent:g} % of the disk space of {', '.join(each['paths'])} is free"
    return ""


def is_freeable(consumer: triage_facts.Consumer) -> bool:
    """Whether a directory is ours and large enough to free space in it."""
    least = {JOURNAL: JOURNAL_KEPT_BYTES, CACHE: LEAST_CACHE_BYTES}.get(consumer["path"])
    return least is not None and consumer["bytes"] > least


def _failed_after_switch(case: Case) -> str:
    history = case.facts.values.get("history")
    failed = _failed(case)
    if not failed or history is None or history["switch"] is None or history["way_back"] is None:
        return ""
    switch = history["switch"]
    # A switch in the future means that the clock was set back: its age is unknown.
    is_recent = 0 <= switch["seconds_ago"] <= verdict.RECENT_SWITCH_SECONDS
    if not is_recent or switch.get("how") != "deployment":
        return ""
    return f"{failed}, {switch['seconds_ago'] // 60} minutes after a release was deployed"


def _failed(case: Case) -> str:
    finding = case.finding("unit") if case.has_failed else None
    return finding.measured if finding else ""


def _damaged_cache(case: Case) -> str:
    finding = case.finding("cache")
    if finding is None or (case.cache_problems is not None and not case.cache_problems):
        return ""
    problems = "; ".join((case.cache_problems or ())[:_CACHE_SHOWN])
    return f"{finding.measured}{f' ({problems})' if problems else ''}"


def _failing_engine(case: Case) -> str:
    finding = case.finding("engine_failures")
    unit = case.facts.values.get("unit")
    return finding.measured if finding and unit and unit["active"] == "active" else ""


ALLOWED: tuple[Repair, ...] = (
    Repair("free_disk", "vacuum the journal and shrink the cache", _full_disk),
    Repair(
        "roll_back",
        "roll back to the last validated release",
        _failed_after_switch,
        prevented_by=("ports",),
    ),
    Repair("restart", "restart the service by force", _failed, prevented_by=("release", "ports")),
    Repair("quarantine_cache", "quarantine the cache", _damaged_cache, prevented_by=("release", "ports")),
    Repair("lower_limits", "lower the limits for a while", _failing_engine, lingers=True),
)
"""Everything that a host repairs automatically. The first entry whose fault is found decides."""


def candidate(case: Case) -> tuple[Repair, str] | None:
    """The repair for what is known, with its fault; None if there is nothing to repair.

    Without the facts that take long to measure, it may be one that is not needed.
    """
    if case.facts.values.get("undeployed"):
        return None
    return next(((each, fault) for each in ALLOWED if (fault := each.fault(case))), None)


def decide(case: Case) -> Decision | None:
    """Which repair to make, or why none may be made; None if nothing is to be repaired."""
    if (found := candidate(case)) is None:
        return None
    repair, fault = found
    reasons = rules.examine(case.facts, SUSPICIOUS, contain=True)
    if suspicious := next((each for each in reasons if each.suspicious), None):
        return Decision(fault, why=f"the host may be evidence of an intrusion: {suspicious.measured}")
    if unknown := next((each for each in reasons if each.level == "unknown"), None):
        return Decision(fault, why=f"an intrusion cannot be excluded: {unknown.measured}")
    for rule in repair.prevented_by:
        if finding := case.finding(rule):
            return Decision(fault, why=f"{finding.measured}, which is not repaired automatically")
    if repair.name == "quarantine_cache" and case.cache_problems is None:
        return Decision(fault, why="the cache's file cannot be verified")
    if repair.name == "free_disk" and "consumers" not in case.facts.values:
        return Decision(fault, why="it is not known what takes the space")
    if repair.name == "lower_limits" and (lowered := _lowered(case)):
        return Decision(fault, why=lowered)
    return Decision(fault, repair)


def _lowered(case: Case) -> str:
    health = case.facts.values.get("health")
    return "" if health is None else overlay.describe(health["body"].get("overlay"))
