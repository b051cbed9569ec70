"""The load generator: what it calls, what it reports, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import (
    background,
    generator,
    load_page,
    load_table,
    pacing,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.generator import Generator
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.load import REPORT, Order, Report
from tests import mcp_service
from tests.mcp_service import Service

PATIENCE = 60.0


@pytest.fixture
def service() -> Iterator[Service]:
    with mcp_service.serving() as running:
        yield running


@pytest.fixture(autouse=True)
def every_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have calls at a rate made up for, however long this process could not run."""
    monkeypatch.setattr(pacing, "_LONGEST_DELAY", PATIENCE)


def order(service: Service, **changes: Any) -> Order:
    return replace(Order((service.target,), token="do-not-show", seconds=1.0, deadline=PATIENCE), **changes)


def run(ordered: Order) -> Report:
    generator = Generator(ordered)
    generator.run()
    return generator.report()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_clients_call_in_both_generations(service: Service) -> None:
    running = Generator(order(service, clients=4, seconds=PATIENCE))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    until(
        lambda: len(service.calls) > 8 and service.opened == 2 and len(running.report()["generations"]) == 2
    )
    running.stop("done", "enough")
    thread.join()
    report = running.report()
    assert report["total"]["calls"] == len(service.calls)
    assert report["total"]["failed"] == {}
    assert report["generations"].keys() == {"session", "stateless"}
    assert (report["total"]["sessions"], service.opened) == (2, 2)
    # Nothing is left open on the service. The generator does not wait long for the end of its sessions.
    until(lambda: service.sessions == set())
    positions = [json.dumps(call["params"]["arguments"]) for call in service.calls]
    assert len(set(positions)) == len(positions)


@pytest.mark.parametrize(("percent", "used"), [(0, {"stateless"}), (100, {"session"})])
def test_mix_of_generations_can_be_chosen(service: Service, percent: int, used: set[str]) -> None:
    report = run(order(service, session_percent=percent, rate=40.0))
    assert (set(report["generations"]), report["ended"]) == (used, "done")


def test_rate_is_kept_by_a_service_that_is_slow(service: Service) -> None:
    """Calls start at fixed times, so their number does not depend on how fast the service answers."""
    service.fault = "slow"
    report = run(order(service, rate=30.0, session_percent=0))
    assert report["total"]["calls"] in range(27, 32)
    assert (report["total"]["latency"]["median"] or 0) >= mcp_service.SLOW_SECONDS


def test_every_target_gets_both_generations(service: Service) -> None:
    with mcp_service.serving() as other:
        targets = (service.target, replace(other.target, name="katago-2"))
        report = run(order(service, targets=targets, rate=40.0))
        assert report["hosts"].keys() == {"katago-1", "katago-2"}
        for each in (service, other):
            assert {"Mcp-Session-Id" in headers for headers, _ in each.requests} == {True, False}


def test_failures_are_counted_by_kind_with_a_reason(service: Service) -> None:
    service.fault = 503
    report = run(order(service, overload_seconds=PATIENCE))
    assert report["total"]["failed"] == {"unavailable": report["total"]["calls"]}
    assert report["reasons"]["unavailable"].startswith("HTTP 503")
    # Clients whose calls fail wait, and do not call thousands of times a second.
    assert report["total"]["calls"] <= 4 * (report["seconds"] / generator._RETRY_SECONDS + 2)


def test_run_ends_when_the_service_reports_overload(service: Service) -> None:
    service.fault = "overloaded"
    report = run(order(service, seconds=PATIENCE, overload_seconds=1.0))
    assert (report["ended"], report["reason"]) == ("overload", "the service reported overload for 1 s")
    assert report["seconds"] < PATIENCE


def test_interruption_does_not_wait_for_a_call_that_hangs(service: Service) -> None:
    service.fault = "hang"
    running = Generator(order(service, seconds=600.0, deadline=600.0))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    until(lambda: len(service.calls) == 4)
    running.stop("interrupted", "interrupted")
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert running.report()["ended"] == "interrupted"


@pytest.fixture
def report(service: Service) -> Report:
    service.host = "katago-2"
    made = run(order(service))
    made["hosts"]["<katago-3>"] = made["hosts"]["katago-2"]
    made["total"]["failed"] = {"timeout": 3}
    made["reasons"] = {"timeout": "no answer in time: <b>5 s</b>"}
    return made


def test_table_has_generations_hosts_failures_and_charts(report: Report) -> None:
    text = load_table.render(report)
    for expected in ("session (2025-11-25)", "stateless (2026-07-28)", "katago-2", "MEDIAN", "calls/s", "█"):
        assert expected in text
    assert "failed: 3 no answer in time, first: <b>5 s</b>" in text
    assert "do-not-show" not in text + json.dumps(report)


def test_page_loads_nothing_and_escapes_what_services_send(report: Report) -> None:
    page = load_page.render(report)
    assert page.count("<svg") == 2
    assert "&lt;b&gt;5 s&lt;/b&gt;" in page
    assert "&lt;katago-3&gt;" in page
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in page
    assert "prefers-color-scheme:dark" in page
    assert "<script" not in page


def test_report_without_a_call_is_rendered(service: Service) -> None:
    empty = Generator(order(service)).report()
    assert "still running" in load_table.render(empty)
    assert "<svg" not in load_page.render(empty)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0012, "1.2 ms"),
        (0.25, "250 ms"),
        (1.234, "1.23 s"),
        (12.34, "12.3 s"),
        (123.4, "123 s"),
    ],
)
def test_durations_have_three_digits(seconds: float | None, text: str) -> None:
    assert load_table.duration(seconds) == text


def test_small_values_are_not_drawn_as_nothing() -> None:
    assert load_table.sparkline([0, 1, 1000]) == " ▁█"
    assert load_table.sparkline([0, 0]) == "  "


def test_program_writes_its_report_and_keeps_the_token_to_itself(service: Service, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("json", "html", "text")}
    arguments = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    with background.attached("loading", arguments) as (orders, output):
        orders.write(f"{order(service).as_json()}\n")
        orders.flush()
        lines = output.read().splitlines()
    assert lines[-1].startswith(REPORT)
    assert json.loads(files["json"].read_text()) == json.loads(lines[-1].removeprefix(REPORT))
    # A slow run has printed lines about its progress before.
    table = files["text"].read_text().splitlines()
    assert table == lines[:-1][-len(table) :]
    assert "</html>" in files["html"].read_text()
    assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o600}
    assert "do-not-show" not in "".join(path.read_text() for path in files.values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, None])
def test_program_ends_with_its_report_on_a_signal_or_with_its_parent(
    service: Service, tmp_path: Path, number: int | None
) -> None:
    path = tmp_path / "report.json"
    process = subprocess.Popen(
        background.argv("loading", ["--json", str(path)]),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=background.environment(),
    )
    assert process.stdin is not None
    process.stdin.write(f"{order(service, seconds=600.0).as_json()}\n".encode())
    process.stdin.flush()
    until(lambda: len(service.calls) > 5)
    if number is None:
        process.stdin.close()
    else:
        process.send_signal(number)
    assert process.wait(PATIENCE) == 0
    report = json.loads(path.read_text())
    assert (report["ended"], report["total"]["calls"] > 0) == ("interrupted", True)
    process.stdin.close()


def test_report_that_cannot_be_written_is_refused_before_the_first_call(
    service: Service, tmp_path: Path
) -> None:
    path = tmp_path / "missing" / "report.json"
    with background.attached("loading", ["--json", str(path)]) as (orders, output):
        orders.write(f"{order(service).as_json()}\n")
        orders.flush()
        assert str(path.parent) in output.read()
    assert service.requests == []
