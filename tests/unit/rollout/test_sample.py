"""A sample of a service: counters by label, and known positions with or without an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import prometheus
from ansible_collections.katago.fleet.plugins.module_utils.release import layout
from ansible_collections.katago.fleet.plugins.module_utils.rollout import sample

METRICS = """\
process_start_time_seconds 1000.5
katago_requests_total{tool="analyzePosition",status="ok"} 4
katago_requests_total{tool="findMistakes",status="ok"} 2
katago_requests_total{tool="findMistakes",status="error"} 1
katago_analysis_duration_seconds_bucket{tool="analyzePosition",le="0.5"} 3
katago_analysis_duration_seconds_bucket{tool="analyzePosition",le="+Inf"} 4
"""


def test_counters_are_added_up_over_tools() -> None:
    assert sample.counters(prometheus.parse(METRICS)) == {
        "started": 1000.5,
        "requests": {"ok": 6, "error": 1},
        "durations": {"0.5": 3, "+Inf": 4},
    }


def test_service_without_metrics_has_no_counters() -> None:
    assert sample.counters(None) == {"started": None, "requests": None, "durations": None}


def test_position_without_an_answer_has_the_error_of_the_client() -> None:
    made = sample.probes_of({"error": "the MCP client did not finish"}, 2, 32, 60)
    assert made == [{"seconds": 60, "problems": ["the MCP client did not finish"], "status": "unknown"}] * 2


def test_wrong_answer_is_a_problem() -> None:
    answer = {"ok": False, "error": "timeout: no answer in time", "text": "x", "seconds": 3.5}
    (made,) = sample.probes_of({"results": [answer]}, 1, 32, 60)
    assert (made["seconds"], made["status"]) == (3.5, "error")
    assert made["problems"]


def test_sample_survives_json() -> None:
    counters = sample.counters(prometheus.parse(METRICS))
    made = {
        "release": "new",
        "workload": "w",
        "limits": {"maxVisits": 9, "maxTime": None},
        "probes": [],
        "baseline": 0.5,
        **counters,
    }
    assert sample.parse(json.loads(json.dumps(made))) == made


MANIFEST = layout.Manifest(
    name="1-aa",
    version="1",
    engine_version="1.16",
    files={"analysis.cfg": "c"},
    stands_on={"/opt/katago/engines/e": "e", "/opt/katago/networks/n/net": "n", "/opt/katago/tuning/t": "t"},
)
MACHINE = {"name": "k1", "device": "4 x CPU", "processors": 4}


def workload(network: str = "n", tuning: str = "t", visits: int = 32, **machine: Any) -> str:
    assets = {**MANIFEST["stands_on"], "/opt/katago/networks/n/net": network, "/opt/katago/tuning/t": tuning}
    manifest = layout.Manifest(**{**MANIFEST, "stands_on": assets})
    return sample.workload(manifest, visits, {**MACHINE, **machine})


def test_hosts_of_a_kind_have_the_same_workload() -> None:
    """Each host has a name and a tuning result of its own, and a release may change the engine."""
    assert workload(tuning="other", name="k2") == workload()


@pytest.mark.parametrize(
    "other",
    [{"network": "larger"}, {"visits": 10}, {"device": "1 x GPU"}, {"processors": 2}],
)
def test_what_makes_a_known_position_costlier_is_another_workload(other: dict[str, Any]) -> None:
    assert workload(**other) != workload()


def test_limits_are_as_configured_or_as_lowered_by_an_override() -> None:
    config = {"katago": {"maxVisits": 100, "maxTime": 2.5, "cacheSize": 7}}
    limits = sample.limits_of(config, {"overlay": None})
    assert (limits["maxVisits"], limits["maxTime"], limits["maxReviewVisits"]) == (100, 2.5, None)
    assert "cacheSize" not in limits
    shown = {"keys": {"katago.maxVisits": 20}, "expiresAt": "2026-02-01T12:00:00Z", "why": "load", "who": "a"}
    assert sample.limits_of(config, {"overlay": shown}) == limits | {"maxVisits": 20}
    assert set(sample.limits_of({"katago": {}}, {}).values()) == {None}
