"""The running service replaces its engine and clears its cache, and its reports are verified."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import disk
from ansible_collections.katago.fleet.plugins.module_utils.service import cache, unit
from ansible_collections.katago.fleet.plugins.modules import cache_purge

TOKEN = "token-of-the-host"
SOUND = cache.Report(ok=True, entries=3, bytes=70, problems=[])


class FakeService:
    """A service with a cache and an engine, over HTTP; tests can change its behaviour."""

    def __init__(self) -> None:
        self.entries = 3
        self.pid, self.next_pid, self.state = 100, 101, "ready"
        self.clear: Callable[[], tuple[int, dict[str, Any]]] = self.cleared
        self.requests: list[tuple[str, str | None]] = []

    def cleared(self) -> tuple[int, dict[str, Any]]:
        before, self.entries = self.entries, 0
        return 200, {"before": {"entries": before, "bytes": 70}, "after": {"entries": 0, "bytes": 0}}

    def answer(self, path: str) -> tuple[int, object]:
        if path == "/health":
            return 200, {"engine": {"state": self.state, "pid": self.pid, "reason": None}}
        if path == "/metrics":
            return 200, f"katago_cache_entries {self.entries}\nkatago_cache_size_bytes {self.entries * 9}\n"
        if path == "/admin/engine/restart":
            before, self.pid = self.pid, self.next_pid
            return 202, {"before": {"pid": before}}
        return self.clear()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    (tmp_path / paths.OPERATOR_TOKEN).write_text(f"{TOKEN}\n")
    monkeypatch.setattr(paths, "CREDENTIALS", tmp_path)
    monkeypatch.setattr(unit, "processes", lambda _: [{"pid": 101, "name": "katago"}])
    monkeypatch.setattr(unit, "control_group", lambda: "system.slice/katago-mcp.service")
    monkeypatch.setattr(cache, "verified", lambda *_: SOUND)
    monkeypatch.setattr(cache_purge, "POLL_SECONDS", 0.01)
    yield FakeService()


@pytest.fixture
def config(fake: FakeService) -> Iterator[dict[str, Any]]:
    """The configuration that leads to `fake`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.requests.append((self.path, self.headers.get("Authorization")))
            status, body = fake.answer(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = {"host": "127.0.0.1", "port": server.server_address[1]}
        yield {"server": where, "metrics": where}
        server.shutdown()


def purge(config: dict[str, Any], *, engine: bool = True, check_mode: bool = False) -> dict[str, Any]:
    parameters = {"user": "katago-mcp", "engine": engine, "deadline": 0.1, "start_deadline": 0.1}
    return cache_purge.purge(config, parameters, check_mode=check_mode)


def test_engine_is_replaced_before_the_cache_is_cleared(config: dict[str, Any], fake: FakeService) -> None:
    result = purge(config)
    assert result["cleared"]
    assert (result["problem"], result["engine_problem"]) == (None, None)
    assert result["message"] == "The engine 101 replaced 100. The cache was cleared: 3 answers, 70 bytes."
    orders = [path for path, _ in fake.requests if path.startswith("/admin")]
    assert orders == ["/admin/engine/restart", "/admin/cache/clear"]


def test_admin_requests_have_the_hosts_own_token(config: dict[str, Any], fake: FakeService) -> None:
    purge(config)
    assert {token for path, token in fake.requests if path.startswith("/admin")} == {f"Bearer {TOKEN}"}
    assert {token for path, token in fake.requests if not path.startswith("/admin")} == {None}


def test_engine_stays_on_request(config: dict[str, Any], fake: FakeService) -> None:
    assert purge(config, engine=False)["cleared"]
    assert fake.pid == 100


def test_check_mode_makes_no_admin_request(config: dict[str, Any], fake: FakeService) -> None:
    result = purge(config, check_mode=True)
    assert result["cleared"]
    assert (
        result["message"] == "The cache would be cleared: 3 answers, 70 bytes. The engine would be replaced."
    )
    assert (fake.requests, fake.entries, fake.pid) == ([], 3, 100)


def test_damaged_cache_is_not_changed(
    config: dict[str, Any], fake: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = cache.Report(ok=False, entries=3, bytes=70, problems=["1 entries are damaged"])
    monkeypatch.setattr(cache, "verified", lambda *_: damaged)
    result = purge(config)
    assert not result["cleared"]
    assert result["problem"] == "the cache is damaged (1 entries are damaged)"
    assert (fake.requests, fake.entries) == ([], 3)


@pytest.mark.parametrize(
    ("state", "next_pid", "problem"),
    [
        ("ready", 100, r"no new engine instead of 100 was ready after [\d.]+ s \(state ready\)"),
        ("starting", 101, r"no new engine instead of 100 was ready after [\d.]+ s \(state starting\)"),
    ],
)
def test_engine_that_is_not_replaced_is_reported(
    config: dict[str, Any], fake: FakeService, state: str, next_pid: int, problem: str
) -> None:
    fake.state, fake.next_pid = state, next_pid
    result = purge(config)
    assert re.fullmatch(problem, result["engine_problem"])
    assert result["cleared"]


def test_engine_that_still_runs_beside_the_new_one_does_not_count_as_replaced(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit, "processes", lambda _: [{"pid": 100}, {"pid": 101}])
    assert purge(config)["engine_problem"].startswith("no new engine instead of 100 was ready")


def test_failed_request_is_reported(config: dict[str, Any], fake: FakeService) -> None:
    fake.clear = lambda: (500, {"message": "disk I/O error"})
    result = purge(config)
    assert not result["cleared"]
    assert result["problem"] == (
        "the service responded to the request to clear the cache with status 500 (disk I/O error)"
    )


def test_cache_that_is_only_reported_as_cleared_is_found(config: dict[str, Any], fake: FakeService) -> None:
    def pretended() -> tuple[int, dict[str, Any]]:
        return 200, {"before": {"entries": 3, "bytes": 70}, "after": {"entries": 0, "bytes": 0}}

    fake.clear = pretended
    result = purge(config)
    assert result["problem"] == (
        "the metrics still show 3 answers, 27 bytes after the service cleared 3 answers, 70 bytes"
    )


def test_cache_that_clients_refill_at_once_is_cleared_again(
    config: dict[str, Any], fake: FakeService
) -> None:
    answers = fake.cleared
    rounds = []

    def refilled() -> tuple[int, dict[str, Any]]:
        response = answers()
        rounds.append(response)
        fake.entries = 3 if len(rounds) == 1 else 0
        return response

    fake.clear = refilled
    assert purge(config)["cleared"]
    assert len(rounds) == 2


def test_service_that_does_not_respond_is_reported(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(config, "server", {"host": "127.0.0.1", "port": 1})
    result = purge(config)
    assert result["engine_problem"] == "the service did not respond to the request to replace the engine"
    assert result["problem"] == "the service did not respond to the request to clear the cache"


FULL = "/var/cache/katago-mcp cannot be written: No space left on device"


def make_room(config: dict[str, Any], *, down: str | None = None, check_mode: bool = False) -> dict[str, Any]:
    parameters = {"user": "katago-mcp", "engine": True, "deadline": 0.1, "start_deadline": 0.1}
    return cache_purge.make_room(config, parameters, FULL, down, check_mode=check_mode)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What still prevents writing once the cache was cleared; nothing unless a test adds it."""
    remaining: list[str] = []
    monkeypatch.setattr(disk, "obstacles", lambda **_: iter(remaining))
    return remaining


def test_full_disk_is_cleared_before_the_engine_is_replaced(
    config: dict[str, Any], fake: FakeService, room: list[str]
) -> None:
    result = make_room(config)
    assert (result["cleared"], result["engine_problem"]) == (True, None)
    assert result["message"] == "The cache was cleared: 3 answers, 70 bytes. The engine 101 replaced 100."
    orders = [path for path, _ in fake.requests if path.startswith("/admin")]
    assert orders == ["/admin/cache/clear", "/admin/engine/restart"]


def test_engine_is_not_replaced_on_a_disk_that_is_still_full(
    config: dict[str, Any], fake: FakeService, room: list[str]
) -> None:
    room.append(FULL)
    with pytest.raises(cache_purge.FullError) as full:
        make_room(config)
    assert str(full.value).startswith(
        f"The cache was cleared: 3 answers, 70 bytes. The disk still has no room: {FULL}. The service was not"
    )
    assert fake.pid == 100


def test_cache_of_a_service_that_is_down_is_cleared_without_it(
    monkeypatch: pytest.MonkeyPatch, room: list[str], fake: FakeService
) -> None:
    monkeypatch.setattr(cache, "clear_stopped", lambda *_: cache.Size(3, 70))
    assert make_room({}, down="the service is down") == {
        "cleared": True,
        "problem": None,
        "engine_problem": "the service is down",
        "message": "The cache was cleared: 3 answers, 70 bytes.",
    }


def test_damaged_cache_on_a_full_disk_is_kept(
    config: dict[str, Any], fake: FakeService, room: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = cache.Report(ok=False, entries=3, bytes=70, problems=["1 entries are damaged"])
    monkeypatch.setattr(cache, "verified", lambda *_: damaged)
    with pytest.raises(cache_purge.RefusedError, match="kept as evidence"):
        make_room(config)
    assert (fake.requests, fake.entries) == ([], 3)


def test_check_mode_clears_nothing_on_a_full_disk(
    config: dict[str, Any], fake: FakeService, room: list[str]
) -> None:
    assert make_room(config, check_mode=True)["message"] == "The cache would be cleared: 3 answers, 70 bytes."
    assert (fake.requests, fake.entries, fake.pid) == ([], 3, 100)
