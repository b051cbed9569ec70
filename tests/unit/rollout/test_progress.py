"""The progress of a rollout and its summary."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.rollout.progress import Progress

PLAN: dict[str, Any] = {
    "procedure": "deploy",
    "canary": "k1",
    "soaking": "k1",
    "soak_minutes": 1,
    "batches": [["k2"], ["k3", "k4"], ["k5"]],
    "order": ["k1", "k2", "k3", "k4", "k5"],
    "skipped": {"k6": "no change is needed"},
}
AGAIN = {**PLAN, "canary": None, "order": ["k2", "k3", "k4", "k5"]}
PASSED = {"state": "passed", "reasons": [], "basis": "Compared.", "canary_shown": "a", "others_shown": "b"}


def event(result: str, procedure: str = "deploy") -> dict[str, str]:
    return {"procedure": procedure, "result": result}


def work(progress: Progress, host: str, result: str, start: float = 0, end: float = 30) -> None:
    progress.reported(host, event("begun"), start)
    progress.reported(host, event(result), end)


def test_batch_is_announced_once_with_the_time_that_is_left() -> None:
    progress = Progress(PLAN, 0)
    assert progress.reported("k1", event("begun"), 0) == "Rollout: canary: k1"
    line = "Rollout: k1: done. 1 of 5 hosts are done; about 3 min left"
    assert progress.reported("k1", event("changed"), 40) == line
    progress.soaked(PASSED, over=True)
    assert progress.reported("k2", event("begun"), 100) == "Rollout: batch 1 of 3: k2; about 2 min left"
    progress.reported("k2", event("changed"), 160)
    assert progress.reported("k3", event("begun"), 160) == ("Rollout: batch 2 of 3: k3, k4; about 100 s left")
    assert progress.reported("k4", event("begun"), 161) is None
    assert progress.reported("k9", event("begun"), 161) is None


def test_summary_names_what_was_not_touched_and_why() -> None:
    progress = Progress(PLAN, 0)
    work(progress, "k1", "changed")
    progress.soaked(PASSED, over=True)
    work(progress, "k2", "partial")
    assert progress.summary(200) == [
        "changed      k1 (30 s)",
        "failed       k2: failed",
        "not touched  k3, k4, k5: k2 failed",
        "skipped      k6: no change is needed",
        "soak         passed",
        "             canary: a",
        "             others: b",
        "basis        Compared.",
        "took         3 min",
        "next         find the reason under RESULT and repair it. The same command continues: hosts that are"
        " done are not switched again",
    ]


def test_results_of_other_procedures_do_not_count() -> None:
    """site.yml backs up the hosts after the rollout, also those that were not touched."""
    progress = Progress(PLAN, 0)
    work(progress, "k1", "changed")
    progress.soaked(PASSED, over=True)
    for host in ("k1", "k3"):
        assert progress.reported(host, event("begun", "backup"), 40) is None
        assert progress.reported(host, event("partial", "backup"), 90) is None
    made = progress.as_dict(90)
    assert (made["changed"], made["failed"]) == (["k1"], [])
    assert made["not_touched"] == ["k2", "k3", "k4", "k5"]
    assert made["host_seconds"] == {"k1": 30}


@pytest.mark.parametrize("plan", [PLAN, AGAIN], ids=["first soak", "second soak"])
def test_host_that_was_rolled_back_after_its_soak_has_failed(plan: dict[str, Any]) -> None:
    progress = Progress(plan, 0)
    if plan["canary"]:
        work(progress, "k1", "changed")
    progress.soaked({**PASSED, "state": "failed", "reasons": ["slow"]}, over=True)
    assert progress.as_dict(60)["reasons"]["k1"] == "failed its soak, and was not rolled back"
    work(progress, "k1", "refused", 60, 70)
    assert progress.as_dict(60)["reasons"]["k1"] == "failed its soak, and was not rolled back"
    work(progress, "k1", "partial", 70, 90)
    made = progress.as_dict(90)
    assert (made["changed"], made["failed"]) == ([], ["k1"])
    assert made["reasons"]["k2"] == "k1 failed"
    assert "soak         failed (slow)" in progress.summary(90)
    assert not progress.is_complete


@pytest.mark.parametrize("over", [False, True])
def test_soak_without_a_final_verdict_is_not_passed(over: bool) -> None:
    progress = Progress(PLAN, 0)
    work(progress, "k1", "changed")
    progress.soaked({**PASSED, "state": "unknown" if over else "passed"}, over=over)
    made = progress.as_dict(90)
    assert made["soak"]["state"] == ("unknown" if over else "interrupted")
    assert made["reasons"]["k2"] == f"the soak is {made['soak']['state']}"


def test_host_of_an_interrupted_run_has_not_changed() -> None:
    progress = Progress(PLAN, 0)
    progress.reported("k1", event("begun"), 0)
    made = progress.as_dict(10)
    assert (made["failed"], made["reasons"]["k1"]) == (["k1"], "the run ended while it was switched")


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ("refused", "refused; nothing was changed on it"),
        ("unreachable", "unreachable; its state is unknown"),
    ],
)
def test_host_that_fails_before_its_procedure_starts_has_failed(result: str, reason: str) -> None:
    progress = Progress(PLAN, 0)
    progress.lost("k1", result, 10)
    made = progress.as_dict(10)
    assert (made["failed"], made["reasons"]["k1"]) == (["k1"], reason)


def test_host_that_becomes_unreachable_has_failed() -> None:
    progress = Progress(PLAN, 0)
    progress.reported("k1", event("begun"), 0)
    progress.lost("k1", "refused", 5)
    assert progress.as_dict(10)["reasons"]["k1"] == "the run ended while it was switched"
    progress.lost("k1", "unreachable", 10)
    assert progress.as_dict(10)["reasons"]["k1"] == "unreachable; its state is unknown"


def test_host_that_refuses_is_a_failure_of_the_rollout() -> None:
    progress = Progress(PLAN, 0)
    line = progress.reported("k1", event("refused"), 10)
    assert line == "Rollout: k1: refused; nothing was changed on it. 0 of 5 hosts are done"
    assert progress.as_dict(10)["failed"] == ["k1"]


def test_rollout_is_complete_when_every_host_is_switched() -> None:
    progress = Progress(PLAN, 0)
    for host in PLAN["order"]:
        assert not progress.is_complete
        work(progress, host, "changed")
    assert not progress.is_complete
    progress.soaked(PASSED, over=True)
    assert progress.is_complete
    assert not any(line.startswith("next") for line in progress.summary(90))
