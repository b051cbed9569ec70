"""Sessions of the older protocol generation that continue after a restart, and on another host."""

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from katago_mcp.session_ids import SessionIds
from support import ANALYZE_TOKEN, BOTH_TOKEN, PATIENCE, Running, Site, eventually
from test_sessions import INITIALIZE, PING, SESSION, begin, opened, send

KEY = "a key that all hosts of the fleet share"
POSITION = {"position": {"moves": [["B", "D4"]], "boardXSize": 9, "boardYSize": 9}}


def host(directory: Path, key: str | None = KEY, **server: object) -> Site:
    """A host of a fleet, with the tokens of all hosts, and with the key if there is one."""
    directory.mkdir()
    site = Site(directory)
    site.write_tokens()
    if key is not None:
        (directory / "session.key").write_text(key)
    site.write(server=server, auth={"sessionKeyFile": "session.key"})
    return site


@dataclass
class Counted(Running):
    """A running host that counts from the beginning of a test."""

    before: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def scrape(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {sample: value - self.before.get(sample, 0) for sample, value in super().scrape().items()}


def counted(running: Running) -> Counted:
    parts = {field.name: getattr(running, field.name) for field in fields(running)}
    return Counted(**parts, before=running.scrape())


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Running]]:
    """Two running hosts with the same key, for all tests that need no more."""
    directory = tmp_path_factory.mktemp("fleet")
    with host(directory / "one").serving() as one, host(directory / "two").serving() as two:
        yield one, two


@pytest.fixture
def fleet(hosts: tuple[Running, Running]) -> tuple[Running, Running]:
    """The two hosts, whose metrics count from here."""
    return counted(hosts[0]), counted(hosts[1])


def call(tool: str, arguments: dict[str, Any], number: int = 7) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


def answer(response: httpx2.Response) -> dict[str, Any]:
    """The JSON-RPC answer in a stream of events."""
    assert response.status_code == 200, response.text
    data = [line[5:] for line in response.text.splitlines() if line.startswith("data:")]
    message: dict[str, Any] = json.loads(data[-1])
    return message


def adopted(running: Running) -> float | None:
    return running.metric("katago_mcp_sessions_adopted_total")


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_session_continues_on_another_host(fleet: tuple[Running, Running], version: str) -> None:
    one, two = fleet
    params = INITIALIZE["params"] | {"protocolVersion": version}
    session = {SESSION: send(one, message=INITIALIZE | {"params": params}).headers[SESSION]}
    for headers in (session, session | {"MCP-Protocol-Version": version}):
        response = send(two, message=call("analyzePosition", POSITION), headers=headers)
        result = answer(response)
        assert result["id"] == 7
        assert not result["result"].get("isError", False), result
        assert response.headers[SESSION] == session[SESSION]
    assert (adopted(one), adopted(two)) == (0, 1)
    assert two.metric("katago_mcp_sessions") == 1
    assert send(one, message=PING, headers=session).status_code == 200


def test_same_answers_on_both_hosts(fleet: tuple[Running, Running]) -> None:
    session = opened(fleet[0])
    listed = [
        answer(send(each, message={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers=session))
        for each in fleet
    ]
    assert listed[0] == listed[1]


def test_session_continues_after_a_restart(tmp_path: Path) -> None:
    site = host(tmp_path / "one")
    with site.serving() as running:
        session = opened(running)
    with site.serving() as running:
        assert send(running, message=PING, headers=session).status_code == 200
        assert adopted(running) == 1


@pytest.mark.parametrize("key", [None, "another key, which has enough characters"])
def test_session_of_a_host_without_the_key_is_unknown(tmp_path: Path, key: str | None) -> None:
    with host(tmp_path / "one").serving() as one, host(tmp_path / "two", key).serving() as two:
        assert send(two, message=PING, headers=opened(one)).status_code == 404
        missing = [event for event in two.events() if event["event"] == "session_key_missing"]
        assert len(missing) == (key is None)


def test_foreign_and_forged_ids_are_unknown(fleet: tuple[Running, Running]) -> None:
    one, two = fleet
    session = opened(one)
    assert send(two, message=PING, headers=session, token=BOTH_TOKEN).status_code == 404
    forged = SessionIds(lambda: [b"the key of somebody else, 32 bytes"], lambda: 3600).issue(
        "reader", "2025-11-25"
    )
    for session_id in (forged, session[SESSION][:-1], "x" * 5000, "0123456789abcdef" * 2):
        response = send(two, message=PING, headers={SESSION: session_id})
        assert response.status_code == 404, session_id
        assert response.json()["error"]["message"] == "Session not found"
    assert adopted(two) == 0
    assert two.metric("katago_mcp_sessions") == 0


def test_session_older_than_its_lifetime_is_unknown(tmp_path: Path) -> None:
    two = host(tmp_path / "two", sessionLifetimeSeconds=0.001)
    with host(tmp_path / "one").serving() as one, two.serving() as running:
        session = opened(one)
        eventually(
            lambda: send(running, message=PING, headers=session).status_code == 404, "the id is too old"
        )
        assert send(one, message=PING, headers=session).status_code == 200


def test_ended_session_is_not_continued_by_its_host(fleet: tuple[Running, Running]) -> None:
    one, two = fleet
    session = opened(one)
    assert send(one, "DELETE", headers=session).status_code == 200
    assert send(one, message=PING, headers=session).status_code == 404
    other = opened(one)
    assert send(two, "DELETE", headers=other).status_code == 200
    assert send(two, message=PING, headers=other).status_code == 404
    assert adopted(two) == 0


def test_session_that_was_idle_too_long_is_not_continued(tmp_path: Path) -> None:
    with host(tmp_path / "one", sessionIdleSeconds=0.3).serving() as running:
        session = opened(running)
        eventually(lambda: running.metric("katago_mcp_sessions") == 0, "the session is over")
        assert send(running, message=PING, headers=session).status_code == 404
        opened(running, BOTH_TOKEN)
        assert send(running, message=PING, headers=session).status_code == 404
        assert adopted(running) == 0


@pytest.mark.parametrize("known", ["elsewhere", "nowhere", "ended"])
def test_initialize_with_an_old_id_opens_a_new_session(fleet: tuple[Running, Running], known: str) -> None:
    one, two = fleet
    old = {"nowhere": lambda: {SESSION: "0123456789abcdef"}}.get(known, lambda: opened(one))()
    if known == "ended":
        assert send(one, "DELETE", headers=old).status_code == 200
    running = two if known == "elsewhere" else one
    response = send(running, message=INITIALIZE, headers=old)
    new = response.headers[SESSION]
    assert answer(response)["result"]["protocolVersion"] == "2025-11-25"
    assert new != old[SESSION]
    assert send(running, message=PING, headers={SESSION: new}).status_code == 200


def test_adoption_counts_within_the_limits(tmp_path: Path) -> None:
    two = host(tmp_path / "two", maxSessionsPerToken=1)
    with host(tmp_path / "one").serving() as one, two.serving() as running:
        first, second = opened(one), opened(one)
        assert send(running, message=PING, headers=first).status_code == 200
        refused = send(running, message=PING, headers=second)
        assert refused.status_code == 503
        assert refused.json()["error"]["data"]["code"] == "too_many_sessions"
        assert send(running, "DELETE", headers=first).status_code == 200
        assert send(running, message=PING, headers=second).status_code == 200


def test_a_wrong_host_name_adopts_nothing(fleet: tuple[Running, Running]) -> None:
    one, two = fleet
    headers = {"Host": "evil.example", **opened(one)}
    assert send(two, message=PING, headers=headers).status_code == 421
    assert two.metric("katago_mcp_sessions") == 0
    assert adopted(two) == 0


def test_stream_of_an_adopted_session_opens(fleet: tuple[Running, Running]) -> None:
    one, two = fleet
    headers = {"Authorization": f"Bearer {ANALYZE_TOKEN}", "Accept": "text/event-stream", **opened(one)}
    with httpx2.stream("GET", two.url, headers=headers, timeout=PATIENCE) as stream:
        assert stream.status_code == 200
        assert adopted(two) == 1


@pytest.mark.anyio
async def test_simultaneous_requests_are_one_adoption(fleet: tuple[Running, Running]) -> None:
    one, two = fleet
    headers = {
        "Authorization": f"Bearer {ANALYZE_TOKEN}",
        "Accept": "application/json, text/event-stream",
    } | opened(one)
    async with httpx2.AsyncClient(timeout=PATIENCE) as client:
        responses = await asyncio.gather(
            *(
                client.post(two.url, json=call("getEngineStatus", {}, number), headers=headers)
                for number in range(20)
            )
        )
    assert [answer(each)["id"] for each in responses] == list(range(20))
    assert adopted(two) == 1
    assert two.metric("katago_mcp_sessions") == 1


@pytest.mark.anyio
async def test_official_client_notices_no_restart(tmp_path: Path) -> None:
    site = host(tmp_path / "one")
    headers = {"Authorization": f"Bearer {ANALYZE_TOKEN}"}
    with contextlib.ExitStack() as running:
        running.enter_context(site.serving())
        http = httpx2.AsyncClient(headers=headers, timeout=PATIENCE)
        url = f"http://127.0.0.1:{site.port}/mcp"
        async with Client(streamable_http_client(url, http_client=http), mode="legacy") as client:
            assert not (await client.call_tool("analyzePosition", POSITION)).is_error
            await asyncio.to_thread(running.close)
            server = await asyncio.to_thread(running.enter_context, site.serving())
            assert not (await client.call_tool("analyzePosition", POSITION)).is_error
            assert (await client.list_tools()).tools
            assert adopted(server) == 1


@pytest.mark.anyio
async def test_sessions_move_in_both_directions_under_load(tmp_path: Path) -> None:
    """Many sessions whose requests go to either host, as when a load balancer loses its table."""
    one_site, two_site = host(tmp_path / "one"), host(tmp_path / "two")
    with one_site.serving() as one, two_site.serving() as two:
        async with httpx2.AsyncClient(timeout=2 * PATIENCE) as client:
            headers = {
                "Authorization": f"Bearer {ANALYZE_TOKEN}",
                "Accept": "application/json, text/event-stream",
            }

            async def session(number: int) -> int:
                hosts = [one, two] if number % 2 else [two, one]
                begun = await client.post(hosts[0].url, json=INITIALIZE, headers=headers)
                own = headers | {SESSION: begun.headers[SESSION]}
                calls = (
                    client.post(each.url, json=call("getEngineStatus", {}, 10 * number + index), headers=own)
                    for index, each in enumerate(2 * hosts)
                )
                answers = [answer(response) for response in await asyncio.gather(*calls)]
                assert [each["id"] for each in answers] == [10 * number + index for index in range(4)]
                return len([each for each in answers if not each["result"].get("isError")])

            assert sum(await asyncio.gather(*(session(number) for number in range(50)))) == 200
        assert (adopted(one), adopted(two)) == (25, 25)
        assert one.metric("katago_mcp_sessions") == two.metric("katago_mcp_sessions") == 50


@pytest.mark.anyio
@pytest.mark.parametrize("adopting", [False, True])
async def test_a_new_stream_of_a_session_replaces_the_old_one(
    fleet: tuple[Running, Running], adopting: bool
) -> None:
    one, two = fleet
    running = two if adopting else one
    headers = {"Authorization": f"Bearer {ANALYZE_TOKEN}", "Accept": "text/event-stream", **opened(one)}
    both = headers | {"Accept": "application/json, text/event-stream"}
    async with (
        httpx2.AsyncClient(timeout=PATIENCE) as client,
        client.stream("GET", running.url, headers=headers) as first,
    ):
        assert first.status_code == 200
        async with client.stream("GET", running.url, headers=headers) as second:
            assert second.status_code == 200
            # The old one ends, and not because its connection was cut.
            assert [line async for line in first.aiter_lines() if line.startswith("data")] == []
            assert (await client.post(running.url, json=PING, headers=both)).status_code == 200
    assert adopted(two) == adopting


def test_a_replayed_id_of_an_ended_session_adopts_nothing(fleet: tuple[Running, Running]) -> None:
    one, two = fleet
    session = opened(one)
    assert send(two, message=PING, headers=session).status_code == 200
    assert send(two, "DELETE", headers=session).status_code == 200
    for _ in range(3):
        assert send(two, message=PING, headers=session).status_code == 404
        assert send(two, "GET", headers={**session, "Accept": "text/event-stream"}).status_code == 404
    assert adopted(two) == 1
    assert two.metric("katago_mcp_sessions") == 0


def test_response_of_a_lost_session_names_it(fleet: tuple[Running, Running]) -> None:
    response = begin(fleet[0])
    assert len(response.headers[SESSION]) == 63
