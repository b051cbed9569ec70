"""Parsing Prometheus' text exposition format."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ansible_collections.katago.fleet.plugins.module_utils.common import prometheus


def test_agrees_with_the_reference_implementation() -> None:
    registry = CollectorRegistry()
    Gauge("katago_engine_up", "1 while the engine answers", registry=registry).set(0)
    requests = Counter("katago_requests", "Requests", ["tool", "status"], registry=registry)
    requests.labels("analyzePosition", 'a "quoted"\\\nvalue').inc(3)
    Histogram("seconds", "Durations", buckets=[0.1], registry=registry).observe(5)
    scrape = prometheus.parse(generate_latest(registry).decode())
    assert scrape.value("katago_engine_up") == 0
    assert scrape.value("katago_requests_total", tool="analyzePosition", status='a "quoted"\\\nvalue') == 3
    assert scrape.value("seconds_bucket", le="0.1") == 0
    assert scrape.value("seconds_bucket", le="+Inf") == 1


def test_nan_and_missing_series_are_none() -> None:
    scrape = prometheus.parse("rate NaN\n")
    assert scrape.value("rate") is None
    assert scrape.value("other") is None


def test_line_that_is_no_sample_is_an_error() -> None:
    with pytest.raises(ValueError, match="line 2"):
        prometheus.parse("up 1\n<html>it works</html>\n")
