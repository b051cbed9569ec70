"""The sampler on its host: the files that it writes, and what it measures of a service."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import files
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import endpoints
from ansible_collections.katago.fleet.plugins.module_utils.triage import baseline
from ansible_collections.katago.fleet.plugins.module_utils.watch import sampler, samples
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer import zipapps

TERMS = samples.Terms(minutes=1, interval=1, patience=3)
ORDER = {"terms": vars(TERMS), "who": "anna", "incident": "i-1", "root": "/opt/katago-mcp"}


@pytest.fixture
def place(tmp_path: Path) -> dict[str, Path]:
    """The paths of the files on a host without a watch."""
    return {"order_file": tmp_path / "lib" / "order.json", "file": tmp_path / "run" / "samples.jsonl"}


def test_order_is_written_and_the_file_of_samples_starts_with_it(place: dict[str, Path]) -> None:
    sampler.start_watch(ORDER, rebooted=False, **place)
    assert json.loads(place["order_file"].read_text()) == ORDER
    found = sampler.read_samples(place["file"])
    assert found is not None
    assert (found.terms, found.who, found.incident, found.rebooted) == (TERMS, "anna", "i-1", False)
    assert [path.stat().st_mode & 0o777 for path in place.values()] == [0o600, 0o600]


def test_new_order_removes_the_previous_samples(place: dict[str, Path]) -> None:
    for _ in range(2):
        sampler.start_watch(ORDER, rebooted=False, **place)
        over = {"event": "over", "why": "x"}
        files.append_events(place["file"], over, at="2026-01-31T03:00:00Z", who="sampler")
    sampler.start_watch(ORDER, rebooted=True, **place)
    found = sampler.read_samples(place["file"])
    assert found is not None
    assert (found.rebooted, found.over) == (True, "")


def test_order_is_removed_if_samples_cannot_be_written(
    place: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "append_events", full)
    with pytest.raises(OSError, match="No space left"):
        sampler.start_watch(ORDER, rebooted=False, **place)
    assert not place["order_file"].exists()
    # The sampler can finish anyway.
    place["order_file"].write_text("{}")
    sampler.finish("the window is complete", **place)
    assert not place["order_file"].exists()


def test_sample_of_a_host_without_a_service_is_a_breach(
    tmp_path: Path, place: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a listening service or a release, every fact has an entry and the verdict is a breach."""
    monkeypatch.setattr(
        endpoints.Endpoints, "of_release", lambda _: endpoints.Endpoints(port=1, metrics_port=1)
    )
    sampler.start_watch(ORDER, rebooted=False, **place)
    verdict = sampler.step(TERMS, release_layout.Layout(tmp_path), place["file"])
    found = sampler.read_samples(place["file"])
    assert found is not None
    (taken,) = found.samples
    assert {"unit", "health", "ready", "release", "baseline", "validation", "metrics"} <= {
        *taken.facts.values,
        *taken.facts.unknown,
    }
    assert taken.facts.malformed == frozenset()
    assert taken.facts.values["health"]["status"] is None
    assert taken.facts.values["metrics"]["served"] is False
    assert verdict.verdict == "breached"


def test_baseline_of_a_sample_has_the_allowed_number_of_visits(
    tmp_path: Path,
) -> None:
    release = tmp_path / "releases" / "r"
    release.mkdir(parents=True)
    (release / "config.json").write_text('{"katago": {"maxVisits": 20}}')
    (tmp_path / "current").symlink_to("releases/r")
    layout = release_layout.Layout(tmp_path)
    assert sampler.baseline(layout, 32, tmp_path / "none")["identity"] == baseline.identity(None, 20)
    assert sampler.baseline(layout, 8, tmp_path / "none")["identity"] == baseline.identity(None, 8)


def test_sample_has_the_spread_of_the_baseline(tmp_path: Path) -> None:
    release = tmp_path / "releases" / "r"
    release.mkdir(parents=True)
    (release / "config.json").write_text('{"katago": {"maxVisits": 1000}}')
    (tmp_path / "current").symlink_to("releases/r")
    layout, recorded = release_layout.Layout(tmp_path), tmp_path / "baseline.json"
    figures = {"median_seconds": 1.0, "slowest_seconds": 1.5, "spread_seconds": 0.1}
    recorded.write_text(json.dumps({**figures, "version": "0.3.0"}))
    assert sampler.baseline(layout, 32, recorded)["found"] == figures
    recorded.write_text('{"median_seconds": 1.0}')
    assert sampler.baseline(layout, 32, recorded)["found"] == {"median_seconds": 1.0}


class Exposed(endpoints.Endpoints):
    """A service with a fixed text as its metrics."""

    text: str | None = None

    def exposed(self, seconds: float = 0) -> str | None:
        return self.text


def scraped(text: str | None) -> dict[str, Any]:
    served = Exposed()
    object.__setattr__(served, "text", text)
    return sampler.metrics(served, 1)


METRICS = """\
katago_requests_total{tool="a",status="ok"} 3
katago_requests_total{tool="b",status="ok"} 4
katago_requests_total{tool="a",status="error"} 1
katago_engine_up 1
katago_engine_restarts_total{reason="crashed"} 2
katago_engine_restarts_total{reason="requested"} 1
katago_cache_errors_total 0
"""


def test_metrics_are_totals_and_nan_is_none() -> None:
    assert scraped(METRICS) == {
        "served": True,
        "requests": {"ok": 7.0, "error": 1.0},
        "engine_up": 1.0,
        "engine_restarts": 3.0,
        "cache_errors": 0.0,
    }
    nan = scraped(METRICS.replace(" 1\n", " NaN\n"))
    assert (nan["requests"], nan["engine_up"], nan["engine_restarts"]) == (None, None, None)
    assert scraped("katago_engine_up 1\n")["engine_restarts"] == 0


@pytest.mark.parametrize("text", [None, "<html>"])
def test_unusable_metrics_are_not_served(text: str | None) -> None:
    assert scraped(text)["served"] is False


def test_body_of_an_answer_is_shortened_and_filtered() -> None:
    answer = {"status": 200, "body": {"status": "x" * 9999, "secret": "s", "ready": True, "reason": None}}
    kept = sampler.short(answer, "status", "ready", "reason")
    assert kept["body"] == {"status": "x" * 200, "ready": True, "reason": None}


def test_clock_is_monotonic() -> None:
    before = sampler.now()
    assert math.isfinite(before)
    assert sampler.now() >= before


def test_program_contains_all_its_imports() -> None:
    assert {"watch.window", "triage.rules_traffic", "service.metrics", "service.observe"} <= zipapps.needed(
        "watch.sampler"
    )
    assert zipapps.pack("watch.sampler") == zipapps.pack("watch.sampler")


def test_recovery_is_concluded_from_counters_and_not_from_a_journal_that_may_keep_nothing() -> None:
    """Everything that the program reads of a journal is in this module."""
    assert "service.journal_view" not in zipapps.needed("watch.sampler")


def test_unit_is_sandboxed() -> None:
    unit = sampler.unit()
    for line in (
        f"ConditionPathExists={paths.WATCH_ORDER}",
        "RuntimeDirectoryPreserve=yes",
        "ProtectSystem=strict",
    ):
        assert line in unit
