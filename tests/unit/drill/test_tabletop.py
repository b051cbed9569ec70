"""Tabletop drills: the real rules judge examples of every scenario."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.triage import facts as triage_facts
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import archive, questions, tabletop
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS, Scenario
from ansible_collections.katago.fleet.plugins.plugin_utils.reports.triage_reports import Report
from tests.unit.drill.recorded_drills import saved

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
HOSTS, BALANCERS = ("katago-1", "katago-2", "katago-3"), ("lb-1", "lb-2")
# The findings that a trainee must see: host, level and rule.
FINDINGS: dict[str, set[tuple[str, str, str]]] = {
    "service_down": {("katago-1", "P0", "unit"), ("lb-1", "P2", "rotation")},
    "engine_crashing": {("katago-1", "P1", "engine_failures")},
    "engine_hung": {("katago-1", "P1", "ready"), ("katago-1", "P1", "probe")},
    "bad_release": {("katago-1", "P0", "unit")},
    "configuration_corrupted": {("katago-1", "P0", "config"), ("katago-1", "P0", "release")},
    "cache_corrupted": {("katago-1", "P2", "cache")},
    "disk_full": {("katago-1", "P2", "filesystems")},
    "inodes_exhausted": {("katago-1", "P2", "filesystems")},
    "slow_engine": {("katago-1", "P1", "performance")},
    "error_burst": {("katago-1", "P1", "error_rate")},
    "host_lost": {("katago-1", "unknown", "reachable"), ("lb-2", "P2", "rotation")},
    "host_frozen": {("katago-1", "unknown", "reachable"), ("lb-1", "P2", "rotation")},
    "network_cut": {("katago-1", "P0", "clients"), ("lb-1", "P2", "rotation")},
    "load_balancer_lost": {("lb-1", "P1", "haproxy")},
    "backup_repository_lost": set(),
    "credentials_rotated": {("katago-1", "P1", "probe")},
    "certificate_expired": {("lb-1", "P0", "certificate")},
    "clock_skewed": set(),
    "control_node_lost": {("lb-1", "P3", "rotation")},
    "two_faults": {("katago-1", "P0", "unit"), ("lb-1", "P1", "haproxy")},
}


def report(scenario: Scenario) -> Report:
    return tabletop.report(scenario, HOSTS, BALANCERS, NOW)


def found(made: Report) -> set[tuple[str, str, str]]:
    return {
        (host, reason.level, reason.rule)
        for host, verdict in made.verdicts.items()
        for reason in verdict.reasons
    }


def test_every_scenario_has_an_example_and_findings() -> None:
    assert set(tabletop.EXAMPLES) == set(SCENARIOS) == set(FINDINGS)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda each: each.name)
def test_triage_shows_the_findings_of_the_scenario(scenario: Scenario) -> None:
    made = report(scenario)
    assert FINDINGS[scenario.name] <= found(made)
    if not FINDINGS[scenario.name]:
        assert found(made) == set()
    healthy = {host for host, verdict in made.verdicts.items() if verdict.verdict == "healthy"}
    assert {"katago-2", "katago-3"} <= healthy


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda each: each.name)
def test_examples_are_valid_facts_and_our_code_has_no_defect(scenario: Scenario) -> None:
    made = report(scenario)
    for host, entries in made.entries.items():
        assert triage_facts.read(entries).malformed == set() or not entries, host
    text = made.as_table()
    assert "defect" not in text
    assert "probes vary" not in text


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda each: each.name)
def test_next_step_of_triage_is_not_harmful(scenario: Scenario) -> None:
    steps = [verdict.next.split(".")[0] for verdict in report(scenario).verdicts.values() if verdict.next]
    assert set(steps).isdisjoint(scenario.harmful_procedures)


def test_example_of_one_scenario_does_not_change_another() -> None:
    before = {name: report(scenario).as_table() for name, scenario in SCENARIOS.items()}
    assert {name: report(scenario).as_table() for name, scenario in SCENARIOS.items()} == before


def test_bad_release_is_rolled_back_and_its_switch_is_shown() -> None:
    made = report(SCENARIOS["bad_release"])
    assert made.verdicts["katago-1"].next == "rollback.yml -e release=0.1.0-old"
    assert "2026-11-24T02:56:00Z switched to 0.1.0-aa" in made.as_table()


def test_other_load_balancer_takes_the_address() -> None:
    text = report(SCENARIOS["load_balancer_lost"]).as_table()
    assert "lb-1: P1" in text
    assert text.count("this load balancer has the virtual address") == 1
    assert "this load balancer has" in text.partition("lb-2: healthy")[2]


def test_skewed_clock_and_stale_lock_are_noted() -> None:
    assert "differs from the control node's by +3600 s" in report(SCENARIOS["clock_skewed"]).as_table()
    stale = report(SCENARIOS["control_node_lost"]).as_table()
    assert "the host's lock is stale: it is held for restart of anna@control" in " ".join(stale.split())


def test_inventory_without_hosts_gets_names() -> None:
    made = tabletop.report(SCENARIOS["two_faults"], (), (), NOW)
    assert set(made.verdicts) == {*tabletop.HOSTS, *tabletop.LOAD_BALANCERS}


def test_record_can_be_read_and_is_not_a_drill_with_a_fault(tmp_path: Path) -> None:
    made = tabletop.record(
        "drill-1", SCENARIOS["disk_full"], ["Anna"], "katago", "2026-11-24T03:00:00Z", sealed=True
    )
    assert archive.read(saved(tmp_path, made) / "drill.json") == made
    assert (made["mode"], made["outcome"], made["hosts"]) == ("tabletop", "passed", [])


def test_random_scenario_is_not_named_before_the_answers() -> None:
    scenario = SCENARIOS["disk_full"]
    asked = questions.of(scenario, tabletop=True)
    before = "\n".join([*tabletop.situation(scenario, is_sealed=True), *tabletop.asked(asked)])
    assert "disk_full" not in before
    assert scenario.title not in before
    assert not [each for each in asked if each.answer in before]
    after = "\n".join(tabletop.answered(scenario, asked))
    assert "disk_full: A disk of a host is full (P2)" in after
    assert [each for each in asked if each.answer not in after] == []


def test_exercise_is_marked_as_one_before_and_after_the_report() -> None:
    scenario = SCENARIOS["disk_full"]
    assert tabletop.NOTICE in tabletop.situation(scenario, is_sealed=False)
    assert tabletop.NOTICE in tabletop.asked(questions.of(scenario, tabletop=True))
