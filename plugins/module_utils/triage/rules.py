"""The list of all rules. Each rule names the facts that it reads and the function that decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ansible_collections.katago.fleet.plugins.module_utils.triage import (
    rules_engine,
    rules_gpu,
    rules_host,
    rules_load_balancer,
    rules_network,
    rules_release,
    rules_security,
    rules_service,
    rules_speed,
    rules_traffic,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import Facts, Values
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason, defective, unknown


@dataclass(frozen=True)
class Rule:
    """A rule over facts.

    `needs`: the rule's result is unknown if one of these facts is unknown. `uses`: the rule works without
    these facts. If one of them is malformed, the result is unknown. `newer`: like `needs`, but the rule is
    skipped if the report does not have the fact at all, as one of an earlier version.
    """

    check: Callable[[Values], Iterable[Reason]]
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    newer: tuple[str, ...] = ()


def _own(facts: Values) -> list[str]:
    return rules_traffic.own_statuses(facts.get("probe"))


RULES: dict[str, Rule] = {
    "ports": Rule(lambda facts: rules_network.ports(facts["ports"]), newer=("ports",)),
    "unit": Rule(lambda facts: rules_service.unit(facts["unit"]), ("unit",)),
    "sandbox": Rule(lambda facts: rules_service.sandbox(facts["sandbox"]), newer=("sandbox",)),
    "release": Rule(
        lambda facts: rules_release.release(facts["release"], facts.get("undeployed", "")),
        ("release",),
        ("undeployed",),
    ),
    "security_mode": Rule(lambda facts: rules_security.security_mode(facts["security"]), ("security",)),
    "refused_logins": Rule(
        lambda facts: rules_security.refused_logins(facts["traffic"], _own(facts)), ("traffic",), ("probe",)
    ),
    "config": Rule(lambda facts: rules_release.config(facts["config"]), ("config",)),
    "health": Rule(lambda facts: rules_service.health(facts["health"]), ("health",)),
    "ready": Rule(lambda facts: rules_service.ready(facts["ready"]), ("ready",)),
    "clients": Rule(
        lambda facts: rules_network.clients(facts["clients"], facts.get("health"), facts.get("security")),
        uses=("health", "security"),
        newer=("clients",),
    ),
    "fails_again": Rule(
        lambda facts: rules_service.fails_again(facts["runs"], facts.get("history")), ("runs",), ("history",)
    ),
    "engine_failures": Rule(
        lambda facts: rules_engine.engine_failures(facts["engine_journal"], facts.get("traffic")),
        ("engine_journal",),
        ("traffic",),
    ),
    "engines": Rule(
        lambda facts: rules_engine.engines(facts["processes"], facts["unit"]), ("processes", "unit")
    ),
    "engine_up": Rule(lambda facts: rules_engine.engine_up(facts["traffic"]), ("traffic",)),
    "probe": Rule(lambda facts: rules_traffic.probe(facts["probe"]), ("probe",)),
    "error_rate": Rule(
        lambda facts: rules_traffic.error_rate(facts["traffic"], _own(facts)), ("traffic",), ("probe",)
    ),
    "performance": Rule(
        lambda facts: rules_speed.performance(facts.get("baseline"), facts.get("probe")),
        uses=("baseline", "probe"),
    ),
    "limits": Rule(lambda facts: rules_host.limits(facts["limits"]), ("limits",)),
    "filesystems": Rule(lambda facts: rules_host.filesystems(facts["filesystems"]), ("filesystems",)),
    "memory": Rule(lambda facts: rules_host.memory(facts["memory"]), ("memory",)),
    "pressure": Rule(lambda facts: rules_host.pressure(facts["pressure"]), ("pressure",)),
    "gpu": Rule(lambda facts: rules_gpu.gpu(facts["gpu"]), ("gpu",)),
    "cache": Rule(
        lambda facts: rules_service.cache(facts["journal"]["cache_trouble"], facts.get("traffic")),
        ("journal",),
        ("traffic",),
    ),
    "journal": Rule(lambda facts: rules_service.journal_view(facts.get("journal_view"))),
    "logged_errors": Rule(lambda facts: rules_service.logged_errors(facts["journal"]), ("journal",)),
    "haproxy": Rule(
        lambda facts: rules_load_balancer.haproxy(facts["haproxy"], facts["fleet"]),
        newer=("haproxy", "fleet"),
    ),
    "haproxy_config": Rule(
        lambda facts: rules_load_balancer.haproxy_config(facts["haproxy_config"]), newer=("haproxy_config",)
    ),
    "rotation": Rule(
        lambda facts: rules_load_balancer.rotation(facts["rotation"], facts["fleet"], facts.get("clock")),
        uses=("clock",),
        newer=("rotation", "fleet"),
    ),
    "virtual_address": Rule(
        lambda facts: rules_load_balancer.virtual_address(facts["virtual_address"]),
        newer=("virtual_address",),
    ),
    "certificate": Rule(
        lambda facts: rules_load_balancer.certificate(facts["certificate"], facts["clock"]),
        newer=("certificate", "clock"),
    ),
}
"""Rules by name, as in `Reason.rule`. Reasons of the same level are shown in this order."""

HOST = ("filesystems", "memory", "pressure")
"""The rules for the resources of any host."""

LOAD_BALANCER = ("haproxy", "haproxy_config", "rotation", "virtual_address", "certificate")
"""The rules for a load balancer. On other hosts, they are skipped."""


def examine(facts: Facts, names: Iterable[str], *, contain: bool = False) -> list[Reason]:
    """Run the named rules on the facts. A rule whose facts are missing yields an unknown reason.

    `contain`: if a rule raises an exception, only that rule's result is unknown, and its reason describes the
    exception. Without `contain`, the exception is raised.
    """
    reasons: list[Reason] = []
    for name in names:
        rule = RULES[name]
        if any(fact not in facts.values and fact not in facts.unknown for fact in rule.newer):
            continue
        missing = [fact for fact in (*rule.needs, *rule.newer) if fact not in facts.values]
        missing += [fact for fact in rule.uses if fact in facts.malformed]
        if missing:
            reasons += [
                unknown(name, f"the check `{fact}` has no result: {facts.why(fact)}") for fact in missing
            ]
            continue
        try:
            reasons += rule.check(facts.values)
        except Exception as error:
            if not contain:
                raise
            reasons.append(defective(name, error))
    return reasons
