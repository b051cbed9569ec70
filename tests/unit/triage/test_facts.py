"""The contract between host and control node: every declared fact is measured, validated and read."""

from __future__ import annotations

import json
import typing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.release import layout
from ansible_collections.katago.fleet.plugins.module_utils.service import endpoints
from ansible_collections.katago.fleet.plugins.module_utils.triage import (
    baseline,
    baseline_record,
    facts,
    measure,
    measure_load_balancer,
    proposals,
    reason,
    rules,
    rules_service,
    verdict,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason
from tests.unit.triage.hosts import NOW, Facts, having, healthy, load_balancer

RECORDED = Path(__file__).with_name("recorded")
LIMITS = {"open_files": 40, "open_files_limit": 8192, "open_files_expected": 8192}
DOCUMENTATION = (Path(__file__).resolve().parents[3] / "docs" / "triage.md").read_text()
DECLARED = set(typing.get_type_hints(facts.Values))
OF_LOAD_BALANCERS = set(load_balancer()) - set(healthy())


def places(tmp_path: Path) -> measure.Places:
    """The paths of a host with nothing installed."""
    return measure.Places(
        releases=tmp_path,
        engines=tmp_path,
        config=tmp_path,
        state=tmp_path,
        history=tmp_path,
        baseline=tmp_path,
        proc=tmp_path,
        package_log=tmp_path,
        os_release=tmp_path,
        pci_devices=tmp_path,
        kernel_modules=tmp_path,
        written=(),
    )


def test_every_declared_fact_of_a_healthy_host_is_known() -> None:
    known = facts.read({**healthy(), **load_balancer()})
    assert set(known.values) == DECLARED
    assert not known.unknown


def test_every_declared_fact_is_measured_and_no_other(tmp_path: Path) -> None:
    options = measure.Options(window=1, probes=1, visits=1, patience=1, without_baseline=True)
    early = measure._early(options, places(tmp_path), layout.Layout(tmp_path), endpoints.Endpoints(), 1)
    # The control node adds `clients`.
    assert {*early, "processes", "release", "config", "probe", "traffic", "clock", "clients"} - {
        "before"
    } == DECLARED - OF_LOAD_BALANCERS
    checks = measure_load_balancer.checks_of(places(tmp_path))
    # The control node adds `fleet`.
    assert {*checks, "clock", "fleet"} == set(load_balancer())


@pytest.mark.parametrize("name", rules.RULES)
def test_rule_reads_only_its_declared_facts(name: str) -> None:
    rule = rules.RULES[name]
    of_both = {**healthy(), **load_balancer()}
    known = {each: entry for each, entry in of_both.items() if each in (*rule.needs, *rule.newer)}
    assert list(rule.check(facts.read(known).values)) == []
    known |= {each: entry for each, entry in of_both.items() if each in rule.uses}
    assert list(rule.check(facts.read(known).values)) == []
    assert {*rule.needs, *rule.uses, *rule.newer} <= DECLARED


@pytest.mark.parametrize("name", rules.RULES)
def test_documentation_names_the_file_of_each_rule(name: str) -> None:
    (file,) = {each for each in rules.RULES[name].check.__code__.co_names if each.startswith("rules_")}
    row = next(line for line in DOCUMENTATION.splitlines() if line.startswith(f"| `{file}.py` |"))
    assert f"`{name}`" in row


def test_each_large_directory_has_a_way_to_free_space() -> None:
    assert set(proposals.ROOM) == set(facts.LARGE_DIRECTORIES)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("unit", "nonsense", "unit is 'nonsense', not an object"),
        ("unit", {"load": "loaded"}, "unit.active is missing"),
        (
            "limits",
            {**LIMITS, "open_files_limit": "8192"},
            "limits.open_files_limit is '8192', not an integer",
        ),
        ("health", {"status": "200", "body": {}, "seconds": 1}, "health.status is '200', not an integer"),
        ("ready", {"status": 200, "body": [], "seconds": 1}, "ready.body is a list, not an object"),
        ("filesystems", {}, "filesystems is a dict, not a list"),
        ("packages", [1], "packages[0] is 1, not a string"),
        ("clock", True, "clock is True, not a number"),
        ("traffic", {"served": True}, "traffic.analyses is missing"),
        ("release", {"name": None, "damage": None}, "release.damage is None, not a list"),
    ],
)
def test_malformed_value_is_reported_with_its_place(name: str, value: object, message: str) -> None:
    entries: Facts = {**healthy(), name: {"value": value}}
    known = facts.read(entries)
    assert name not in known.values
    assert name in known.malformed
    assert message in known.why(name)


@pytest.mark.parametrize("entry", [None, "x", [], {"unknown": 5}])
def test_malformed_entry_makes_only_its_own_fact_unknown(entry: Any) -> None:
    known = facts.read({**healthy(), "unit": entry})
    assert set(known.values) == DECLARED - {"unit"} - OF_LOAD_BALANCERS
    assert known.malformed == {"unit"}


def test_facts_that_are_no_object_are_an_error() -> None:
    with pytest.raises(shape.ShapeError, match="the facts is a list, not an object"):
        facts.read([])


def test_reason_of_an_unknown_fact_is_kept_and_a_missing_one_has_a_default() -> None:
    known = facts.read({"unit": {"unknown": "no answer within 10 s", "seconds": 10.0}})
    assert known.why("unit") == "no answer within 10 s"
    assert known.why("memory") == "it was not measured"
    assert known.malformed == frozenset()


@pytest.mark.parametrize(
    ("fact", "rule"),
    [
        ("traffic", "engine_failures"),
        ("traffic", "cache"),
        ("probe", "error_rate"),
        ("baseline", "performance"),
    ],
)
def test_rule_works_without_an_optional_fact_but_not_with_a_malformed_one(fact: str, rule: str) -> None:
    absent = facts.read({**healthy(), fact: {"unknown": "no answer within 5 s"}})
    assert rules.examine(absent, [rule]) == []
    malformed = facts.read({**healthy(), fact: {"value": "nonsense"}})
    (found,) = rules.examine(malformed, [rule])
    assert (found.level, found.rule) == ("unknown", rule)
    assert "the reported value is malformed" in found.measured


def broken(*_: object) -> list[Reason]:
    raise AttributeError("'NoneType' object has no attribute 'get'")


def test_exception_in_a_rule_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_service, "health", broken)
    with pytest.raises(AttributeError, match="NoneType"):
        verdict.judge(facts.read(healthy()), now=NOW)


def test_contained_exception_makes_only_its_rule_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_service, "health", broken)
    entries = having(unit={"active": "failed"})
    found = verdict.judge(facts.read(entries), now=NOW, contain=True)
    assert (found.verdict, found.undecided) == ("P0", ("health",))
    assert found.next == "restart.yml -e force=true"
    (defect,) = [each for each in found.reasons if each.rule == "health"]
    assert defect.measured.startswith(
        f"{reason.DEFECT}, not a problem of the host; report it (test_facts.py, line "
    )
    assert defect.measured.endswith("AttributeError: 'NoneType' object has no attribute 'get'")


def test_contained_exception_in_a_note_becomes_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "proposals", broken)
    found = verdict.judge(facts.read(healthy()), now=NOW, contain=True)
    assert found.verdict == "healthy"
    assert [note for note in found.notes if note.startswith(reason.DEFECT)]
    with pytest.raises(AttributeError):
        verdict.judge(facts.read(healthy()), now=NOW)


def test_unexpected_body_is_judged_without_an_exception() -> None:
    body = {"status": ["ok"], "reason": {"a": 1}, "overlay": 7, "engine": "ready", "uptimeSeconds": "long"}
    entries = having(health={"body": body}, ready={"status": 503, "body": {"reason": 5}})
    found = verdict.judge(facts.read(entries), now=NOW)
    assert {(each.level, each.rule) for each in found.reasons} == {("P0", "health"), ("P1", "ready")}
    assert "an override of the limits is in effect, but /health does not report its values" in found.changes
    healthy_unit = having(health={"body": {**body, "status": "ok"}})
    problems = baseline_record.problems(
        verdict.judge(facts.read(healthy_unit), now=NOW), facts.read(healthy_unit), least_uptime=60
    )
    assert problems == [
        "the service has been up for long s; wait until it is 60 s",
        "the engine's state is None; wait until it is ready",
    ]


def test_damaged_baseline_is_the_only_problem_of_a_healthy_host() -> None:
    entries = {**healthy(), "baseline": {"unknown": "ValueError: baseline.json is not JSON"}}
    known = facts.read(entries)
    (problem,) = baseline_record.problems(verdict.judge(known, now=NOW), known, least_uptime=60)
    assert problem == "baseline is unknown: ValueError: baseline.json is not JSON"


@pytest.mark.parametrize("value", [None, {}, {"verdict": "P7"}, {"verdict": "P0", "reasons": [{"level": 0}]}])
def test_malformed_verdict_is_an_error_with_its_place(value: Any) -> None:
    with pytest.raises(shape.ShapeError, match=r"^verdict"):
        verdict.parse(value)


def recorded(name: str) -> Any:
    return json.loads((RECORDED / name).read_text())


def test_report_of_the_previous_version_is_read_and_judged_the_same() -> None:
    """Recorded with 0.1.0 on a Debian 12 host: slower than its baseline, stopped, too slow for probes."""
    report = recorded("triage_0.1.0.json")
    for host in report["hosts"].values():
        known = facts.read(host["facts"])
        assert known.unknown == {}
        then = verdict.parse({name: host[name] for name in verdict.as_dict(verdict.unreachable("", now=NOW))})
        now = verdict.judge(known, now=NOW)
        # The wording of the reasons may change from version to version.
        assert [replace(each, measured="", threshold="") for each in now.reasons] == [
            replace(each, measured="", threshold="") for each in then.reasons
        ]
        assert (now.verdict, now.next, now.proposals) == (then.verdict, then.next, then.proposals)
        # Not measured by that version.
        assert DECLARED - set(known.values) - OF_LOAD_BALANCERS == {
            "clients",
            "journal_view",
            "lock",
            "max_visits",
            "ports",
            "sandbox",
            "system",
            "undeployed",
        }


def test_baseline_of_the_previous_version_is_read() -> None:
    assert baseline.read(RECORDED / "baseline_0.1.0.json") == recorded("baseline_0.1.0.json")
