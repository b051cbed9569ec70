"""Which faults a host repairs automatically, and on which hosts it never does."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.self_healing import policy, repairs
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.policy import Case
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts, rules
from tests.unit.triage import hosts

FAILED = {"active": "failed", "sub": "failed", "result": "signal", "pid": 0, "process_state": None}
DOWN = {"served": False, "why": "is not served"}
SWITCHED = {"switch": {"seconds_ago": 600, "how": "deployment"}, "way_back": "0.1.0-old"}
JOURNAL = {"path": "/var/log/journal", "device": 7, "bytes": 300 << 20, "inodes": 12}


def case(cache: list[str] | None = None, *, is_down: bool = False, **changes: Any) -> Case:
    """A host with some keys of some facts changed. `cache`: the problems of its cache's file."""
    entries = hosts.healthy()
    if is_down:
        entries["traffic"] = {"value": DOWN}
    for name, change in changes.items():
        value = entries[name]["value"]
        entries[name] = {"value": {**value, **change} if isinstance(value, dict) else change}
    return Case(facts.read(entries), cache)


def failed(**changes: Any) -> Case:
    """A host whose service has failed."""
    return case(unit=FAILED, is_down=True, **changes)


def full(percent: float, **changes: Any) -> dict[str, Any]:
    """The fact of file systems with one on which little space is free."""
    (filesystem,) = hosts.healthy()["filesystems"]["value"]
    return {"filesystems": [{**filesystem, "free_percent": percent, **changes}]}


def made(host: Case) -> str | None:
    """The repair that is made on a host; None if none is."""
    decision = policy.decide(host)
    return decision.repair.name if decision and decision.repair else None


def refused(host: Case) -> str:
    """Why nothing is repaired although there is a fault."""
    decision = policy.decide(host)
    assert decision is not None
    assert decision.repair is None
    return decision.why


@pytest.mark.parametrize(
    ("host", "repair"),
    [
        (case(), None),
        (failed(), "restart"),
        (failed(history=SWITCHED), "roll_back"),
        (case(cache=["malformed"], journal={"cache_trouble": "malformed"}), "quarantine_cache"),
        (case(cache=[], journal={"cache_trouble": "malformed"}), None),
        (case(engine_journal={"failures": 3}), "lower_limits"),
        (case(engine_journal={"failures": 2}), None),
        (case(engine_journal={"failures": 3}, unit={"active": "inactive"}), None),
        (case(**full(4.9)), "free_disk"),
        (case(**full(5.0)), None),
        (case(**full(4.9, read_only=True)), None),
        (case(**full(4.9), consumers=[]), None),
        (case(**full(4.9), consumers=[{**JOURNAL, "device": 8}]), None),
        (case(**full(4.9), consumers=[{**JOURNAL, "bytes": 60 << 20}]), None),
        (case(**full(4.9), consumers=[{**JOURNAL, "path": "/home"}]), None),
        (case(**full(4.9), consumers=[{**JOURNAL, "path": "/var/cache/katago-mcp"}]), "free_disk"),
        # A full disk explains a failed service; a disk with some space does not.
        (failed(**full(0.5)), "free_disk"),
        (failed(**full(4.9)), "restart"),
    ],
)
def test_fault_has_its_repair(host: Case, repair: str | None) -> None:
    assert made(host) == repair


@pytest.mark.parametrize(
    "unit",
    [
        {"active": "inactive", "sub": "dead", "pid": 0, "process_state": None},
        {"active": "activating", "sub": "auto-restart", "restarts": 4},
        {"active": "failed", "load": "masked"},
        {"active": "failed", "load": "not-found"},
        {"process_state": "T"},
    ],
)
def test_only_a_service_that_has_failed_is_restarted(unit: dict[str, Any]) -> None:
    assert policy.decide(case(unit=unit)) is None


@pytest.mark.parametrize(
    ("history", "repair"),
    [
        ({"switch": {"seconds_ago": 3600, "how": "deployment"}}, "roll_back"),
        ({"switch": {"seconds_ago": 3601, "how": "deployment"}}, "restart"),
        # The clock was set back.
        ({"switch": {"seconds_ago": -5, "how": "deployment"}}, "restart"),
        ({"switch": {"seconds_ago": 600, "how": "rollback"}}, "restart"),
        ({"switch": {"seconds_ago": 600, "how": "restore"}}, "restart"),
        ({"switch": {"seconds_ago": 600}}, "restart"),
        ({"way_back": None}, "restart"),
        ({"switch": None}, "restart"),
    ],
)
def test_only_a_deployment_of_the_last_hour_is_rolled_back(history: dict[str, Any], repair: str) -> None:
    assert made(failed(history={**SWITCHED, **history})) == repair


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"release": {"damage": ["venv/cli.py was changed"]}}, "evidence of an intrusion: .*venv/cli.py"),
        (
            {"security": {"mode": {"since": "x", "who": "anna", "why": "odd logins"}, "isolated": True}},
            "evidence of an intrusion: the host is in security mode",
        ),
        ({"release": {"damage": ["venv/cli.py is missing"]}}, r"is damaged: .*is not repaired automatically"),
        (
            {"ports": [{"setting": "server.port", "port": 8080, "pid": 7, "name": "nc", "unit": "x"}]},
            "nc.*is not repaired automatically",
        ),
    ],
)
def test_host_that_may_be_evidence_or_needs_more_is_not_restarted(change: dict[str, Any], why: str) -> None:
    assert re.search(why, refused(failed(**change)))


def test_burst_of_refused_logins_forbids_every_repair() -> None:
    burst = {"refused": {"unauthenticated": 500.0, "forbidden": 0.0}}
    assert "intrusion" in refused(case(engine_journal={"failures": 5}, traffic=burst))


@pytest.mark.parametrize("fact", ["release", "security", "traffic"])
def test_repair_needs_to_know_that_nothing_is_suspicious(fact: str) -> None:
    host = failed()
    values = {name: value for name, value in host.facts.values.items() if name != fact}
    unknown = Case(facts.Facts(values, {fact: "it took too long"}), None)  # type: ignore[arg-type]
    assert "an intrusion cannot be excluded" in refused(unknown)


def test_missing_release_files_do_not_keep_the_host_from_a_rollback() -> None:
    assert made(failed(history=SWITCHED, release={"damage": ["venv/cli.py is missing"]})) == "roll_back"


def test_cache_that_cannot_be_verified_is_not_quarantined() -> None:
    assert "cannot be verified" in refused(case(cache=None, journal={"cache_trouble": "x"}))


def test_disk_is_not_freed_without_knowing_what_fills_it() -> None:
    host = case(**full(3.0))
    values = {name: value for name, value in host.facts.values.items() if name != "consumers"}
    assert "what takes the space" in refused(Case(facts.Facts(values, {})))  # type: ignore[arg-type]


def test_limits_of_a_person_are_not_replaced() -> None:
    overlay = {"keys": {"katago.maxVisits": 10}, "expiresAt": "later", "why": "load", "who": "anna"}
    health = {"body": {"status": "ok", "overlay": overlay}}
    assert "by anna" in refused(case(engine_journal={"failures": 3}, health=health))


def test_host_without_a_deployment_is_left_alone() -> None:
    assert policy.decide(failed(undeployed="katago-mcp is not deployed")) is None


def test_every_entry_of_the_allow_list_has_its_action_and_its_rules() -> None:
    assert [each.name for each in policy.ALLOWED] == list(repairs.REPAIRS)
    named = {rule for each in policy.ALLOWED for rule in each.prevented_by}
    assert named | set(policy.SUSPICIOUS) <= rules.RULES.keys()
