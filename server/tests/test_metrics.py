"""The metrics: all series exist from the first scrape on."""

import math
from contextvars import copy_context
from typing import get_args

import pytest
from prometheus_client import generate_latest

from katago_mcp.errors import Status
from katago_mcp.metrics import (
    ANALYSIS_TOOLS,
    REFUSALS,
    RELOADS,
    RESTART_REASONS,
    SESSION_LIMITS,
    STATES,
    TOOLS,
    Metrics,
    probing,
)

CONTRACT = [
    *(
        ("katago_requests_total", {"tool": tool, "status": status})
        for tool in (*TOOLS, "unknown")
        for status in get_args(Status)
    ),
    *(("katago_analysis_duration_seconds_count", {"tool": tool}) for tool in ANALYSIS_TOOLS),
    *(("katago_engine_state", {"state": state}) for state in STATES),
    *(("katago_engine_restarts_total", {"reason": reason}) for reason in RESTART_REASONS),
    *(("katago_mcp_http_refused_total", {"reason": reason}) for reason in REFUSALS),
    ("katago_mcp_sessions", {}),
    *(("katago_mcp_sessions_refused_total", {"reason": reason}) for reason in SESSION_LIMITS),
    *(("katago_mcp_reloads_total", {"result": result}) for result in RELOADS),
    ("katago_mcp_overlay_active", {}),
    ("katago_mcp_overlay_expires_timestamp_seconds", {}),
    ("katago_mcp_overlay_invalid", {}),
    ("katago_mcp_tls_certificate_expires_timestamp_seconds", {}),
    ("katago_engine_up", {}),
    ("katago_engine_queries_in_flight", {}),
    ("katago_visits_total", {}),
    ("katago_cache_hits_total", {}),
    ("katago_cache_misses_total", {}),
    ("katago_cache_hit_rate", {}),
    ("katago_cache_probe_lookups_total", {}),
    ("katago_cache_size_bytes", {}),
    ("katago_cache_max_size_bytes", {}),
    ("katago_cache_entries", {}),
    ("katago_rate_limited_total", {}),
    ("katago_mcp_build_info", {"version": "1.2.3", "release": "none"}),
    ("process_resident_memory_bytes", {}),
]


@pytest.mark.parametrize(("name", "labels"), CONTRACT)
def test_every_series_exists_from_the_start(name: str, labels: dict[str, str]) -> None:
    registry = Metrics("1.2.3", None).registry
    assert registry.get_sample_value(name, labels) is not None


def test_exactly_one_state_is_shown() -> None:
    metrics = Metrics("1", None)
    for current in STATES:
        metrics.engine_state(current)
        shown = {
            state: metrics.registry.get_sample_value("katago_engine_state", {"state": state})
            for state in STATES
        }
        assert shown == {state: float(state == current) for state in STATES}
        up = metrics.registry.get_sample_value("katago_engine_up")
        assert up == float(current == "ready")


def test_the_hit_rate_is_unknown_before_the_first_lookup() -> None:
    rate = Metrics("1", None).registry.get_sample_value("katago_cache_hit_rate")
    assert rate is not None
    assert math.isnan(rate)


def test_the_hit_rate_counts_hits_among_lookups() -> None:
    metrics = Metrics("1", None)
    for hit in (True, False, True, True):
        metrics.cache_lookup(hit=hit)
    assert metrics.registry.get_sample_value("katago_cache_hit_rate") == 0.75


def test_lookups_of_probes_are_neither_hits_nor_misses() -> None:
    metrics = Metrics("1", None)

    def value(name: str) -> float | None:
        return metrics.registry.get_sample_value(f"katago_cache_{name}")

    def probe() -> None:
        probing.set(True)
        for hit in (True, False, False):
            metrics.cache_lookup(hit=hit)

    copy_context().run(probe)
    assert (value("hits_total"), value("misses_total"), value("probe_lookups_total")) == (0, 0, 3)
    assert math.isnan(value("hit_rate") or 0)
    metrics.cache_lookup(hit=True)
    assert (value("hit_rate"), value("probe_lookups_total")) == (1, 3)


def test_the_release_is_a_label() -> None:
    text = generate_latest(Metrics("1", "1.0-abc").registry).decode()
    assert 'katago_mcp_build_info{release="1.0-abc",version="1"} 1.0' in text
