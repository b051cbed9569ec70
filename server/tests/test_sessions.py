"""Limits of the sessions of the older protocol generation."""

import contextlib
import json
import sys
from collections.abc import Mapping, MutableMapping
from types import FrameType, SimpleNamespace
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.types import Receive, Scope, Send

from katago_mcp.config import load
from katago_mcp.metrics import Metrics
from katago_mcp.session_ids import SessionIds
from katago_mcp.sessions import MOST_ENDED, Sessions
from katago_mcp.settings import Settings
from support import ADMIN_TOKEN, ANALYZE_TOKEN, BOTH_TOKEN, PATIENCE, Running, Site, eventually

INITIALIZE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "tests", "version": "1"},
    },
}
PING = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
SESSION = "Mcp-Session-Id"
KEY = b"a key of the tests with 32 bytes"


def send(
    running: Running,
    method: str = "POST",
    message: dict[str, Any] | None = None,
    token: str | None = ANALYZE_TOKEN,
    headers: Mapping[str, str] | None = None,
) -> httpx2.Response:
    """Send one request to the MCP endpoint, as an older client that opens no stream."""
    headers = {"Accept": "application/json, text/event-stream", **(headers or {})}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return httpx2.request(method, running.url, json=message, headers=headers, timeout=PATIENCE)


def begin(running: Running, token: str | None = ANALYZE_TOKEN) -> httpx2.Response:
    return send(running, message=INITIALIZE, token=token)


def opened(running: Running, token: str | None = ANALYZE_TOKEN) -> dict[str, str]:
    """Open a session. Returns its header."""
    response = begin(running, token)
    assert response.status_code == 200, response.text
    return {SESSION: response.headers[SESSION]}


def refusals(running: Running) -> dict[str, float | None]:
    return {
        reason: running.metric("katago_mcp_sessions_refused_total", reason=reason)
        for reason in ("token", "total")
    }


def official(running: Running, mode: str, token: str) -> Client:
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE)
    return Client(streamable_http_client(running.url, http_client=http), mode=mode)


async def refusal(client: Client) -> MCPError:
    """The error of a rejected client, unwrapped from its exception groups."""
    caught: Exception | None = None
    try:
        async with client:
            pass
    except (MCPError, ExceptionGroup) as error:
        caught = error
    while isinstance(caught, ExceptionGroup):
        (caught,) = caught.exceptions
    assert isinstance(caught, MCPError), caught
    return caught


def limited(site: Site, **limits: object) -> Site:
    site.write_tokens()
    site.write(server=limits)
    return site


def test_token_at_its_session_limit_is_rejected_and_another_token_admitted(site: Site) -> None:
    with limited(site, maxSessionsPerToken=2).serving() as running:
        for _ in range(2):
            opened(running)
        refused = begin(running)
        opened(running, BOTH_TOKEN)
        assert running.metric("katago_mcp_sessions") == 3
        assert refusals(running) == {"token": 1, "total": 0}
    assert refused.status_code == 503
    assert SESSION not in refused.headers
    answer = refused.json()
    assert (answer["jsonrpc"], answer["id"], answer["error"]["code"]) == ("2.0", None, -32603)
    details = answer["error"]["data"]
    assert (details["code"], details["field"]) == ("too_many_sessions", None)
    assert details["message"] == "2 sessions of this token are open, which is the limit"
    assert 1 <= details["retryAfterSeconds"] <= 1800
    assert refused.headers["Retry-After"] == str(details["retryAfterSeconds"])
    assert answer["error"]["message"].endswith(f"; retry in {details['retryAfterSeconds']} s")
    (event,) = [event for event in running.events() if event["event"] == "session_refused"]
    assert (event["caller"], event["reason"]) == ("reader", "token")


@pytest.mark.anyio
async def test_official_clients_receive_the_error_and_the_newer_generation_has_no_sessions(
    site: Site,
) -> None:
    with limited(site, maxSessionsPerToken=1, maxSessions=2).serving() as running:
        async with official(running, "legacy", ANALYZE_TOKEN) as first:
            error = await refusal(official(running, "legacy", ANALYZE_TOKEN))
            assert error.error.message.startswith("too_many_sessions: 1 sessions of this token are open, ")
            assert error.error.message.endswith(f"; retry in {error.error.data['retryAfterSeconds']} s")
            async with official(running, "legacy", BOTH_TOKEN) as other:
                for _ in range(3):
                    async with official(running, "auto", ANALYZE_TOKEN) as newer:
                        assert newer.protocol_version == "2026-07-28"
                        assert not (await newer.call_tool("getEngineStatus", {})).is_error
                assert not (await first.call_tool("getEngineStatus", {})).is_error
                assert not (await other.call_tool("getEngineStatus", {})).is_error
                assert running.metric("katago_mcp_sessions") == 2
        async with official(running, "legacy", ANALYZE_TOKEN) as again:
            assert not (await again.call_tool("getEngineStatus", {})).is_error
        assert running.metric("katago_mcp_sessions") == 0


def test_call_command_reports_the_rejection(site: Site) -> None:
    with limited(site, maxSessionsPerToken=1).serving() as running:
        for _ in range(2):
            assert site.call(("getEngineStatus", {}), token=ANALYZE_TOKEN, protocol="2025")["ok"]
        opened(running)
        report = site.call(("getEngineStatus", {}), token=ANALYZE_TOKEN, protocol="2025")
    assert report["ok"] is False
    assert "too_many_sessions: 1 sessions of this token are open" in report["error"]


def test_total_number_of_sessions_is_limited_too(site: Site) -> None:
    with limited(site, maxSessionsPerToken=2, maxSessions=2).serving() as running:
        sessions = [opened(running), opened(running)]
        refused = begin(running, BOTH_TOKEN)
        assert refusals(running) == {"token": 0, "total": 1}
        assert send(running, "DELETE", headers=sessions[0]).status_code == 200
        opened(running, BOTH_TOKEN)
    assert refused.status_code == 503
    assert (
        refused.json()["error"]["data"]["message"]
        == "2 sessions of all clients together are open, which is the limit"
    )
    assert int(refused.headers["Retry-After"]) >= 1


def test_delete_makes_room_for_its_own_token_only(site: Site) -> None:
    with limited(site, maxSessionsPerToken=1).serving() as running:
        session = opened(running)
        assert send(running, "DELETE", token=BOTH_TOKEN, headers=session).status_code == 404
        assert begin(running).status_code == 503
        assert send(running, "DELETE", headers=session).status_code == 200
        opened(running)
        assert begin(running).status_code == 503


def test_idle_timeout_makes_room(site: Site) -> None:
    with limited(site, maxSessionsPerToken=1, sessionIdleSeconds=0.5).serving() as running:
        session = opened(running)
        eventually(lambda: running.metric("katago_mcp_sessions") == 0, "the session is over")
        assert send(running, message=PING, headers=session).status_code == 404
        opened(running)


def test_an_open_stream_keeps_a_session(site: Site) -> None:
    with limited(site, maxSessionsPerToken=1, sessionIdleSeconds=0.5).serving() as running:
        with contextlib.ExitStack() as streams:

            def streaming() -> bool:
                # On a busy machine, a session can end before its stream opens.
                headers = {"Authorization": f"Bearer {ANALYZE_TOKEN}", "Accept": "text/event-stream"}
                headers |= opened(running)
                stream = httpx2.stream("GET", running.url, headers=headers, timeout=PATIENCE)
                return streams.enter_context(stream).status_code == 200

            eventually(streaming, "a stream is open")
            # It opens later, and is idle for as long as the first one would be by then.
            opened(running, BOTH_TOKEN)
            eventually(lambda: running.metric("katago_mcp_sessions") == 1, "the other session is over")
            assert begin(running).status_code == 503
        eventually(lambda: begin(running).status_code == 200, "room after the stream")


@pytest.mark.parametrize(
    ("message", "version"), [(PING, "2025-11-25"), ({"jsonrpc": "2.0"}, "2025-11-25"), (INITIALIZE, None)]
)
def test_request_that_opens_no_session_is_not_counted(
    site: Site, message: dict[str, Any], version: str | None
) -> None:
    headers = {"Host": "evil.example"} if version is None else {"MCP-Protocol-Version": version}
    with limited(site, maxSessionsPerToken=1).serving() as running:
        for _ in range(3):
            assert send(running, message=message, headers=headers).status_code in (400, 421)
        assert running.metric("katago_mcp_sessions") == 0
        opened(running)


@pytest.mark.parametrize(("token", "status"), [(None, 401), (ADMIN_TOKEN, 403)])
def test_unauthorised_request_is_rejected_as_such_at_the_session_limit(
    site: Site, token: str | None, status: int
) -> None:
    with limited(site, maxSessionsPerToken=1, maxSessions=1).serving() as running:
        opened(running)
        assert begin(running, token).status_code == status


def test_a_request_of_the_newer_generation_ends_no_session_of_the_older(site: Site) -> None:
    with limited(site, maxSessionsPerToken=1).serving() as running:
        session = opened(running)
        newer = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "no/such", **session}
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        unknown = {"jsonrpc": "2.0", "id": 1, "method": "no/such", "params": {"_meta": meta}}
        answer = send(running, message=unknown, headers=newer)
        assert answer.status_code == 404, answer.text
        assert begin(running).status_code == 503


def test_without_tokens_all_clients_share_one_limit(site: Site) -> None:
    site.write(server={"maxSessionsPerToken": 1})
    with site.serving() as running:
        session = opened(running, None)
        assert begin(running, None).status_code == 503
        assert send(running, "DELETE", token=None, headers=session).status_code == 200
        opened(running, None)


def test_a_reload_changes_the_limits_and_ends_no_session(site: Site) -> None:
    with limited(site, maxSessionsPerToken=1, maxSessions=1).serving() as running:
        session = opened(running)
        site.write(server={"maxSessionsPerToken": 2, "maxSessions": 2, "sessionIdleSeconds": 0.2})
        answer = running.post("/admin/reload", ADMIN_TOKEN).json()
        assert [change["key"] for change in answer["changed"]] == [
            "server.maxSessions",
            "server.maxSessionsPerToken",
            "server.sessionIdleSeconds",
        ]
        second = opened(running)
        eventually(lambda: running.metric("katago_mcp_sessions") == 1, "the second session is over")
        assert send(running, message=PING, headers=second).status_code == 404
        assert send(running, message=PING, headers=session).status_code == 200


Answer = tuple[int, str | None]
"""A status, and the id of its session."""


def _named(session: str | None) -> list[tuple[bytes, bytes]]:
    return [] if session is None else [(SESSION.lower().encode(), session.encode())]


def session_of(response: Mapping[str, Any]) -> str:
    """The session id that a client received."""
    session: bytes = dict(response["headers"])[SESSION.lower().encode()]
    return session.decode()


class Asked:
    """The limits in front of a scripted SDK, with a clock set by the test."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self._answers: tuple[Answer, ...] = ()
        self.metrics = Metrics("1", None)
        monkeypatch.setattr("katago_mcp.sessions.time", SimpleNamespace(monotonic=lambda: self.now))
        settings = Settings(load(site.path, {}).config)
        ids = SessionIds(lambda: [KEY], lambda: 3600)
        self._sessions = Sessions(self._sdk, settings, self.metrics, ids, secured=True)

    async def _sdk(self, scope: Scope, receive: Receive, send: Send) -> None:
        for status, session in self._answers:
            await send({"type": "http.response.start", "status": status, "headers": _named(session)})
            await send({"type": "http.response.body", "body": b""})

    async def ask(
        self, *answers: tuple[int, str | None], session: str | None = None
    ) -> MutableMapping[str, Any]:
        """The client's response: the last response start, or a rejection with its details.

        The scripted SDK gives these `answers`. `session` is the client's id.
        """
        self._answers = answers
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        user = AuthenticatedUser(AccessToken(token="a", client_id="a", scopes=["analyze"]))
        scope = {"type": "http", "method": "POST", "path": "/mcp", "user": user}
        await self._sessions({**scope, "headers": _named(session)}, receive, send)
        if not sent:
            return {"status": None}
        starts = [message for message in sent if message["type"] == "http.response.start"]
        if starts[-1]["status"] != 503:
            return starts[-1]
        return {**starts[-1], "details": json.loads(sent[-1]["body"])["error"]["data"]}

    def kept(self) -> int:
        """Sessions and ids that are remembered."""
        sessions = self._sessions
        return len(sessions._open) + len(sessions._identified) + len(sessions._owned) + len(sessions._ended)

    @property
    def open(self) -> float | None:
        """The counted sessions."""
        return self.metrics.registry.get_sample_value("katago_mcp_sessions")


@pytest.mark.anyio
async def test_retry_hint_is_the_end_of_the_session_that_is_idle_longest(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write(server={"maxSessionsPerToken": 2, "sessionIdleSeconds": 100})
    made = Asked(site, monkeypatch)
    one = session_of(await made.ask((200, "one")))
    made.now += 10.5
    await made.ask((200, "two"))
    made.now += 20
    hints = [(await made.ask())["details"]["retryAfterSeconds"]]
    await made.ask((200, None), session=one)
    hints.append((await made.ask())["details"]["retryAfterSeconds"])
    assert hints == [70, 80]
    made.now += 80
    assert made.open == 1
    assert (await made.ask((200, "three")))["status"] == 200
    assert made.open == 2


@pytest.mark.anyio
@pytest.mark.parametrize("answers", [[], [(400, None)], [(200, "one"), (500, None)]])
async def test_failed_session_takes_no_room(
    site: Site, monkeypatch: pytest.MonkeyPatch, answers: list[Answer]
) -> None:
    site.write(server={"maxSessionsPerToken": 1})
    made = Asked(site, monkeypatch)
    await made.ask(*answers)
    assert made.open == 0
    assert (await made.ask((200, "two")))["status"] == 200


@pytest.mark.anyio
async def test_ten_thousand_sessions_are_counted_and_bounded(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write(server={"maxSessions": 10_000, "maxSessionsPerToken": 10_000, "sessionIdleSeconds": 100})
    made = Asked(site, monkeypatch)
    steps = 0

    def trace(_frame: FrameType, _event: str, _argument: object) -> None:
        nonlocal steps
        steps += 1

    async def open_sessions(first: int, count: int) -> list[str]:
        return [session_of(await made.ask((200, f"sdk-{number}"))) for number in range(first, first + count)]

    async def cost(first: int) -> int:
        """Function calls for a hundred sessions."""
        nonlocal steps
        steps = 0
        sys.setprofile(trace)
        try:
            await open_sessions(first, 100)
        finally:
            sys.setprofile(None)
        return steps

    early = await cost(0)
    ids = await open_sessions(100, 9_800)
    late = await cost(9_900)
    # One more session costs the same, however many there are.
    assert late < 1.5 * early
    assert made.open == 10_000
    refused = await made.ask((200, "one-more"))
    assert refused["details"]["code"] == "too_many_sessions"
    assert len(set(ids)) == 9_800
    # All of them end, and nothing of them is left but the ids that must not be accepted again.
    made.now += 101
    assert made.open == 0
    assert (await made.ask((200, "again")))["status"] == 200
    assert made.open == 1
    assert made.kept() <= 10_000 + 10
    for number in range(6):
        await open_sessions(20_000 + 9_999 * number, 9_999)
        made.now += 101
        await made.ask((200, "again"))
    assert made.kept() <= MOST_ENDED + 10_000


@pytest.mark.anyio
async def test_session_unknown_to_the_sdk_takes_no_room(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write(server={"maxSessionsPerToken": 1})
    made = Asked(site, monkeypatch)
    one = session_of(await made.ask((200, "one")))
    await made.ask((404, None), session="another")
    assert (await made.ask())["status"] == 503
    await made.ask((404, None), session=one)
    assert made.open == 0
