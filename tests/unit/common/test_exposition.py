"""Writing the exposition format."""

from __future__ import annotations

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import prometheus
from ansible_collections.katago.fleet.plugins.module_utils.common.exposition import Metric, Samples

METRICS = (
    Metric("katago_a", "First."),
    Metric("katago_b", "Second.", ("unit", "kind")),
    Metric("katago_c", "Third."),
)


def test_samples_are_read_back_with_their_labels() -> None:
    samples = Samples(METRICS)
    unit = 'a "quoted" \\ text\nof two lines'
    samples.add("katago_b", 1764435600.25, unit=unit, kind="x")
    samples.add("katago_a", True)
    scrape = prometheus.parse(samples.text())
    assert scrape.value("katago_b", unit=unit, kind="x") == 1764435600.25
    assert scrape.value("katago_a") == 1


def test_metric_without_a_sample_is_declared() -> None:
    assert "# HELP katago_c Third.\n# TYPE katago_c gauge\n" in Samples(METRICS).text()


def test_undeclared_names_and_labels_are_errors() -> None:
    samples = Samples(METRICS)
    with pytest.raises(KeyError):
        samples.add("katago_d", 1)
    with pytest.raises(ValueError, match="katago_b has the labels"):
        samples.add("katago_b", 1, unit="x")
