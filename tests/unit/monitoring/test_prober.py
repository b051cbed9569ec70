"""The prober: right, wrong and missing answers of a service, as an outside client sees them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import prometheus, workers
from ansible_collections.katago.fleet.plugins.module_utils.monitoring import prober

RIGHT = {"scoreLead": 60.0, "winrate": 0.99, "visits": 8, "moves": [{"move": "E1"}], "cached": False}
NOW = 1764435600.0
PATIENCE = 60.0


class Service(ThreadingHTTPServer):
    """Stands for the service. `answer`: the result of each call, or the status of an error."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: dict[str, Any] | int = {"structuredContent": RIGHT}
        self.streams = False
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def target(self) -> prober.Target:
        return prober.Target("katago-1", f"http://127.0.0.1:{self.server_port}/mcp", "go.example.org:8080")


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Service)
        length = int(self.headers["Content-Length"])
        self.server.requests.append((dict(self.headers), json.loads(self.rfile.read(length))))
        answer = self.server.answer
        if isinstance(answer, int):
            self.send_error(answer)
            return
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": answer})
        if self.server.streams:
            progress = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress"})
            body = f"event: message\ndata: {progress}\n\nevent: message\ndata: {body}\n\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if self.server.streams else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *arguments: object) -> None:
        del format, arguments


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.shutdown()
    service.server_close()


def test_right_answer_has_no_problem(service: Service) -> None:
    result = prober.probe(service.target, "secret", 0, PATIENCE)
    assert result["problems"] == []
    assert 0 < result["seconds"] < PATIENCE
    headers, message = service.requests[0]
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Host"] == "go.example.org:8080"
    # The server does not count it as traffic of the cache.
    assert headers["katago-probe"] == "1"
    assert message["params"]["name"] == "analyzePosition"


def test_answer_at_the_end_of_a_stream_is_read(service: Service) -> None:
    service.streams = True
    assert prober.probe(service.target, "", 0, PATIENCE)["problems"] == []


def test_wrong_winner_is_a_problem(service: Service) -> None:
    service.answer = {"structuredContent": {**RIGHT, "winrate": 0.01, "scoreLead": -60.0}}
    assert "winrate 0.010" in prober.probe(service.target, "", 0, PATIENCE)["problems"][0]


def test_fewer_visits_because_of_an_override_are_no_problem(service: Service) -> None:
    service.answer = {"structuredContent": {**RIGHT, "visits": 1}}
    assert prober.probe(service.target, "", 0, PATIENCE)["problems"] == []


@pytest.mark.parametrize(
    "answer", [503, {"isError": True, "content": [{"type": "text", "text": "overloaded"}]}]
)
def test_error_is_no_answer(service: Service, answer: Any) -> None:
    service.answer = answer
    with pytest.raises(workers.NoResult, match="katago-1"):
        prober.probe(service.target, "", 0, PATIENCE)


def test_service_that_does_not_listen_is_no_answer(service: Service) -> None:
    target = replace(service.target, url="http://127.0.0.1:1/mcp")
    with pytest.raises(workers.NoResult, match="does not answer"):
        prober.probe(target, "", 0, PATIENCE)


def order(*hosts: str) -> prober.Order:
    targets = tuple(prober.Target(host, "http://127.0.0.1:1/mcp") for host in hosts)
    return prober.Order("mon-1", 0, 30.0, 20.0, targets)


def scraped(entries: dict[str, workers.Entry], durations: dict[str, float]) -> prometheus.Scrape:
    return prometheus.parse(prober.exposition(order("a", "b"), entries, durations, NOW))


def test_unknown_answer_is_neither_right_nor_wrong() -> None:
    entries: dict[str, workers.Entry] = {
        "a": {"value": {"seconds": 0.5, "problems": ["winrate 0.010"]}},
        "b": {"unknown": "no answer"},
    }
    text = prober.exposition(order("a", "b"), entries, {"a": 0.5}, NOW)
    scrape = prometheus.parse(text)
    a, b = ({"host": host, "prober": "mon-1"} for host in ("a", "b"))
    assert scrape.value("katago_probe_success", **a) == 1
    assert scrape.value("katago_probe_correct", **a) == 0
    assert scrape.value("katago_probe_success", **b) == 0
    assert math.isnan(scrape.samples["katago_probe_correct", frozenset(b.items())])
    assert scrape.value("katago_probe_duration_seconds", **b) is None


def test_last_duration_stays_while_a_service_does_not_answer() -> None:
    scrape = scraped({"a": {"unknown": "no answer"}, "b": {"unknown": "no answer"}}, {"a": 0.5})
    assert scrape.value("katago_probe_duration_seconds", host="a", prober="mon-1") == 0.5
    assert scrape.value("katago_probe_timestamp_seconds", prober="mon-1") == NOW


def test_journal_has_only_what_changed() -> None:
    before = {"a": "answers correctly", "b": "no answer"}
    assert prober.changes(before, {"a": "answers correctly", "b": "answers correctly"}) == [
        "b: answers correctly"
    ]
    assert prober.changes({}, before) == ["a: answers correctly", "b: no answer"]


def test_round_calls_all_targets_at_once(service: Service) -> None:
    silent = prober.Target("b", "http://127.0.0.1:1/mcp")
    entries = prober.round_of(prober.Order("m", 0, 30.0, PATIENCE, (service.target, silent)), "")
    assert entries["katago-1"]["value"]["problems"] == []
    assert "does not answer" in entries["b"]["unknown"]


def test_rounds_leave_no_processes(service: Service) -> None:
    def children() -> set[str]:
        own = f"PPid:\t{os.getpid()}\n"
        found = set()
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                found |= {status.parent.name} if own in status.read_text() else set()
        return found

    before = children()
    targets = tuple(replace(service.target, host=name) for name in "abc")
    for _ in range(5):
        prober.round_of(prober.Order("m", 0, 30.0, PATIENCE, targets), "")
    # A killed check may exit after its round. A later round reaps it.
    end = time.monotonic() + PATIENCE
    while (left := children() - before) and time.monotonic() < end:
        time.sleep(0.1)
        prober.round_of(prober.Order("m", 0, 30.0, PATIENCE, ()), "")
    assert left == set()


def test_metrics_are_served_on_loopback() -> None:
    exporter = prober.Exporter(0, "katago_x 1\n")
    exporter.text = "katago_x 2\n"
    host, port = exporter.server.server_address[:2]
    assert host == "127.0.0.1"
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        assert answer.read() == b"katago_x 2\n"
    exporter.server.shutdown()
    exporter.server.server_close()
