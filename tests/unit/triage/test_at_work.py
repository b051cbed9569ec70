"""Triage while a procedure holds the host's lock: who is at work, and what it causes is no finding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.triage import at_work, checks
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts as triage_facts
from ansible_collections.katago.fleet.plugins.module_utils.triage import verdict as triage_verdict
from ansible_collections.katago.fleet.plugins.plugin_utils.run import runs
from tests.unit.triage.hosts import NOW, Facts, having

DEPLOY = {
    "owner": "anna@control",
    "procedure": "deploy",
    "run": "boot/1:2:3",
    "since": "2026-11-24T02:57:00Z",
    "age_seconds": 180.0,
    "life": "alive",
}
WHO = "deploy of anna@control, since 2026-11-24T02:57:00Z (3 min ago)"
STOPPED: Any = {
    "unit": {"active": "inactive", "sub": "dead", "pid": 0, "process_state": None},
    "health": {"status": None, "body": {}},
    "ready": {"status": None, "body": {}},
    "traffic": {"served": False, "why": "is not served"},
}
TUNING = {
    "unit": "katago-tuning-1a2b.service",
    "name": "katago",
    "largest": "katago",
    "cpu_percent": 390.0,
    "memory_bytes": 1 << 30,
}


def judge(facts: Facts) -> triage_verdict.Verdict:
    return triage_verdict.judge(triage_facts.read(facts), now=NOW)


def locked(change: dict[str, Any] | None = None, **changes: Any) -> Facts:
    facts = having(**changes)
    facts["lock"]["value"] = {**DEPLOY, **(change or {})}
    return facts


def test_service_that_a_procedure_stopped_is_unknown_and_the_next_step_is_to_wait() -> None:
    verdict = judge(locked(**STOPPED))
    assert (verdict.verdict, verdict.next, verdict.escalate) == ("unknown", "triage.yml", ())
    assert (verdict.reasons[0].rule, verdict.reasons[0].level) == ("lock", "unknown")
    assert verdict.reasons[0].measured == verdict.notes[0]
    assert verdict.notes[0] == (
        f"a procedure is at work on this host: {WHO}. Wait until it finishes; others are refused until then"
    )
    assert any(each.rule == "unit" and "inactive" in each.measured for each in verdict.reasons)


def test_healthy_host_with_a_procedure_at_work_is_healthy_and_names_it() -> None:
    verdict = judge(locked())
    assert (verdict.verdict, verdict.next) == ("healthy", None)
    assert WHO in verdict.notes[0]


@pytest.mark.parametrize(
    "change",
    [{"life": "dead"}, {"age_seconds": at_work.LONGEST_SECONDS + 1, "life": "unknown"}],
)
def test_lock_of_a_procedure_that_is_not_at_work_explains_nothing(change: dict[str, Any]) -> None:
    verdict = judge(locked(change, **STOPPED))
    assert (verdict.verdict, verdict.next) == ("P0", "restart.yml")
    assert "lock" not in {each.rule for each in verdict.reasons}


def test_stale_lock_is_said_to_be_stale() -> None:
    (note,) = [each for each in judge(locked({"life": "dead"})).notes if "lock" in each]
    assert note.startswith("the host's lock is stale: it is held for deploy of anna@control, since ")
    assert "repeats deploy.yml" in note


@pytest.mark.parametrize("life", ["alive", "unknown", None])
def test_run_of_another_control_node_counts_as_at_work(life: str | None) -> None:
    facts = locked(**STOPPED)
    facts["lock"]["value"] = {name: each for name, each in DEPLOY.items() if name != "life"}
    if life:
        facts["lock"]["value"]["life"] = life
    assert judge(facts).verdict == "unknown"


@pytest.mark.parametrize("procedure", ["backup", "evidence", "baseline", "validate"])
def test_procedure_that_does_not_interrupt_the_service_explains_only_its_speed(procedure: str) -> None:
    assert judge(locked({"procedure": procedure}, **STOPPED)).verdict == "P0"
    answers = [{"status": "ok", "seconds": 5.0, "problems": []} for _ in range(5)]
    slow = judge(locked({"procedure": procedure}, probe={"answers": answers}))
    assert (slow.verdict, slow.next) == ("unknown", "triage.yml")


def test_findings_that_no_procedure_causes_keep_their_level_and_wait_too() -> None:
    full = [
        {
            "paths": ["/var"],
            "device": 1,
            "free_bytes": 0,
            "free_percent": 0.0,
            "free_inodes_percent": 50.0,
            "read_only": False,
        }
    ]
    facts = locked(**STOPPED)
    facts["filesystems"]["value"] = full
    verdict = judge(facts)
    assert (verdict.verdict, verdict.next) == ("P2", "triage.yml")


def test_suspicious_finding_is_never_explained_by_a_procedure() -> None:
    verdict = judge(locked(release={"damage": ["config.json was changed"]}))
    assert verdict.verdict == "P0"
    assert verdict.next is not None and verdict.next.startswith("security_on.yml")


@pytest.mark.parametrize(
    "unit",
    [
        "katago-tuning-1a2b.service",
        "katago-caches-1a2b.service",
        "katago-mcp-trial.service",
        paths.BACKUP_UNIT,
        paths.BACKUP_TRIAL_UNIT,
        paths.WATCH_UNIT,
    ],
)
@pytest.mark.parametrize("is_locked", [True, False])
def test_own_units_are_no_noisy_neighbors(unit: str, is_locked: bool) -> None:
    busy = {"others": [{**TUNING, "unit": unit}]}
    verdict = judge(locked(processes=busy) if is_locked else having(processes=busy))
    assert not any(unit in each for each in (*verdict.proposals, *verdict.notes))


def test_ssh_sessions_are_neighbors_only_without_a_procedure_at_work() -> None:
    busy = {"others": [{**TUNING, "unit": "session-4.scope", "name": "dpkg"}]}
    assert judge(locked(processes=busy)).proposals == ()
    assert judge(having(processes=busy)).proposals == (
        "systemctl set-property --runtime session-4.scope CPUWeight=20",
    )
    assert judge(locked({"life": "dead"}, processes=busy)).proposals != ()


def test_lock_is_measured_with_its_age(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert checks.lock(path) is None
    names = ("owner", "procedure", "run", "since")
    path.write_text(json.dumps({name: DEPLOY[name] for name in names}))
    lock = checks.lock(path)
    assert lock is not None
    assert {name: lock[name] for name in names} == {name: DEPLOY[name] for name in names}  # type: ignore[literal-required]
    assert lock["age_seconds"] > 0
    path.write_text("{")
    unreadable = checks.lock(path)
    assert unreadable is not None and unreadable["owner"] == "unknown"


def test_control_node_adds_whether_the_run_is_alive() -> None:
    def seen(run: str) -> Any:
        return runs.lock_seen_from_here({"value": {**DEPLOY, "run": run}})["value"]

    mine = runs.this_run()
    assert seen(mine) is None
    machine = mine.partition(":")[0]
    assert seen(f"{machine}:999999999:1")["life"] == "dead"
    assert seen("another/1:2:3")["life"] == "unknown"
    assert seen("unknown")["life"] == "unknown"
    assert runs.lock_seen_from_here({"unknown": "no answer"}) == {"unknown": "no answer"}
