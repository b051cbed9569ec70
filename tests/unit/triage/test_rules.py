"""The rules and the verdict: values at and around each bound; worse facts never give a better verdict."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.gpu import nvidia_kernel, nvidia_smi
from ansible_collections.katago.fleet.plugins.module_utils.service import endpoints
from ansible_collections.katago.fleet.plugins.module_utils.severity import rank
from ansible_collections.katago.fleet.plugins.module_utils.triage import (
    baseline_record,
    reason,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts as triage_facts
from ansible_collections.katago.fleet.plugins.module_utils.triage import (
    verdict as triage_verdict,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage.rules import RULES
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import triage_table
from tests.unit.triage.hosts import MACHINE, NOW, Facts, having, healthy


def mitigation(finding: str) -> str:
    """The proposal to lower the limits of a host on which calls may request 1000 visits."""
    return f"mitigate.yml -e visits=500 -e minutes=60 -e 'why=\"triage reports {finding}\"'"


def judge(facts: Facts, *, well_formed: bool = True, **how: Any) -> triage_verdict.Verdict:
    """The verdict on the facts of a host. Exceptions in our own code are raised."""
    known = triage_facts.read(facts)
    assert not (well_formed and known.malformed), known.unknown
    return triage_verdict.judge(known, now=NOW, **how)


def rules(verdict: triage_verdict.Verdict) -> set[tuple[str, str]]:
    return {(reason.level, reason.rule) for reason in verdict.reasons}


def test_healthy_host_has_no_deadline_and_no_next_step() -> None:
    verdict = judge(healthy())
    assert (verdict.verdict, verdict.reasons, verdict.respond_by, verdict.next) == ("healthy", (), None, None)


def condition(**changes: Any) -> dict[str, Any]:
    """The condition of a healthy GPU, with some keys changed."""
    healthy_gpu = nvidia_smi.Condition(
        address="00000000:01:00.0",
        temperature=41,
        warm_at=88,
        slow_at=95,
        slowed=(),
        free_percent=97.8,
        utilization=62,
        recovery="",
    )
    return asdict(replace(healthy_gpu, **changes))


def with_gpu(**changes: Any) -> Facts:
    """A healthy host with one GPU, with some keys of the fact `gpu` changed."""
    card = {
        "address": "00000000:01:00.0",
        "name": "NVIDIA A40",
        "driver": "535.309.01",
        "persistence": True,
        "temperature": 41,
        "memory_mb": 46068,
        "memory_used_mb": 812,
    }
    gpu = {
        "devices": 1,
        "loaded": "535.309.01",
        "trouble": None,
        "words": "",
        "notes": [],
        "cards": [card],
        "conditions": [condition()],
        "unread": "",
        "xids": [],
    }
    return {**healthy(), "gpu": {"value": {**gpu, **changes}, "seconds": 0.1}}


def test_healthy_gpu_is_noted_with_temperature_memory_and_driver() -> None:
    verdict = judge(with_gpu())
    assert verdict.verdict == "healthy"
    assert "NVIDIA A40: 41 °C, 812 of 46068 MB of memory used, driver 535.309.01" in verdict.notes


@pytest.mark.parametrize(
    ("changes", "level", "escalates", "step"),
    [
        (
            {"trouble": "mismatch", "words": "Driver/library version mismatch", "cards": []},
            "P1",
            (),
            "gpu_driver.yml",
        ),
        ({"trouble": "lost", "words": "GPU is lost", "cards": []}, "P1", ("the GPU is lost",), None),
        (
            {"trouble": "reset", "words": "temperature.gpu of 00000000:01:00.0 is [GPU requires reset]"},
            "P1",
            ("the GPU needs a reset",),
            None,
        ),
        ({"trouble": "unknown", "words": "[Unknown Error]"}, "P1", (), "gpu_driver.yml"),
        ({"devices": 2}, "P2", (), "gpu_driver.yml"),
        (
            {"xids": nvidia_kernel.xids("NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.")},
            "P2",
            ("the GPU reports a hardware fault",),
            None,
        ),
    ],
)
def test_gpu_fault_has_its_level_escalation_and_next_step(
    changes: dict[str, Any], level: str, escalates: tuple[str, ...], step: str | None
) -> None:
    verdict = judge(with_gpu(**changes))
    assert rules(verdict) == {(level, "gpu")}
    assert (verdict.escalate, verdict.next) == (escalates, step)


def test_xid_that_needs_no_action_is_only_noted() -> None:
    verdict = judge(with_gpu(xids=nvidia_kernel.xids(2 * "NVRM: Xid (PCI:0000:01:00): 31, MMU Fault\n")))
    assert verdict.verdict == "healthy"
    assert "GPU 0000:01:00 reported Xid 31 2 times: MMU Fault" in verdict.notes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"temperature": 87}, set()),
        ({"temperature": 88}, {("P3", "gpu")}),
        ({"temperature": 94}, {("P3", "gpu")}),
        ({"temperature": 95}, {("P2", "gpu")}),
        ({"temperature": 95, "warm_at": None}, {("P2", "gpu")}),
        ({"temperature": 94, "warm_at": None}, set()),
        ({"temperature": 99, "warm_at": None, "slow_at": None}, set()),
        ({"temperature": None}, set()),
        ({"slowed": ("sw_thermal_slowdown",)}, {("P3", "gpu")}),
        ({"slowed": ("hw_thermal_slowdown",)}, {("P2", "gpu")}),
        ({"slowed": ("hw_power_brake_slowdown",)}, {("P2", "gpu")}),
        ({"free_percent": 5.0}, set()),
        ({"free_percent": 4.9}, {("P3", "gpu")}),
        ({"free_percent": 2.0}, {("P3", "gpu")}),
        ({"free_percent": 1.9}, {("P2", "gpu")}),
        ({"free_percent": None}, set()),
        ({"recovery": "Drain and Reset"}, {("P2", "gpu")}),
    ],
)
def test_gpu_is_judged_by_its_own_limits(changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert rules(judge(with_gpu(conditions=[condition(**changes)]))) == expected


def test_hot_gpu_is_reported_with_its_limit_and_mitigated() -> None:
    verdict = judge(with_gpu(conditions=[condition(), condition(address="00000000:41:00.0", temperature=96)]))
    (reason,) = verdict.reasons
    assert reason.measured == "GPU 00000000:41:00.0 is at 96 °C; its hardware throttles from 95 °C"
    assert (reason.threshold, verdict.next) == ("below 95 °C", mitigation("gpu"))


def test_gpu_without_free_memory_is_escalated() -> None:
    verdict = judge(with_gpu(conditions=[condition(free_percent=0.6)]))
    assert verdict.escalate == ("resources are exhausted",)


def test_gpu_whose_condition_cannot_be_read_is_unknown() -> None:
    verdict = judge(with_gpu(conditions=[], unread="no XML"))
    assert rules(verdict) == {("unknown", "gpu")}


def test_gpu_that_reports_no_limit_is_noted() -> None:
    verdict = judge(with_gpu(conditions=[condition(slow_at=None)]))
    assert verdict.verdict == "healthy"
    assert any("does not report its temperature or its throttling limit" in note for note in verdict.notes)


def test_fatal_xid_is_reported_with_the_action_that_it_needs() -> None:
    (reason,) = judge(with_gpu(xids=nvidia_kernel.xids("NVRM: Xid (PCI:0000:01:00): 140, ECC"))).reasons
    assert reason.measured == "GPU 0000:01:00 reported Xid 140 1 times: ECC; to repair it: reset the GPU"


def test_corrupted_inforom_is_only_noted() -> None:
    verdict = judge(with_gpu(notes=["WARNING: infoROM is corrupted at gpu 0000:01:00.0"]))
    assert verdict.verdict == "healthy"
    assert "WARNING: infoROM is corrupted at gpu 0000:01:00.0" in verdict.notes


def test_gpu_that_does_not_answer_is_unknown() -> None:
    facts = {**healthy(), "gpu": {"unknown": "no answer within 10 s", "seconds": 10.0}}
    assert rules(judge(facts)) == {("unknown", "gpu")}


def stalled(percent: float) -> dict[str, Any]:
    """Pressure: all tasks were stalled for memory during this percentage of the last minute."""
    return {"memory": {"full": {"avg10": percent, "avg60": percent}}}


ERRORS = {"level": "error", "event": "x", "code": "y", "count": 2, "exception": False}


def requests(failed: float, ok: float) -> Facts:
    """Client requests in addition to the five probes."""
    return having(traffic={"requests": {"ok": ok + 5, "unavailable": failed}})


@pytest.mark.parametrize(
    ("failed", "level"),
    [
        (0, None),
        (9, None),
        (10, "P3"),
        (11, "P3"),
        (99, "P3"),
        (100, "P2"),
        (101, "P2"),
        (499, "P2"),
        (500, "P1"),
        (501, "P1"),
        (600, "P1"),
        (1000, "P1"),
    ],
)
def test_error_rate_of_a_thousand_requests(failed: int, level: str | None) -> None:
    verdict = judge(requests(failed, 1000 - failed))
    assert rules(verdict) == ({(level, "error_rate")} if level else set())


def test_own_probes_and_invalid_requests_do_not_lower_the_error_rate() -> None:
    facts = having(
        traffic={"requests": {"ok": 9.0, "timeout": 4.0, "error": 2.0, "invalid": 90.0, "rejected": 9.0}}
    )
    (reason,) = judge(facts).reasons
    assert (reason.level, reason.measured) == ("P1", "6 of 10 client requests failed in 10 s (60.0 %)")


@pytest.mark.parametrize("status", ["rejected", "invalid"])
@pytest.mark.parametrize("refused", range(6))
def test_rejected_own_probes_do_not_hide_failed_client_requests(status: str, refused: int) -> None:
    facts = having(traffic={"requests": {"ok": 6.0, "error": 2.0}})
    for _ in range(refused):
        fail_a_probe(facts, status)
    (measured,) = [each.measured for each in judge(facts).reasons if each.rule == "error_rate"]
    assert measured == "2 of 3 client requests failed in 10 s (66.7 %)"


def test_idle_service_has_no_error_rate() -> None:
    verdict = judge(having(traffic={"requests": {"ok": 5.0}}))
    assert verdict.verdict == "healthy"
    assert verdict.notes[0].startswith("0 client requests in 10 s")


@pytest.mark.parametrize(
    ("traffic", "note"),
    [
        ({}, "0 client requests in 10 s, 0 failed; analyses p50 0.40 s, p95 0.60 s; cache hit rate 0 %"),
        (
            {"latency_seconds": None, "analyses": 0.0, "hit_rate": None},
            "0 client requests in 10 s, 0 failed; latency unknown: no analyses in the window; cache hit rate"
            " unknown: no cache lookups in the window",
        ),
        (
            {"requests": {}, "latency_seconds": None, "analyses": 0.0},
            "0 client requests in 10 s, 0 failed; latency unknown: no analyses in the window; cache hit rate"
            " 0 %",
        ),
        (
            {"requests": None, "latency_seconds": None, "analyses": None},
            "client requests unknown: katago_requests_total is missing or NaN; latency unknown:"
            " katago_analysis_duration_seconds is NaN; cache hit rate 0 %",
        ),
    ],
)
def test_latency_and_hit_rate_without_data_are_reported_as_unknown(
    traffic: dict[str, Any], note: str
) -> None:
    assert judge(having(traffic=traffic)).notes[0] == note


def test_latency_and_hit_rate_without_metrics_are_reported_as_unknown() -> None:
    facts = healthy()
    facts["traffic"]["value"] = {"served": False, "why": "is not served"}
    assert (
        judge(facts).notes[0] == "client requests, latency and cache hit rate unknown: /metrics is not served"
    )
    facts["traffic"] = {"unknown": "no answer within 10 s"}
    assert (
        judge(facts).notes[0] == "client requests, latency and cache hit rate unknown: no answer within 10 s"
    )


def probes(seconds: float, count: int = 5) -> dict[str, Any]:
    return {"answers": [{"status": "ok", "seconds": seconds, "problems": []} for _ in range(count)]}


@pytest.mark.parametrize(
    ("percent", "level"),
    [
        (-50, None),
        (0, None),
        (9.99, None),
        (10, "P3"),
        (10.01, "P3"),
        (19.99, "P3"),
        (20, "P2"),
        (20.01, "P2"),
        (79.99, "P2"),
        (80, "P1"),
        (80.01, "P1"),
        (400, "P1"),
    ],
)
@pytest.mark.parametrize("baseline", [0.1, 0.3, 0.5, 0.7, 1.1])
def test_performance_against_the_baseline(percent: float, level: str | None, baseline: float) -> None:
    facts = having(
        probe=probes(baseline * (1 + percent / 100)),
        baseline={"found": {"identity": "same", "machine": MACHINE, "median_seconds": baseline}},
    )
    assert rules(judge(facts)) == ({(level, "performance")} if level else set())


@pytest.mark.parametrize("median", [0.0, float("inf"), float("nan")])
def test_unusable_baseline_makes_only_performance_unknown(median: float) -> None:
    facts = having(
        baseline={"found": {"identity": "same", "machine": MACHINE, "median_seconds": median}},
        ready={"status": 503, "body": {"ready": False, "reason": "draining"}},
    )
    assert rules(judge(facts, well_formed=False)) == {("P2", "ready"), ("unknown", "performance")}


def test_damaged_baseline_is_noted_and_does_not_affect_the_verdict() -> None:
    facts = healthy()
    why = "ValueError: /b.json: median_seconds is 0.0: record a new one with baseline.yml"
    facts["baseline"] = {"unknown": why}
    verdict = judge(facts)
    assert verdict.verdict == "healthy"
    assert f"performance is unknown: {why}" in verdict.notes


@pytest.mark.parametrize("found", [None, {"identity": "another", "machine": MACHINE, "median_seconds": 0.1}])
def test_host_without_a_matching_baseline_is_healthy_with_unknown_performance(found: Any) -> None:
    verdict = judge(having(baseline={"found": found}))
    assert verdict.verdict == "healthy"
    assert any("performance is unknown" in note and "baseline.yml" in note for note in verdict.notes)


@pytest.mark.parametrize(
    ("recorded", "described"),
    [
        ({**MACHINE, "name": "katago-2"}, "katago-2 (4 processors, 4 x AMD EPYC)"),
        ({**MACHINE, "processors": 64}, "katago-1 (64 processors, 4 x AMD EPYC)"),
        ({**MACHINE, "device": "1 x NVIDIA A40"}, "katago-1 (4 processors, 1 x NVIDIA A40)"),
        (None, "an unnamed machine"),
    ],
)
@pytest.mark.parametrize("seconds", [0.1, 5.0])
def test_baseline_of_another_machine_is_not_compared(
    recorded: dict[str, Any] | None, described: str, seconds: float
) -> None:
    found = {"identity": "same", "median_seconds": 0.5, **({"machine": recorded} if recorded else {})}
    verdict = judge(having(probe=probes(seconds), baseline={"found": found}))
    assert (verdict.verdict, verdict.reasons) == ("healthy", ())
    assert (
        f"performance is unknown: the baseline was recorded on {described}, but this host is katago-1"
        " (4 processors, 4 x AMD EPYC); record one with baseline.yml while the host is healthy"
    ) in verdict.notes


def test_probes_under_lowered_limits_are_not_compared_with_the_baseline() -> None:
    facts = having(probe={**probes(5.0), "visits": 10})
    verdict = judge(facts)
    assert (verdict.verdict, verdict.next) == ("healthy", None)
    (note,) = [each for each in verdict.notes if "performance" in each]
    assert note.startswith(
        "performance is unknown: the limits are lowered: a probe has 10 visits, the baseline has 32,"
    )
    assert note.endswith("mitigate_undo.yml restores the limits")
    (problem,) = baseline_record.problems(verdict, triage_facts.read(facts), least_uptime=60)
    assert f"performance is unknown: {problem}" == note


def test_host_whose_journal_shows_nothing_is_unknown() -> None:
    blind = {"blind": "journald keeps no messages on this host; see Storage= in journald.conf", "gaps": []}
    verdict = judge(having(journal_view=blind))
    assert (verdict.verdict, verdict.undecided, verdict.next) == ("unknown", ("journal",), "validate.yml")
    assert "Storage=" in verdict.reasons[0].measured
    facts = triage_facts.read(having(journal_view=blind))
    assert baseline_record.problems(verdict, facts, least_uptime=60)


def test_gap_of_the_journal_is_noted_and_findings_in_the_rest_count() -> None:
    gap = {"blind": "", "gaps": ["journald's rate limit dropped messages: Suppressed 9 messages"]}
    verdict = judge(having(journal_view=gap))
    note = f"the journal does not show all of the last 10 minutes: {gap['gaps'][0]}"
    assert (verdict.verdict, note in verdict.notes) == ("healthy", True)
    failed = judge(having(journal_view=gap, engine_journal={"failures": 3}))
    assert rules(failed) == {("P1", "engine_failures")}


def test_unknown_package_changes_are_noted() -> None:
    facts = healthy()
    facts["packages"] = {"unknown": "/var/log/dpkg.log does not exist"}
    verdict = judge(facts)
    assert verdict.verdict == "healthy"
    assert "installed and upgraded packages are unknown: /var/log/dpkg.log does not exist" in verdict.notes


def test_metrics_that_are_off_are_switched_on_by_a_deployment() -> None:
    facts = healthy()
    why = endpoints.Endpoints(metrics_enabled=False).unserved
    facts["traffic"]["value"] = {"served": False, "why": why}
    verdict = judge(facts)
    assert rules(verdict) == {("P3", "metrics"), ("unknown", "error_rate")}
    assert (verdict.next, "metrics.enabled is false" in verdict.reasons[0].measured) == ("deploy.yml", True)


@pytest.mark.parametrize(("count", "level"), [(0, None), (2, None), (3, "P1"), (9, "P1")])
def test_engine_that_fails_repeatedly(count: int, level: str | None) -> None:
    expected = {(level, "engine_failures")} if level else set()
    assert rules(judge(having(engine_journal={"failures": count}))) == expected
    assert rules(judge(having(traffic={"engine_failures_since_start": float(count)}))) == expected


@pytest.mark.parametrize(
    ("change", "reason", "step", "escalates"),
    [
        ({"unit": {"active": "inactive", "sub": "dead"}}, ("P0", "unit"), "restart.yml", False),
        (
            {"unit": {"active": "failed", "result": "start-limit-hit"}},
            ("P0", "unit"),
            "restart.yml -e force=true",
            True,
        ),
        (
            {"unit": {"active": "failed", "exit_status": 78}},
            ("P0", "unit"),
            "restart.yml -e force=true",
            True,
        ),
        (
            {"unit": {"active": "activating", "restarts": 3}},
            ("P0", "unit"),
            "restart.yml -e force=true",
            True,
        ),
        ({"unit": {"active": "activating", "restarts": 2}}, ("P0", "unit"), "restart.yml", False),
        ({"unit": {"load": "not-found"}}, ("P0", "unit"), "deploy.yml", False),
        ({"unit": {"load": "masked", "active": "inactive"}}, ("P0", "unit"), None, False),
        ({"unit": {"process_state": "T"}}, ("P0", "unit"), "restart.yml -e force=true", False),
        ({"health": {"status": None}}, ("P0", "health"), "restart.yml -e force=true", False),
        ({"health": {"status": 503}}, ("P0", "health"), "restart.yml -e force=true", False),
        ({"health": {"body": {}}}, ("P0", "health"), "restart.yml -e force=true", False),
        ({"ready": {"status": None}}, ("P0", "ready"), "restart.yml -e force=true", False),
        (
            {"ready": {"status": 503, "body": {"reason": "engine backoff"}}},
            ("P1", "ready"),
            "restart.yml",
            False,
        ),
        ({"ready": {"status": 503, "body": {"reason": "draining"}}}, ("P2", "ready"), None, False),
        (
            {"ready": {"status": 503, "body": {"reason": "saturated"}}},
            ("P2", "ready"),
            mitigation("ready"),
            False,
        ),
        ({"ready": {"body": {"ready": False}}}, ("P1", "ready"), "restart.yml", False),
        ({"release": {"name": None}}, ("P0", "release"), "deploy.yml", False),
        ({"release": {"damage": ["/opt/net is missing"]}}, ("P0", "release"), "restore.yml", False),
        ({"release": {"damage": ["config.json is missing"]}}, ("P0", "release"), "restore.yml", True),
        ({"config": {"ok": False, "problems": ["is not JSON"]}}, ("P0", "config"), "restore.yml", True),
        ({"processes": {"engines": []}}, ("P1", "engines"), "restart.yml", False),
        ({"processes": {"engines": [1, 2]}}, ("P2", "engines"), "restart.yml -e force=true", False),
        ({"traffic": {"engine_up": 0.0}}, ("P1", "engine_up"), "restart.yml", False),
        ({"limits": {"open_files_limit": 64}}, ("P2", "limits"), "deploy.yml", False),
        ({"limits": {"open_files_limit": 8191}}, ("P3", "limits"), "deploy.yml", False),
        ({"limits": {"open_files": 7373}}, ("P2", "limits"), "restart.yml", True),
        ({"memory": {"available_percent": 1.9}}, ("P2", "memory"), mitigation("memory"), True),
        ({"memory": {"available_percent": 4.9}}, ("P3", "memory"), None, False),
        (
            {"pressure": {"memory": {"full": {"avg10": 20.0, "avg60": 20.0}}}},
            ("P2", "pressure"),
            mitigation("pressure"),
            True,
        ),
        ({"journal": {"cache_trouble": "disk full"}}, ("P2", "cache"), "purge_cache.yml", False),
        ({"traffic": {"cache_errors": 1.0}}, ("P2", "cache"), "purge_cache.yml", False),
        (
            {
                "journal": {
                    "groups": [{"level": "error", "event": "x", "code": "y", "count": 2, "exception": False}]
                }
            },
            ("P3", "logged_errors"),
            None,
            False,
        ),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_one_fault_is_one_reason_with_its_next_step(
    change: dict[str, Any], reason: tuple[str, str], step: str | None, escalates: bool
) -> None:
    verdict = judge(having(**change))
    assert rules(verdict) == {reason}
    assert verdict.verdict == reason[0]
    assert verdict.next == step
    assert bool(verdict.escalate) == escalates
    assert verdict.reasons[0].measured
    assert verdict.reasons[0].threshold


@pytest.mark.parametrize(
    ("change", "level", "scarce", "exhausted"),
    [
        ({"free_percent": 0.9}, "P2", True, True),
        ({"free_percent": 1.0}, "P3", True, False),
        ({"free_percent": 5.0}, None, False, False),
        ({"free_inodes_percent": 0.0}, "P2", True, True),
        ({"free_inodes_percent": None}, None, False, False),
        ({"read_only": True}, "P2", False, False),
    ],
)
def test_file_systems(change: dict[str, Any], level: str | None, scarce: bool, exhausted: bool) -> None:
    facts = healthy()
    facts["filesystems"]["value"][0].update(change)
    verdict = judge(facts)
    assert rules(verdict) == ({(level, "filesystems")} if level else set())
    assert verdict.next is None
    room = ["/var/log/journal uses 300 MB in 12 files; to free space: journalctl --vacuum-size=200M"]
    assert list(verdict.proposals) == (room if scarce else [])
    assert bool(verdict.escalate) == exhausted


def test_full_disk_gets_no_next_command() -> None:
    facts = having(unit={"active": "failed"})
    assert judge(facts).next is not None
    facts["filesystems"]["value"][0].update(free_percent=0)
    assert judge(facts).next is None


def test_failure_before_the_newest_validated_deployment_is_over() -> None:
    at = NOW.timestamp()
    facts = having(runs={"started": [at - 400, at - 60], "failed": [at - 300]})
    verdict = {"who": "anna", "release": "0.1.0-new", "why": "x", "verdict": "good"}
    for seconds, expected in ((200, set()), (350, {("P1", "fails_again")})):
        stamp = timestamps.stamp(NOW - timedelta(seconds=seconds))
        facts["history"]["value"]["records"] = [{**verdict, "at": stamp}]
        assert rules(judge(facts)) == expected
    facts["history"]["value"]["records"][-1]["verdict"] = "bad"
    assert rules(judge(facts)) == {("P1", "fails_again")}


@pytest.mark.parametrize(("after", "level"), [(240, "P1"), (300, "P1"), (301, None)])
def test_second_failure_within_five_minutes_is_escalated_and_rolled_back(
    after: int, level: str | None
) -> None:
    at = NOW.timestamp()
    facts = having(runs={"started": [at - 5000, at - 400, at - 10], "failed": [at - 400 + after]})
    verdict = judge(facts)
    assert rules(verdict) == ({(level, "fails_again")} if level else set())
    if level:
        assert verdict.escalate == ("the service failed again within 5 minutes after a restart",)
        assert verdict.next == "rollback.yml -e release=0.1.0-old"


@pytest.mark.parametrize(("ago", "rolls_back"), [(60, True), (3600, True), (3601, False)])
def test_recent_switch_is_rolled_back_instead_of_restarted(ago: int, rolls_back: bool) -> None:
    facts = having(unit={"active": "failed", "result": "exit-code"}, history={"switch": {"seconds_ago": ago}})
    step = judge(facts).next or ""
    assert step.startswith("rollback.yml -e release=0.1.0-old" if rolls_back else "restart.yml")


def test_breach_is_p0_and_only_isolated() -> None:
    verdict = judge(having(unit={"active": "inactive"}), breach=True)
    assert ("P0", "breach") in rules(verdict)
    assert verdict.next == reason.isolation("an operator reported a breach")
    assert verdict.escalate[0] == "security breach"


def refused(count: float, *, ok: float = 0, seconds: float = 10) -> Facts:
    """Refused logins, half of them forbidden, and `ok` answered client requests."""
    counts = {"unauthenticated": count / 2, "forbidden": count / 2, "misdirected": 1e6}
    return having(traffic={"refused": counts, "requests": {"ok": ok + 5}, "seconds": seconds})


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        (refused(19), False),
        (refused(20), True),
        (refused(0), False),
        (refused(40, seconds=30), False),
        (refused(60, seconds=30), True),
        (refused(20, seconds=2), True),
        (refused(20, ok=200), True),
        (refused(20, ok=210), False),
        (refused(199, ok=2000), False),
        (refused(200, ok=2000), True),
    ],
)
def test_burst_of_refused_logins_by_number_rate_and_traffic(facts: Facts, found: bool) -> None:
    verdict = judge(facts)
    assert rules(verdict) == ({("P1", "refused_logins")} if found else set())
    if found:
        assert verdict.next == reason.isolation("a burst of refused logins")
        assert verdict.escalate == ("unusual access",)


def test_missing_counter_of_refused_logins_is_unknown() -> None:
    assert rules(judge(having(traffic={"refused": None}))) == {("unknown", "refused_logins")}


@pytest.mark.parametrize("damage", ["venv/x.py was changed", "venv/x.pth was added", "/opt/e was changed"])
def test_changed_or_added_files_of_the_release_are_evidence(damage: str) -> None:
    verdict = judge(having(release={"damage": [damage]}))
    assert rules(verdict) == {("P0", "release")}
    assert verdict.next == reason.isolation("files of the release were changed")
    assert verdict.escalate == ("data integrity is in doubt",)


MODE = {"since": "2026-11-24T02:00:00Z", "who": "anna@ops", "why": "odd logins", "incident": "2026-11-24-1"}
SUSPICIOUS: dict[str, Callable[[], Facts]] = {
    "logins": lambda: refused(100),
    "integrity": lambda: having(release={"damage": ["config.json was changed"]}),
    "mode": lambda: having(security={"mode": MODE, "isolated": True}),
}


@pytest.mark.parametrize("name", sorted(SUSPICIOUS))
def test_nothing_that_destroys_evidence_is_proposed_on_a_suspicious_host(name: str) -> None:
    facts = SUSPICIOUS[name]()
    facts["unit"]["value"].update(active="failed", result="start-limit-hit")
    facts["journal"]["value"].update(cache_trouble="x")
    facts["filesystems"]["value"][0].update(free_percent=0.5)
    facts["runs"]["value"].update(started=[NOW.timestamp() - 100], failed=[NOW.timestamp() - 50])
    verdict = judge(facts)
    assert (verdict.next or "").startswith(("security_on.yml ", "security_show.yml"))
    assert verdict.proposals == ()
    assert {reason.next for reason in verdict.reasons if not reason.suspicious} == {None}
    assert triage_verdict.PRESERVE in verdict.notes


def test_security_mode_is_reported_with_its_author_and_start() -> None:
    verdict = judge(having(security={"mode": MODE, "isolated": True}))
    assert (verdict.verdict, rules(verdict)) == ("P0", {("P0", "security_mode")})
    assert verdict.next == "security_show.yml"
    assert "2026-11-24T02:00:00Z security mode set by anna@ops (odd logins)" in verdict.changes
    assert "since 2026-11-24T02:00:00Z, set by anna@ops (odd logins)" in verdict.reasons[0].measured


def test_removed_isolation_is_restored() -> None:
    verdict = judge(having(security={"mode": MODE, "isolated": False}, release={"damage": ["x was changed"]}))
    assert verdict.next == reason.isolation("the isolation was removed")
    assert any("NOT cut off" in reason.measured for reason in verdict.reasons)


def test_security_mode_without_isolation_needs_no_isolation() -> None:
    verdict = judge(having(security={"mode": MODE, "isolated": None}))
    assert verdict.next == "security_show.yml"


@pytest.mark.parametrize(("failing", "level"), [(0, None), (1, "P2"), (2, "P2"), (3, "P1"), (5, "P1")])
def test_failed_probes_are_p1_from_half_of_them(failing: int, level: str | None) -> None:
    facts = healthy()
    for answer in facts["probe"]["value"]["answers"][:failing]:
        answer.update(problems=["answered from a cache"])
    assert rules(judge(facts)) == ({(level, "probe")} if level else set())


def test_missing_answers_of_probes_are_failures() -> None:
    facts = having(probe={"answers": [], "error": "deadline of 20 s passed"})
    assert rules(judge(facts)) == {("P1", "probe")}
    assert "deadline of 20 s" in judge(facts).reasons[0].measured


def test_missing_metrics_are_p3_and_leave_the_error_rate_unknown() -> None:
    facts = healthy()
    facts["traffic"]["value"] = {"served": False, "why": "gave no answer within 3 s"}
    verdict = judge(facts)
    assert rules(verdict) == {("P3", "metrics"), ("unknown", "error_rate")}
    assert (verdict.verdict, verdict.undecided) == ("P3", ("error_rate",))


@pytest.mark.parametrize(
    ("change", "rule"), [({"requests": None}, "error_rate"), ({"engine_up": None}, "engine_up")]
)
def test_missing_or_nan_series_is_unknown(change: dict[str, Any], rule: str) -> None:
    verdict = judge(having(traffic=change))
    assert (verdict.verdict, rules(verdict)) == ("unknown", {("unknown", rule)})
    assert verdict.next == "validate.yml"


ESSENTIAL = sorted({name for rule in RULES.values() for name in rule.needs})


@pytest.mark.parametrize("name", ESSENTIAL)
@pytest.mark.parametrize("entry", [{"unknown": "no answer within 5 s"}, None, {"value": "nonsense"}])
def test_deciding_check_without_a_result_makes_the_host_unknown(
    name: str, entry: dict[str, Any] | None
) -> None:
    facts = healthy()
    if entry is None:
        del facts[name]
    else:
        facts[name] = entry
    verdict = judge(facts, well_formed=False)
    assert verdict.verdict == "unknown"
    assert verdict.undecided


@pytest.mark.parametrize("name", ["load", "clock", "history", "packages", "baseline", "last_lines"])
def test_check_that_no_rule_needs_does_not_affect_health(name: str) -> None:
    facts = healthy()
    facts[name] = {"unknown": "no answer within 5 s"}
    assert judge(facts).verdict == "healthy"


def test_unknown_starts_and_failures_do_not_propose_a_rollback() -> None:
    facts = healthy()
    facts["runs"] = {"unknown": "no answer within 10 s"}
    assert judge(facts).next == "validate.yml"


def test_skipped_probe_is_unknown() -> None:
    facts = having(traffic={"requests": {"ok": 9.0, "error": 1.0}})
    facts["probe"]["value"] = {"skipped": "/health does not answer"}
    verdict = judge(facts)
    assert rules(verdict) == {("unknown", "probe"), ("P2", "error_rate")}
    assert verdict.notes[0].startswith("10 client requests in 10 s, 1 failed")


@pytest.mark.parametrize(
    ("level", "minutes"), [("P0", 5), ("P1", 30), ("P2", 120), ("P3", 1440), ("unknown", None)]
)
def test_deadline_of_the_response(level: str, minutes: int | None) -> None:
    faults: dict[str, Facts] = {
        "P0": having(unit={"active": "failed"}),
        "P1": having(engine_journal={"failures": 3}),
        "P2": having(journal={"cache_trouble": "x"}),
        "P3": requests(50, 950),
        "unknown": having(traffic={"requests": None}),
    }
    verdict = judge(faults[level])
    expected = NOW + timedelta(minutes=minutes) if minutes else None
    assert (verdict.verdict, verdict.respond_by) == (
        level,
        expected.strftime("%Y-%m-%dT%H:%M:%SZ") if expected else None,
    )


def test_recent_changes_are_listed() -> None:
    record = {"at": "2026-11-24T02:50:00Z", "who": "anna@ops", "release": "0.1.0-aa", "why": "deployment"}
    facts = having(
        history={"records": [{**record, "verdict": None}]},
        unit={"drop_ins": ["/etc/systemd/system/katago-mcp.service.d/x.conf"]},
        health={"body": {"status": "ok", "overlay": {"expires": "2026-11-24T04:00:00Z"}}},
    )
    facts["packages"]["value"] = ["libc6"]
    changes = "\n".join(judge(facts).changes)
    for part in ("switched to 0.1.0-aa by anna@ops (deployment)", "x.conf", "override", "libc6"):
        assert part in changes


def test_greedy_unit_is_named_with_a_proposal() -> None:
    def hog(percent: float) -> Facts:
        return having(processes={"others": [holding("backup.service", "tar", 9, percent)]})

    verdict = judge(hog(100.0))
    assert verdict.verdict == "healthy"
    assert any("backup.service (sh) uses 100 %" in note for note in verdict.notes)
    assert verdict.proposals == ("systemctl set-property --runtime backup.service CPUWeight=20",)
    assert judge(hog(99.9)).proposals == ()


def holding(unit: str, name: str, megabytes: int, percent: float = 0.0) -> dict[str, Any]:
    """A unit whose memory is mostly in the process `name`, and whose busiest process is `sh`."""
    return {
        "unit": unit,
        "name": "sh",
        "largest": name,
        "cpu_percent": percent,
        "memory_bytes": megabytes << 20,
    }


@pytest.mark.parametrize(
    ("short", "named"),
    [
        ({"memory": {"available_percent": 1.0}}, True),
        ({"memory": {"available_percent": 4.9}}, True),
        ({"pressure": stalled(30.0)}, True),
        ({"memory": {"available_percent": 5.0}}, False),
    ],
)
def test_largest_consumers_are_named_if_memory_is_short(short: dict[str, Any], named: bool) -> None:
    member = {"pid": 101, "parent": 100, "state": "S", "cpu_percent": 0.0}
    processes = [
        {**member, "name": "katago", "memory_bytes": 3000 << 20},
        {**member, "name": "sh", "memory_bytes": 9},
    ]
    own = {
        "unit": "katago-mcp.service",
        "cpu_percent": 0.0,
        "memory_bytes": 3100 << 20,
        "processes": processes,
    }
    others = [
        holding("cron.service", "cron", 3, percent=9.0),
        holding("ssh.service", "sshd", 40),
        holding("backup.service", "restic", 9000),
        holding("db.service", "postgres", 500),
    ]
    verdict = judge(having(**short, processes={"others": others, "unit": own}))
    consumers = [note for note in verdict.notes if "of memory" in note]
    expected = [
        "backup.service (restic) uses 9000 MB of memory",
        "katago-mcp.service (katago) uses 3100 MB of memory",
        "db.service (postgres) uses 500 MB of memory",
    ]
    assert consumers == (expected if named else [])


def test_memory_is_judged_without_the_list_of_processes() -> None:
    facts = having(memory={"available_percent": 1.0})
    facts["processes"] = {"unknown": "no answer within 12 s"}
    assert ("P2", "memory") in rules(judge(facts))


def test_scarce_memory_proposes_a_smaller_cache_as_a_diff() -> None:
    assert judge(having(memory={"available_percent": 3.0})).proposals == (
        "-katago_mcp_cache_size_mb: 256\n+katago_mcp_cache_size_mb: 128",
    )


def test_missing_pressure_is_noted_and_does_not_affect_the_verdict() -> None:
    facts = having(pressure={"absent": "/proc/pressure/cpu: No such file or directory"})
    verdict = judge(facts)
    assert verdict.verdict == "healthy"
    assert any("/proc/pressure/cpu" in note for note in verdict.notes)


def test_clock_skew_is_noted() -> None:
    facts = healthy()
    facts["clock"]["value"] = NOW.timestamp() - 120
    assert "the host's clock differs from the control node's by -120 s" in judge(facts).notes


def test_unreachable_host_is_unknown_with_the_reason() -> None:
    verdict = triage_verdict.unreachable("Connection timed out", now=NOW)
    assert (verdict.verdict, verdict.undecided, verdict.respond_by) == ("unknown", ("reachable",), None)
    assert "Connection timed out" in verdict.reasons[0].measured


def test_fleet_has_the_verdict_of_its_worst_host_and_names_the_unknown_ones() -> None:
    hosts = {
        "a": judge(healthy()),
        "b": triage_verdict.unreachable("gone", now=NOW),
        "c": judge(having(journal={"cache_trouble": "x"})),
    }
    fleet = triage_verdict.fleet(hosts, now=NOW)
    assert (fleet.verdict, fleet.unknown) == ("P2", ("b",))
    assert fleet.hosts == {"P2": 1, "unknown": 1, "healthy": 1}
    assert triage_verdict.fleet({name: hosts[name] for name in "ab"}, now=NOW).verdict == "unknown"
    assert triage_verdict.fleet({}, now=NOW).verdict == "unknown"


def test_verdict_survives_a_round_trip_through_json() -> None:
    verdict = judge(having(unit={"active": "failed"}))
    assert triage_verdict.parse(json.loads(json.dumps(triage_verdict.as_dict(verdict)))) == verdict


def fail_a_probe(facts: Facts, status: str = "error") -> None:
    """Make one more probe fail, and count it among the requests with this status."""
    requests = facts["traffic"]["value"]["requests"]
    for answer in facts["probe"]["value"]["answers"]:
        if answer["status"] == "ok":
            answer.update(status=status, problems=["x"])
            requests["ok"] -= 1
            requests[status] = requests.get(status, 0) + 1
            return


# Functions that make a fact worse. Each changes the facts in place.
WORSE: dict[str, Callable[[Facts], object]] = {
    "unit stopped": lambda facts: facts["unit"]["value"].update(active="failed", process_state=None),
    "frozen": lambda facts: facts["unit"]["value"].update(process_state="T"),
    "health gone": lambda facts: facts["health"]["value"].update(status=None, body={}),
    "ready 503": lambda facts: facts["ready"]["value"].update(status=503, body={"reason": "engine hung"}),
    "drained": lambda facts: (
        facts["ready"]["value"].update(status=503, body={"reason": "draining"})
        if facts["ready"]["value"]["status"] == 200
        else None
    ),
    "damaged": lambda facts: facts["release"]["value"]["damage"].append("config.json was changed"),
    "bad config": lambda facts: facts["config"]["value"].update(ok=False),
    "file changed": lambda facts: facts["release"]["value"]["damage"].append("venv/x.py was changed"),
    "logins refused": lambda facts: facts["traffic"]["value"]["refused"].update(
        unauthenticated=facts["traffic"]["value"]["refused"]["unauthenticated"] + 12
    ),
    "security mode": lambda facts: facts["security"]["value"].update(mode=MODE, isolated=True),
    "isolation lost": lambda facts: facts["security"]["value"].update(mode=MODE, isolated=False),
    "engine failed": lambda facts: facts["engine_journal"]["value"].update(
        failures=facts["engine_journal"]["value"]["failures"] + 1
    ),
    "second engine": lambda facts: facts["processes"]["value"]["engines"].append(7),
    "cache": lambda facts: facts["journal"]["value"].update(cache_trouble="x"),
    "error logged": lambda facts: facts["journal"]["value"]["groups"].append(ERRORS),
    "space": lambda facts: [each.update(free_percent=0.1) for each in facts["filesystems"]["value"]],
    "inodes": lambda facts: [each.update(free_inodes_percent=3) for each in facts["filesystems"]["value"]],
    "read-only": lambda facts: [each.update(read_only=True) for each in facts["filesystems"]["value"]],
    "memory": lambda facts: facts["memory"]["value"].update(available_percent=1.0),
    "stalls": lambda facts: facts["pressure"]["value"].update(stalled(50)),
    "few files": lambda facts: facts["limits"]["value"].update(open_files_limit=64),
    "probe fails": fail_a_probe,
    "own probe rejected": lambda facts: fail_a_probe(facts, "rejected"),
    "own probe over limit": lambda facts: fail_a_probe(facts, "invalid"),
    "probes slow": lambda facts: [
        answer.update(seconds=answer["seconds"] * 1.4) for answer in facts["probe"]["value"]["answers"]
    ],
    "a request fails": lambda facts: facts["traffic"]["value"]["requests"].update(
        error=facts["traffic"]["value"]["requests"].get("error", 0) + 1
    ),
    "crash": lambda facts: facts["runs"]["value"].update(
        started=[NOW.timestamp() - 100], failed=[NOW.timestamp() - 50]
    ),
}
worsened = st.lists(st.sampled_from(sorted(WORSE)), max_size=8)


def after(names: list[str]) -> Facts:
    facts = copy.deepcopy(healthy())
    for name in names:
        WORSE[name](facts)
    return facts


@given(names=worsened, one_more=st.sampled_from(sorted(WORSE)))
def test_worse_facts_never_give_a_better_verdict(names: list[str], one_more: str) -> None:
    before, later = judge(after(names)), judge(after([*names, one_more]))
    assert rank(later.verdict) >= rank(before.verdict)


@given(names=worsened, lost=st.sets(st.sampled_from(ESSENTIAL), min_size=1))
def test_unknown_is_never_healthy(names: list[str], lost: set[str]) -> None:
    facts = after(names)
    for name in lost:
        facts[name] = {"unknown": "no answer within 5 s"}
    assert judge(facts).verdict != "healthy"


@given(hosts=st.lists(worsened, min_size=1, max_size=5), seed=st.randoms())
def test_order_of_hosts_does_not_matter(hosts: list[list[str]], seed: Any) -> None:
    verdicts = {f"h{number}": judge(after(names)) for number, names in enumerate(hosts)}
    verdicts["gone"] = triage_verdict.unreachable("gone", now=NOW)
    shuffled = list(verdicts.items())
    seed.shuffle(shuffled)
    assert triage_verdict.fleet(dict(shuffled), now=NOW) == triage_verdict.fleet(verdicts, now=NOW)


@given(hosts=st.lists(worsened, min_size=1, max_size=4), one_more=st.sampled_from(sorted(WORSE)))
def test_worse_host_never_gives_a_better_fleet(hosts: list[list[str]], one_more: str) -> None:
    def level(of: list[list[str]]) -> int:
        verdicts = {str(number): judge(after(names)) for number, names in enumerate(of)}
        return rank(triage_verdict.fleet(verdicts, now=NOW).verdict)

    assert level([[*hosts[0], one_more], *hosts[1:]]) >= level(hosts)


def test_baseline_is_refused_on_a_host_that_is_not_healthy_or_not_warmed_up() -> None:
    facts = having(journal={"cache_trouble": "x"})
    (problem,) = baseline_record.problems(judge(facts), triage_facts.read(facts), least_uptime=60)
    assert problem == "P2 cache: the cache does not work: x"
    young = having(health={"body": {"status": "ok", "uptimeSeconds": 59, "engine": {"state": "ready"}}})
    assert baseline_record.problems(judge(young), triage_facts.read(young), least_uptime=60) == [
        "the service has been up for 59 s; wait until it is 60 s"
    ]
    failed = having(engine_journal={"failures": 1})
    assert (
        "the engine failed 1 times"
        in baseline_record.problems(judge(failed), triage_facts.read(failed), least_uptime=60)[0]
    )
    assert baseline_record.problems(judge(healthy()), triage_facts.read(healthy()), least_uptime=60) == []


def test_baseline_records_release_engine_network_and_machine() -> None:
    recorded = baseline_record.make(triage_facts.read(having(probe=probes(0.25))), now=NOW)
    assert recorded["median_seconds"] == 0.25
    assert recorded["visits_per_second"] == 128.0
    assert recorded["machine"] == MACHINE
    assert (recorded["release"], recorded["engine_version"], recorded["network"]) == (
        "0.1.0-aa",
        "1.18.1",
        "net.bin.gz",
    )


def test_command_line_is_complete() -> None:
    assert triage_table.command("restart.yml -e force=true", "katago-1") == (
        "ansible-playbook playbooks/restart.yml -l katago-1 -e force=true"
    )
    assert triage_table.command("restore.yml", "b", ["-i", "inventories/production"]) == (
        "ansible-playbook -i inventories/production playbooks/restore.yml -l b"
    )


def test_table_lists_the_worst_host_first_with_reason_and_next_command() -> None:
    verdicts = {
        "a": judge(healthy()),
        "long-name": judge(having(unit={"active": "inactive", "sub": "dead"})),
        "gone": triage_verdict.unreachable("cannot be reached", now=NOW),
    }
    text = triage_table.render(
        verdicts,
        triage_verdict.fleet(verdicts, now=NOW),
        {"long-name": "ansible-playbook X"},
        {"long-name": triage_facts.read(healthy())},
    )
    lines = text.strip().splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["HOST", "long-name", "gone", "a", "FLEET"]
    assert (
        len({line.index(word) for line, word in zip(lines, ("VERDICT", "P0", "unknown"), strict=False)}) == 1
    )
    assert "  NEXT: ansible-playbook X" in lines
    assert any("P0  unit: katago-mcp.service is inactive (dead" in line for line in lines)
    assert all(len(line) <= 120 for line in lines)


UNTESTED = "untested system: Ubuntu 24.04.3 LTS (ubuntu 24.04); tested: Debian 12 and 13"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"unit": {"active": "failed", "result": "core-dump"}},
        {"security": {"mode": MODE, "isolated": True}},
    ],
)
def test_untested_system_is_noted_with_every_verdict(changes: dict[str, Any]) -> None:
    facts = having(**changes)
    before = judge(facts)
    facts["system"]["value"]["untested"] = UNTESTED
    verdict = judge(facts)
    assert UNTESTED in verdict.notes
    assert (verdict.verdict, verdict.reasons) == (before.verdict, before.reasons)
    assert UNTESTED not in before.notes


TAKEN = {"setting": "server.port", "port": 8080, "pid": 812, "name": "nginx", "unit": "nginx.service"}


def test_port_of_another_process_is_named_before_its_effects_and_no_restart_is_proposed() -> None:
    facts = having(unit={"active": "failed", "sub": "failed", "result": "exit-code", "pid": 0})
    facts["ports"]["value"] = [TAKEN]
    verdict = judge(facts)
    first, second, *_ = verdict.reasons
    assert (first.level, first.rule, second.rule) == ("P0", "ports", "unit")
    assert first.measured == "port 8080 (server.port) is used by nginx (PID 812 of nginx.service)"
    assert "stop nginx and restart, or set katago_mcp_port and deploy" in first.threshold
    assert verdict.next is None


REFUSED = {"address": "go.example.org:8080", "error": "timed out"}


def test_clients_that_cannot_connect_to_a_service_that_answers_are_p0() -> None:
    facts = {**healthy(), "clients": {"value": REFUSED}}
    (reason,) = judge(facts).reasons
    assert (reason.level, reason.rule) == ("P0", "clients")
    assert reason.measured == "clients cannot connect to go.example.org:8080: timed out"
    assert "nft list ruleset" in reason.threshold


def test_clients_are_no_finding_where_they_connect_or_another_finding_explains_it() -> None:
    fine = {**healthy(), "clients": {"value": {**REFUSED, "error": ""}}}
    assert rules(judge(fine)) == set()
    down = {**having(health={"status": None}), "clients": {"value": REFUSED}}
    assert "clients" not in {reason.rule for reason in judge(down).reasons}
    cut = {**having(security={"mode": MODE, "isolated": True}), "clients": {"value": REFUSED}}
    assert "clients" not in {reason.rule for reason in judge(cut).reasons}


def test_proposed_mitigation_can_be_pasted_and_lowers_a_limit() -> None:
    slow = having(memory={"available_percent": 1.0})
    assert judge(slow).next == mitigation("memory")
    slow["health"]["value"]["body"]["overlay"] = {"keys": {"katago.maxVisits": 80}}
    assert (judge(slow).next or "").startswith("mitigate.yml -e visits=40 ")
    slow["health"]["value"]["body"]["overlay"] = None
    slow["max_visits"]["value"] = 1
    assert (judge(slow).next or "").startswith("mitigate.yml -e concurrent=1 ")
    del slow["max_visits"]
    assert (judge(slow).next or "").startswith("mitigate.yml -e concurrent=1 ")


def test_weakened_sandbox_is_reported_with_the_drop_in() -> None:
    source = "/run/systemd/system/service.d/zzz-lxc-service.conf"
    weaknesses = [
        {"directive": "NoNewPrivileges", "setting": "NoNewPrivileges=no", "source": source},
        {"directive": "ProtectProc", "setting": "ProtectProc=default", "source": source},
        {"directive": "PrivateUsers", "setting": "not enforced on the running process", "source": ""},
    ]
    by_source, unexplained = judge({**healthy(), "sandbox": {"value": weaknesses}}).reasons
    assert (by_source.level, by_source.rule) == ("P3", "sandbox")
    assert by_source.measured == f"the sandbox is weakened by {source}: NoNewPrivileges, ProtectProc"
    assert unexplained.measured == "the sandbox lacks PrivateUsers"


def test_masked_unit_that_still_runs_is_no_emergency() -> None:
    (reason,) = judge(having(unit={"load": "masked"})).reasons
    assert (reason.level, reason.rule) == ("P2", "unit")


@pytest.mark.parametrize("name", ["ports", "clients", "sandbox"])
def test_newer_fact_is_unknown_if_its_check_had_no_result_and_skipped_if_a_report_lacks_it(name: str) -> None:
    facts = {**healthy(), name: {"unknown": "no answer within 10 s", "seconds": 10.0}}
    assert rules(judge(facts)) == {("unknown", name)}
    del facts[name]
    assert rules(judge(facts)) == set()
