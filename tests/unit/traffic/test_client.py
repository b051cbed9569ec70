"""The MCP client tells apart how a call fails, in both protocol generations, and keeps its deadline."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.service import mcp
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import positions
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.client import (
    GENERATIONS,
    Client,
    Generation,
    Result,
)
from tests import loopback, mcp_service
from tests.mcp_service import Service

PATIENCE = 60.0
# Only calls that hang last as long.
DEADLINE = 0.5

each_generation = pytest.mark.parametrize("generation", GENERATIONS)


@pytest.fixture
def service() -> Iterator[Service]:
    with mcp_service.serving() as running:
        yield running


def call(client: Client, seconds: float = PATIENCE) -> Result:
    return positions.call(client, "analyzePosition", 8, seconds)


def calling(service: Service, generation: Generation) -> Client:
    return Client(service.target, generation, "a-token", name="tests")


@each_generation
@pytest.mark.parametrize("streams", [False, True])
def test_right_answer_is_ok(service: Service, generation: Generation, *, streams: bool) -> None:
    service.streams = streams
    result = call(calling(service, generation))
    assert (result.kind, result.status, result.reason) == ("ok", 200, "")
    headers, message = service.requests[-1]
    assert headers["Authorization"] == "Bearer a-token"
    # The server does not count it as traffic of the cache.
    assert headers["katago-probe"] == "1"
    assert message["params"]["arguments"]["maxVisits"] == 8
    assert ("Mcp-Session-Id" in headers) == (generation == "session")


@each_generation
@pytest.mark.parametrize("streams", [False, True])
def test_connection_stays_open(
    service: Service, generation: Generation, monkeypatch: pytest.MonkeyPatch, *, streams: bool
) -> None:
    # A busy service may end a stream later than a client waits for it.
    monkeypatch.setattr(mcp, "_STREAM_END_SECONDS", PATIENCE)
    service.streams = streams
    client = calling(service, generation)
    assert [call(client).kind for _ in range(3)] == ["ok"] * 3
    assert (service.connections, service.opened) == (1, 1 if generation == "session" else 0)


@each_generation
@pytest.mark.parametrize(
    ("fault", "kind", "status"),
    [
        ("hang", "timeout", None),
        ("drip", "timeout", None),
        ("reset", "broken", None),
        ("close", "broken", None),
        ("truncated", "broken", None),
        ("text", "invalid", 200),
        ("no result", "invalid", 200),
        (503, "unavailable", 503),
        (429, "overloaded", 429),
        (401, "http", 401),
        ("overloaded", "overloaded", 200),
        ("draining", "unavailable", 200),
        ("engine_hung", "unavailable", 200),
        ("analysis_timeout", "error", 200),
    ],
)
def test_failures_are_told_apart(
    service: Service, generation: Generation, fault: str | int, kind: str, status: int | None
) -> None:
    client = calling(service, generation)
    assert call(client).kind == "ok"
    service.fault = fault
    result = call(client, DEADLINE if kind == "timeout" else PATIENCE)
    assert (result.kind, result.status) == (kind, status)
    assert result.reason
    assert not result.session_lost
    # A failure of one call does not affect the next one.
    service.fault = ""
    assert call(client).kind == "ok"
    assert service.opened == (1 if generation == "session" else 0)


@each_generation
def test_service_that_does_not_listen_is_no_connection(service: Service, generation: Generation) -> None:
    client = calling(service, generation)
    assert call(client).kind == "ok"
    service.close()
    # The connection that was open is not used again.
    assert [call(client).kind for _ in range(2)] == ["connect"] * 2


def test_wrong_winner_is_a_wrong_answer(service: Service) -> None:
    service.answer = {**mcp_service.RIGHT, "winrate": 0.01, "scoreLead": -60.0}
    result = call(calling(service, "stateless"))
    assert result.kind == "wrong"
    assert "winrate 0.010" in result.reason


def test_engine_that_is_not_ready_is_unavailable(service: Service) -> None:
    client = calling(service, "stateless")
    assert positions.call(client, "getEngineStatus", 8, PATIENCE).kind == "ok"
    service.status = {"ready": False, "state": "hung"}
    result = positions.call(client, "getEngineStatus", 8, PATIENCE)
    assert (result.kind, result.reason) == ("unavailable", "the engine is hung")


def test_territory_of_a_known_position_is_evaluated(service: Service) -> None:
    assert positions.call(calling(service, "session"), "evaluateTerritory", 8, PATIENCE).kind == "ok"
    parameters = service.calls[0]["params"]
    assert (parameters["name"], parameters["arguments"].keys()) == (
        "evaluateTerritory",
        {"position", "maxVisits"},
    )


def test_lost_session_is_counted_once_and_opened_again(service: Service) -> None:
    client = calling(service, "session")
    first = call(client)
    service.sessions.clear()
    lost, after = call(client), call(client)
    assert (lost.kind, lost.status, lost.session_lost) == ("session", 404, True)
    assert (lost.session, after.kind, after.session_lost) == (first.session, "ok", False)
    assert after.session != first.session


def test_session_that_many_calls_find_lost_is_lost_once(service: Service) -> None:
    client = calling(service, "session")
    call(client)
    service.sessions.clear()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: call(client), range(8)))
    assert sum(result.session_lost for result in results) == 1


def test_not_found_without_a_session_is_no_lost_session(service: Service) -> None:
    client = calling(service, "stateless")
    service.fault = 404
    result = call(client)
    assert (result.kind, result.session_lost) == ("http", False)


def test_calls_that_start_together_keep_one_session(service: Service) -> None:
    client = calling(service, "session")
    with ThreadPoolExecutor(8) as pool:
        assert {result.kind for result in pool.map(lambda _: call(client), range(8))} == {"ok"}
    assert len(service.sessions) == 1
    client.close()
    # The client does not wait long for the end of its session.
    end = time.monotonic() + PATIENCE
    while service.sessions:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_opening_of_a_session_that_hangs_delays_no_other_call(service: Service) -> None:
    service.fault = "frozen"
    client = calling(service, "session")
    with ThreadPoolExecutor(2) as pool:
        hanging = pool.submit(call, client)
        while not service.requests:
            time.sleep(0.01)
        service.fault = ""
        assert call(client).kind == "ok"
        assert not hanging.done()
        service.close()
        assert hanging.result().kind == "broken"


def test_stream_that_stays_open_after_its_answer_is_answered(service: Service) -> None:
    service.streams = service.endless = True
    client = calling(service, "stateless")
    assert [call(client).kind for _ in range(2)] == ["ok"] * 2
    # The connection of a stream that does not end cannot be used again.
    assert service.connections == 2


def test_host_that_answered_is_known_from_its_header(service: Service) -> None:
    service.host = "katago-2"
    assert call(calling(service, "stateless")).host == "katago-2"


def test_token_with_a_line_break_is_refused(service: Service) -> None:
    client = Client(service.target, "stateless", "a\r\nX: y", name="tests")
    with pytest.raises(ValueError, match="Authorization"):
        call(client)
    assert service.requests == []


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[tuple[Service, str]]:
    file = loopback.self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with mcp_service.serving(context) as running:
        yield running, file.read_text()


@each_generation
def test_certificate_is_checked(secured: tuple[Service, str], generation: Generation) -> None:
    service, certificate = secured
    trusted = replace(service.target, ca=certificate)
    assert call(Client(trusted, generation, "", name="tests")).kind == "ok"
    # The system does not know the certificate.
    unknown = call(Client(service.target, generation, "", name="tests"))
    assert (unknown.kind, service.calls) == ("connect", service.calls[:1])
    assert "certificate" in unknown.reason.lower()


def test_pinned_certificate_need_not_have_the_name_of_the_address(secured: tuple[Service, str]) -> None:
    service, certificate = secured
    named = replace(service.target, url=f"https://localhost:{service.server_port}/mcp", ca=certificate)
    assert call(Client(named, "stateless", "", name="tests")).kind == "connect"
    assert call(Client(replace(named, pinned=True), "stateless", "", name="tests")).kind == "ok"


def test_certificate_that_is_not_pem_is_refused(secured: tuple[Service, str]) -> None:
    with pytest.raises(ValueError, match="katago-1"):
        Client(replace(secured[0].target, ca="no certificate"), "stateless", "", name="tests")
