"""The prober's record shows an outage from outside: its length, its failed calls, and lost sessions."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import pacing, prober, probing
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.client import GENERATIONS, Target
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.prober import Order, Outage
from tests import mcp_service
from tests.mcp_service import Service

PATIENCE = 60.0


@pytest.fixture
def service() -> Iterator[Service]:
    with mcp_service.serving() as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "probes.jsonl"
    yield path
    if running := prober.running(path):
        running.stop()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def outcomes(path: Path) -> list[str]:
    return [call["outcome"] for call in prober.calls(path)]


def order(*targets: Target, **changes: Any) -> Order:
    return replace(Order(targets, token="a-token", interval=0.02, deadline=PATIENCE), **changes)


def test_prober_calls_in_both_generations_until_it_is_stopped(service: Service, path: Path) -> None:
    running = prober.start(order(service.target), path)
    until(lambda: len(service.calls) > 20)
    running.stop()
    calls = list(prober.calls(path))
    assert {call["generation"] for call in calls} == set(GENERATIONS)
    assert {call["outcome"] for call in calls} == {"ok"}
    assert len(calls) == len(service.calls)
    assert prober.running(path) is None
    # The prober does not wait long for the end of its sessions.
    until(lambda: len(service.ended) == service.opened)
    assert prober.summary(path) == {
        "interval": prober.INTERVAL_SECONDS,
        "requests": len(calls),
        "failed": 0,
        "sessions": service.opened,
        "sessions_lost": 0,
    }
    assert all(headers["Authorization"] == "Bearer a-token" for headers, _ in service.requests)


def call_in_steps(
    ordered: Order, path: Path, monkeypatch: pytest.MonkeyPatch, *steps: tuple[Callable[[], object], int]
) -> None:
    """Run the prober here. Each step does something, then lets so many calls happen one after the other.

    On a busy machine, calls at fixed times overlap, and those of a client may each open a session.
    """

    def ticks(*_: object) -> Iterator[None]:
        for act, count in steps:
            act()
            for _call in range(count):
                before = len(outcomes(path))
                yield
                until(lambda: len(outcomes(path)) > before)  # noqa: B023 (called at once)

    monkeypatch.setattr(pacing, "ticks", ticks)
    probing.Prober(ordered, probing.Record(path)).run()


def test_prober_calls_in_turn_and_has_as_many_sessions_as_ordered(
    service: Service, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_in_steps(order(service.target), path, monkeypatch, (lambda: None, 24))
    calls = list(prober.calls(path))
    assert {call["outcome"] for call in calls} == {"ok"}
    assert [call["generation"] for call in calls] == [*GENERATIONS] * 12
    # Of both generations, every fifth call is an analysis.
    for generation in GENERATIONS:
        tools = [call["tool"] for call in calls if call["generation"] == generation]
        assert tools[:6] == ["analyzePosition", *["getEngineStatus"] * 4, "analyzePosition"]
    until(lambda: len(service.ended) == order().sessions)
    assert service.opened == prober.summary(path)["sessions"] == order().sessions


def test_token_is_in_no_command_line_and_no_record(service: Service, path: Path) -> None:
    running = prober.start(order(service.target, token="do-not-show"), path)
    until(lambda: len(service.calls) > 2)
    process = Path(f"/proc/{running.pid}")
    assert b"do-not-show" not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    running.stop()
    assert "do-not-show" not in path.read_text() + repr(order(service.target, token="do-not-show"))
    assert path.stat().st_mode & 0o777 == 0o600


def test_prober_is_found_and_stopped_by_another_process(service: Service, path: Path) -> None:
    started = prober.start(order(service.target), path)
    found = prober.running(path)
    assert found == started
    assert os.getsid(started.pid) == started.pid
    found.stop()
    assert prober.running(path) is None
    # Stopping twice is no error.
    found.stop()


def test_second_prober_for_a_record_is_refused(service: Service, path: Path) -> None:
    running = prober.start(order(service.target), path)
    with pytest.raises(prober.ProberError, match=f"stop that one first .PID {running.pid}"):
        prober.start(order(service.target), path)
    assert prober.running(path) == running


def test_prober_that_cannot_write_its_record_does_not_start(service: Service, tmp_path: Path) -> None:
    with pytest.raises(prober.ProberError, match="No such file or directory"):
        prober.start(order(service.target), tmp_path / "none" / "probes.jsonl")


def test_prober_that_nobody_stops_ends(service: Service, path: Path) -> None:
    prober.start(order(service.target, seconds=0.2), path)
    until(lambda: prober.running(path) is None)
    assert set(outcomes(path)) == {"ok"}


def test_server_that_hangs_delays_no_other_call(service: Service, path: Path) -> None:
    """While one of two services hangs, the other one is called as often as before."""
    with mcp_service.serving() as other:
        targets = (service.target, replace(other.target, name="other"))
        # More than are called meanwhile, however slow the machine is.
        running = prober.start(order(*targets, most_running=10_000), path)
        service.fault = "hang"
        until(lambda: len(service.calls) > 5)
        before = len(other.calls)
        until(lambda: len(other.calls) > before + 20)
        service.close()
        running.stop()
    seen = {(call["target"], call["outcome"]) for call in prober.calls(path)}
    assert ("other", "ok") in seen
    assert {outcome for target, outcome in seen if target == "other"} == {"ok"}


def test_call_beyond_the_limit_is_recorded_as_not_started(service: Service, path: Path) -> None:
    service.fault = "hang"
    running = prober.start(order(service.target, most_running=3), path)
    # A call counts as running while its session is opened, before it arrives.
    until(lambda: "not_started" in outcomes(path) and len(service.calls) == 3)
    service.close()
    running.stop()
    skipped = [call for call in prober.calls(path) if call["outcome"] == "not_started"]
    assert skipped[0]["reason"] == "3 calls were running, which is the limit"
    assert prober.summary(path)["failed"] >= len(skipped)
    assert len(service.calls) == 3


def test_outage_and_lost_sessions_are_measured(
    service: Service, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        service.fault = 503
        service.sessions.clear()

    def recover() -> None:
        service.fault = ""

    steps = (lambda: None, 10), (fail, 20), (recover, 20)
    call_in_steps(order(service.target), path, monkeypatch, *steps)
    calls = list(prober.calls(path))
    failed = [call["outcome"] != "ok" for call in calls]
    assert failed == [False] * 10 + [True] * 20 + [False] * 20
    assert [call["session_lost"] for call in calls].index(True) == 10
    # It ends when each tool, of which both failed, has answered again.
    tools = [call["tool"] for call in calls]
    end = 30 + max(tools[30:].index(tool) for tool in set(tools))
    assert prober.outages(path) == [Outage(calls[10]["monotonic"], calls[end]["monotonic"], 20)]
    summary = prober.summary(path)
    assert summary["failed"] == 20
    assert summary["sessions_lost"] == order().sessions
    assert summary["sessions"] == service.opened == 2 * order().sessions


def line(at: float, outcome: str = "ok", tool: str = "getEngineStatus") -> str:
    call = {
        "time": 1e9 + at,
        "monotonic": at,
        "seconds": 0.1,
        "target": "a",
        "generation": "stateless",
        "tool": tool,
        "outcome": outcome,
        "status": None,
        "session": 0,
        "session_lost": False,
    }
    return json.dumps(call) + "\n"


def record(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "probes.jsonl"
    path.write_text("".join(lines))
    return path


def test_outages_that_are_close_together_are_one(tmp_path: Path) -> None:
    """A load balancer that sends every third call to a broken host is one outage, not many."""
    lines = [line(at / 10, "broken" if at % 3 == 0 and 10 <= at < 20 else "ok") for at in range(60)]
    assert prober.outages(record(tmp_path, *lines)) == [Outage(1.2, 1.9, 3)]
    assert [outage.failed for outage in prober.outages(record(tmp_path, *lines), quiet=0.1)] == [1, 1, 1]


def test_calls_count_from_their_start_not_their_end(tmp_path: Path) -> None:
    """A call that hung until its deadline is recorded after calls that started later."""
    lines = [line(0.0), line(0.2), line(0.3), line(0.1, "timeout")]
    assert prober.outages(record(tmp_path, *lines)) == [Outage(0.1, 0.2, 1)]


def test_engine_that_answers_wrong_is_down_until_an_answer_is_right(tmp_path: Path) -> None:
    lines = [line(at / 10) for at in range(60)]
    wrong = [line(0.05 + at, "wrong" if 1 <= at < 3 else "ok", "analyzePosition") for at in range(6)]
    assert prober.outages(record(tmp_path, *lines, *wrong)) == [Outage(1.05, 3.05, 2)]


def test_outages_that_overlap_are_one(tmp_path: Path) -> None:
    lines = [line(0, "broken"), line(2), line(1, "wrong", "analyzePosition")]
    assert prober.outages(record(tmp_path, *lines)) == [Outage(0, None, 2)]
    more = line(1.5, "ok", "analyzePosition")
    assert prober.outages(record(tmp_path, *lines, more)) == [Outage(0, 2, 2)]


def test_outage_that_lasts_has_no_end(tmp_path: Path) -> None:
    path = record(tmp_path, line(0), line(1, "connect"), line(2, "connect"))
    assert prober.outages(path) == [Outage(1, None, 2)]
    assert prober.outages(path, since=2) == [Outage(2, None, 1)]


def test_line_that_a_killed_prober_left_incomplete_is_skipped(tmp_path: Path) -> None:
    path = record(tmp_path, line(0), line(1)[:40])
    assert prober.summary(path)["requests"] == 1


def test_damaged_record_is_refused(tmp_path: Path) -> None:
    path = record(tmp_path, line(0), "{}\n")
    with pytest.raises(prober.ProberError, match="line 2"):
        prober.summary(path)
