"""The verdict on a canary: by its errors and its latency against the others, or no verdict."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.rollout.sample import Probe, Sample
from ansible_collections.katago.fleet.plugins.plugin_utils.rollout import judge

BOUNDS = ("0.1", "0.5", "1.0", "5.0", "+Inf")


def probe(seconds: float = 0.4, problem: str = "", status: str = "") -> Probe:
    status = status or ("error" if problem else "ok")
    return {"seconds": seconds, "problems": [problem] if problem else [], "status": status}


def sample(**values: Any) -> Sample:
    made: dict[str, Any] = {
        "release": "new",
        "workload": "same",
        "limits": {"maxVisits": 1000, "maxTime": None},
        "started": 1000.0,
        "requests": {"ok": 0.0, "error": 0.0},
        "durations": dict.fromkeys(BOUNDS, 0.0),
        "probes": [],
        "baseline": None,
    }
    return made | values  # type: ignore[return-value]


def traffic(
    ok: int,
    failed: int = 0,
    bound: str = "0.5",
    probes: list[Probe] | None = None,
    status: str = "error",
    **more: Any,
) -> list[Sample]:
    """Two samples, between which clients sent this much; all analyses took up to `bound` seconds."""
    sent = probes or []
    durations = {le: float(ok if float(le) >= float(bound) else 0) for le in BOUNDS}
    counted = {"ok": float(ok), "error": 0.0, status: float(failed)}
    for each in sent:
        counted[each["status"]] = counted.get(each["status"], 0) + 1
    return [sample(**more), sample(requests=counted, durations=durations, probes=sent, **more)]


def verdict(canary: list[Any], *others: list[Any]) -> judge.Verdict:
    return judge.judge("k1", "new", hosts(canary, *others))


def hosts(canary: list[Any], *others: list[Any]) -> dict[str, list[Any]]:
    """Samples by host; the others still run the previous release."""
    return {"k1": canary, **{f"k{number}": former(taken) for number, taken in enumerate(others, 2)}}


def former(samples: list[Any]) -> list[Any]:
    return [each and (each | {"release": "old"} if each["release"] == "new" else each) for each in samples]


def test_canary_that_is_like_the_others_passes() -> None:
    made = verdict(traffic(100), traffic(80), traffic(120))
    assert (made.state, made.reasons) == ("passed", ())
    assert made.basis == "The canary is compared with k2, k3."


def test_canary_that_fails_requests_fails() -> None:
    made = verdict(traffic(90, 10), traffic(100))
    assert made.state == "failed"
    assert made.reasons == ("10 of 100 requests of clients failed (error, 10 %), on the others 0 %",)


@pytest.mark.parametrize("status", ["error", "timeout", "unavailable"])
def test_failures_of_a_kind_that_the_others_have_too_are_no_fault_of_the_release(status: str) -> None:
    busy = traffic(80, 20, status=status)
    assert verdict(traffic(70, 30, status=status), busy).state == "passed"
    assert verdict(traffic(50, 50, status=status), busy).state == "failed"


def test_failures_of_another_kind_do_not_excuse_those_of_the_canary() -> None:
    made = verdict(traffic(80, 20), traffic(80, 20, status="timeout"))
    assert made.reasons == ("20 of 100 requests of clients failed (error, 20 %), on the others 0 %",)


def test_requests_of_clients_do_not_hide_known_positions_that_fail() -> None:
    """The others have many clients, and their known positions are as busy as those of the canary."""
    busy = [probe(problem="overloaded", status="rejected")] * 6
    assert verdict(traffic(0, probes=busy), traffic(1000, probes=busy)).state == "passed"
    wrong = [probe(problem="scoreLead -3.0", status="ok")] * 6
    assert verdict(traffic(0, probes=wrong), traffic(1000, probes=busy)).state == "failed"


@pytest.mark.parametrize("status", ["rejected", "timeout"])
def test_busy_canary_is_not_rejected_where_nothing_can_be_compared(status: str) -> None:
    busy = [probe(problem="busy", status=status)] * 6
    assert verdict(traffic(0, probes=busy)).state == "undecided"
    assert verdict(traffic(60, 40, status="timeout")).state == "undecided"


def test_known_positions_decide_where_no_other_host_was_measured() -> None:
    wrong = [probe(problem="no usable analysis")] * 4
    made = verdict(traffic(0, probes=[*wrong, probe()]), [None, None])
    assert made.reasons == ("4 of 5 known positions failed (error, 80 %), such as: no usable analysis",)
    assert made.basis.startswith("No other host was measured: the canary's own failures are judged")


@pytest.mark.parametrize(("ok", "failed"), [(98, 2), (1000, 4), (6, 0)])
def test_few_errors_are_no_finding(ok: int, failed: int) -> None:
    assert verdict(traffic(ok, failed), traffic(100)).state == "passed"


def test_slow_canary_fails() -> None:
    made = verdict(traffic(50, bound="5.0"), traffic(50, bound="0.5"))
    assert made.state == "failed"
    assert "an analysis takes 3.00 s, on the others 0.30 s" in made.reasons[0]


def test_slow_known_positions_fail_without_any_client() -> None:
    slow, usual = [probe(2.0)] * 6, [probe(0.5)] * 6
    made = verdict(traffic(0, probes=slow), traffic(0, probes=usual))
    assert made.reasons == ("a known position takes 2.00 s, on the others 0.50 s",)


def test_known_positions_that_fail_are_errors() -> None:
    wrong = [probe(problem="no usable analysis")] * 4
    made = verdict(traffic(0, probes=[*wrong, probe()]), traffic(0, probes=[probe()] * 6))
    assert made.state == "failed"
    assert "4 of 5 known positions failed (error, 80 %), on the others 0 %" in made.reasons[0]
    assert "no usable analysis" in made.reasons[0]


def test_slow_machine_slows_the_others_too() -> None:
    made = verdict(traffic(0, probes=[probe(3.0)] * 6, baseline=0.5), traffic(0, probes=[probe(2.5)] * 6))
    assert made.state == "passed"


@pytest.mark.parametrize("slow", [traffic(50, bound="5.0"), traffic(0, probes=[probe(3.0)] * 6)])
def test_larger_network_is_no_slower_release(slow: list[Any]) -> None:
    usual = traffic(50, probes=[probe(0.5)] * 6)
    assert verdict(slow, usual).state == "failed"
    larger = [each | {"workload": "larger"} for each in slow]
    made = verdict(larger, usual)
    assert (made.state, made.reasons) == ("passed", ())
    assert made.basis.endswith(
        "so the speed of analyses is compared with none of them, and that of known positions with none of"
        " them."
    )


SLOW_ANALYSES = traffic(50, bound="5.0")
SLOW_POSITIONS = traffic(0, probes=[probe(3.0)] * 6)
SLOW_POSITIONS_OF_A_BUSY_HOST = traffic(50, probes=[probe(3.0)] * 6)


@pytest.mark.parametrize(
    ("slow", "limits", "state"),
    [
        (SLOW_ANALYSES, {"maxVisits": 1000, "maxTime": None}, "failed"),
        (SLOW_ANALYSES, {"maxVisits": 500, "maxTime": None}, "failed"),
        (SLOW_ANALYSES, {"maxVisits": 2000, "maxTime": None}, "passed"),
        (SLOW_ANALYSES, {"maxVisits": 500, "maxTime": 5.0}, "passed"),
        (SLOW_POSITIONS, {"maxVisits": 500, "maxTime": None}, "failed"),
        (SLOW_POSITIONS, {"maxVisits": 2000, "maxTime": None}, "failed"),
        (SLOW_POSITIONS_OF_A_BUSY_HOST, {"maxVisits": 500, "maxTime": None}, "failed"),
        (SLOW_POSITIONS_OF_A_BUSY_HOST, {"maxVisits": 2000, "maxTime": None}, "passed"),
    ],
)
def test_higher_limits_excuse_only_what_they_slow(
    slow: list[Any], limits: dict[str, float | None], state: str
) -> None:
    changed = [each | {"limits": limits} for each in slow]
    assert verdict(changed, traffic(50, probes=[probe(0.5)] * 6)).state == state


def test_limits_that_an_override_lowers_on_the_others_for_a_while_excuse_slow_analyses() -> None:
    first, last = traffic(50)
    lowered = first | {"limits": {"maxVisits": 100, "maxTime": None}}
    assert verdict(SLOW_ANALYSES, [lowered, last]).state == "passed"


def test_hosts_with_which_speed_is_compared_are_named() -> None:
    lower = [each | {"limits": {"maxVisits": 500}} for each in traffic(50, probes=[probe()] * 6)]
    made = verdict(traffic(10, probes=[probe()] * 6), lower, traffic(50, probes=[probe()] * 6))
    assert made.basis == (
        "The canary is compared with k2, k3. Networks, limits or devices differ, so the speed of analyses is"
        " compared with k3, and that of known positions with k2, k3."
    )


@pytest.mark.parametrize(
    "reference",
    [
        [sample(release=None, started=None), sample(release=None, started=None)],
        traffic(50, 50, release="newer"),
        [sample(release="old"), sample(release="new", requests={"ok": 50.0, "error": 50.0})],
    ],
    ids=["stopped", "switched before", "switched meanwhile"],
)
def test_host_that_stops_or_is_switched_is_no_reference(reference: list[Any]) -> None:
    judged = hosts(traffic(80, 20), traffic(100))
    peers = judge.references("k1", "newer", {**judged, "k3": reference})
    assert list(peers) == ["k2"]


def test_baseline_decides_where_no_other_host_was_measured() -> None:
    assert verdict(traffic(0, probes=[probe(3.0)] * 6, baseline=0.5)).state == "failed"
    made = verdict(traffic(0, probes=[probe(0.6)] * 6, baseline=0.5))
    assert (made.state, "baseline" in made.basis) == ("passed", True)


def test_too_few_samples_are_no_verdict() -> None:
    made = verdict(traffic(2), traffic(100))
    assert made.state == "undecided"
    assert made.basis == "The soak cannot judge; the decision rests on the validation of the canary."


def test_speed_without_anything_to_compare_is_undecided() -> None:
    made = verdict(traffic(0, probes=[probe()] * 6))
    assert (made.state, made.reasons) == (
        "undecided",
        ("no other host was measured, and there is no baseline",),
    )


def test_silent_references_are_left_out() -> None:
    made = verdict(traffic(100), [None, None], traffic(100))
    assert made.basis == "The canary is compared with k3."


def test_silent_canary_is_unknown_and_is_not_rejected() -> None:
    made = verdict([sample(), None], traffic(100))
    assert (made.state, made.reasons) == ("unknown", ("k1 did not answer",))


def test_canary_that_somebody_changed_is_unknown() -> None:
    made = verdict(traffic(100, release="other"), traffic(100))
    assert made.state == "unknown"
    assert "k1 runs other instead of new" in made.reasons[0]


def test_canary_that_restarts_fails() -> None:
    restarted = [sample(), sample(started=2000.0)]
    assert verdict(restarted, traffic(100)).reasons == ("the service of k1 was restarted",)


def test_canary_that_stopped_fails() -> None:
    stopped = [sample(), sample(release=None, started=None, requests=None, durations=None)]
    assert verdict(stopped, traffic(100)).reasons[0] == "the service of k1 does not run"


def test_counters_are_added_up_across_a_restart() -> None:
    taken = [
        sample(requests={"ok": 50.0}),
        sample(requests={"ok": 60.0}),
        sample(requests={"ok": 5.0}, started=2000.0),
    ]
    assert judge.figures({"k1": taken}).clients.number == 15


def test_own_positions_are_not_requests_of_clients() -> None:
    figures = judge.figures({"k1": traffic(30, probes=[probe()] * 5)})
    assert (figures.clients.number, figures.probes.number, figures.judged) == (30, 5, 35)


def test_positions_before_the_first_counters_are_not_subtracted() -> None:
    first, last = traffic(30)
    figures = judge.figures({"k1": [first | {"probes": [probe()] * 5}, last]})
    assert (figures.clients.number, figures.probes.number) == (30, 5)


def test_known_positions_are_requested_where_clients_send_too_little() -> None:
    busy, idle = traffic(40), traffic(0)
    assert not judge.wants_probes("k1", "new", hosts(busy, busy), 0.5)
    assert judge.wants_probes("k1", "new", hosts(busy, idle), 0.5)
    assert judge.wants_probes("k1", "new", hosts(busy, busy), 0)


def test_known_positions_are_requested_where_no_other_host_is_measured() -> None:
    assert judge.wants_probes("k1", "new", hosts(traffic(40), [None, None]), 0.5)


@pytest.mark.parametrize("minutes", [0.1, 0.5, 1, 5, 60, 240])
def test_soak_has_enough_positions_for_a_verdict(minutes: float) -> None:
    plan = judge.schedule(minutes)
    assert plan.rounds * plan.seconds == pytest.approx(60 * minutes)
    assert (plan.rounds + 1) * plan.probes >= 2 * judge.FEWEST_PROBES


def test_line_of_a_soak_has_both_figures_and_the_reason() -> None:
    made = verdict(traffic(90, 10), traffic(100))
    figures = (
        "k1: 10 of 100 requests of clients failed (10 error), an analysis takes 0.30 s;"
        " others: 0 of 100 requests of clients failed, an analysis takes 0.30 s"
    )
    assert judge.describe("k1", made, 30) == f"Rollout: soak, about 30 s left. {figures}"
    assert judge.describe("k1", made, 0) == f"Rollout: soak: failed: {made.reasons[0]}. {figures}"


def test_verdict_is_plain_values_with_its_figures_in_words() -> None:
    made = verdict(traffic(100), traffic(100)).as_dict()
    assert made["state"] == "passed"
    assert made["canary"]["clients"]["number"] == 100
    assert made["canary_shown"].startswith("0 of 100 requests of clients failed")
