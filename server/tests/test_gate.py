"""The gate of the main port: paths, hosts, origins, CORS, protocol versions and the form of refusals."""

import asyncio
import base64
import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ImageContent, TextContent
from mcp_types.version import KNOWN_PROTOCOL_VERSIONS

from support import ANALYZE_TOKEN, BOTH_TOKEN, PATIENCE, Running, Site, eventually
from test_sessions import INITIALIZE, PING, SESSION

ORIGIN = "https://app.example.org"
POSITION = {"boardXSize": 9, "boardYSize": 9, "moves": [["B", "E5"]]}
ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
BEARER = {"Authorization": f"Bearer {ANALYZE_TOKEN}"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    site = Site(tmp_path_factory.mktemp("site"))
    site.write_tokens()
    site.write(server={"allowedHosts": ["go.example.org"], "allowedOrigins": [ORIGIN]})
    with site.serving() as running:
        yield running


def send(
    running: Running,
    method: str = "POST",
    path: str = "/mcp",
    message: object = INITIALIZE,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    **named: str,
) -> httpx2.Response:
    own = {name.replace("_", "-"): value for name, value in named.items()} | dict(headers or {})
    body = content if content is not None else json.dumps(message).encode() if method == "POST" else None
    url = f"http://127.0.0.1:{running.port}{path}"
    return httpx2.request(method, url, content=body, headers={**ACCEPT, **BEARER, **own}, timeout=PATIENCE)


def error_of(response: httpx2.Response) -> dict[str, Any]:
    """The details of a refusal of MCP, in the form of all errors."""
    answer = response.json()
    assert answer["jsonrpc"] == "2.0"
    details: dict[str, Any] = answer["error"]["data"]
    assert answer["error"]["message"].startswith(f"{details['code']}: ")
    assert details["message"]
    assert details["accepted"]
    return details


@pytest.mark.parametrize("path", ["/mcp/", "/mcp//", "//mcp", "///mcp//"])
@pytest.mark.parametrize(
    "host", ["go.example.org", "GO.Example.org", "go.example.org.", "go.example.org:443"]
)
def test_mcp_is_served_with_a_final_slash_under_every_form_of_its_name(
    running: Running, path: str, host: str
) -> None:
    assert send(running, path=path, Host=host).status_code == 200


@pytest.mark.parametrize("path", ["/health/", "/ready/"])
def test_probes_with_a_final_slash_are_not_redirected(running: Running, path: str) -> None:
    url = f"http://127.0.0.1:{running.port}{path}"
    response = httpx2.get(url, headers={"Host": "10.0.0.7"}, timeout=PATIENCE)
    assert response.status_code == 200


def statuses(running: Running, paths: list[str]) -> dict[str, int]:
    """The status for each path, sent exactly as it is."""
    found = {}
    for path in paths:
        with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE) as connection:
            head = f"POST {path} HTTP/1.1\r\nHost: go.example.org\r\nConnection: close\r\n"
            fields = "".join(f"{name}: {value}\r\n" for name, value in {**ACCEPT, **BEARER}.items())
            body = json.dumps(INITIALIZE)
            connection.sendall(f"{head}{fields}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            found[path] = int(connection.recv(65_536).split()[1])
    return found


def test_other_spellings_of_a_path_have_no_route(running: Running) -> None:
    paths = [
        *("/%6dcp", "/mcp%2f", "/%2Fmcp", "/x/../mcp", "/./mcp", "/mcp/..", "/%2e/mcp", "/mcp;x", "/MCP"),
        *("/%61dmin/drain", "/admin%2Fdrain", "//x//mcp", "/mcp\\"),
    ]
    assert statuses(running, ["//mcp", *paths]) == {"//mcp": 200, **dict.fromkeys(paths, 404)}


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "//mcp", "/admin/drain", "//admin//drain/"])
def test_foreign_names_and_origins_are_refused_by_code(running: Running, path: str) -> None:
    for headers, status, code in (
        ({"Host": "evil.example"}, 421, "misdirected"),
        ({"Origin": "https://evil.example"}, 403, "forbidden"),
    ):
        response = send(running, path=path, headers=headers)
        assert response.status_code == status
        body = response.json()
        assert code == (error_of(response)["code"] if "/mcp" in path else body["error"])
        assert "Access-Control-Allow-Origin" not in response.headers


def test_a_preflight_of_an_allowed_origin_is_answered_without_a_token(running: Running) -> None:
    headers = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, mcp-protocol-version, mcp-session-id",
    }
    response = httpx2.request("OPTIONS", running.url, headers=headers, timeout=PATIENCE)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    allowed = response.headers["Access-Control-Allow-Headers"].lower()
    for name in ("authorization", "content-type", "mcp-protocol-version", "mcp-session-id"):
        assert name in allowed
    assert {"GET", "POST", "DELETE"} <= set(response.headers["Access-Control-Allow-Methods"].split(", "))


def test_a_preflight_of_another_origin_is_refused(running: Running) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    response = httpx2.request("OPTIONS", running.url, headers=headers, timeout=PATIENCE)
    assert response.status_code == 403
    assert "Access-Control-Allow-Origin" not in response.headers


def test_a_browser_can_read_answers_and_the_headers_of_the_protocol(running: Running) -> None:
    response = send(running, Origin=ORIGIN)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    exposed = response.headers["Access-Control-Expose-Headers"].lower()
    assert {"mcp-session-id", "mcp-protocol-version"} <= set(exposed.split(", "))
    assert "Origin" in response.headers["Vary"]


def test_a_browser_can_read_refusals(running: Running) -> None:
    response = send(running, Origin=ORIGIN, Authorization="Bearer wrong-token-of-somebody")
    assert response.status_code == 401
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize("version", ["2099-01-01", "2025", "nonsense"])
@pytest.mark.parametrize("message", [INITIALIZE, PING])
def test_an_unknown_protocol_version_is_named_with_the_known_ones(
    running: Running, version: str, message: dict[str, Any]
) -> None:
    response = send(running, message=message, MCP_Protocol_Version=version)
    assert response.status_code == 400
    details = error_of(response)
    assert details["code"] == "unsupported_protocol_version"
    assert version in details["message"]
    assert details["supported"] == list(KNOWN_PROTOCOL_VERSIONS)
    assert all(known in details["accepted"] for known in KNOWN_PROTOCOL_VERSIONS)
    assert response.json()["id"] == message["id"]


@pytest.mark.parametrize("version", KNOWN_PROTOCOL_VERSIONS[:-1])
def test_known_versions_pass(running: Running, version: str) -> None:
    assert send(running, MCP_Protocol_Version=version).status_code == 200


def test_an_unknown_version_of_a_body_without_an_id_is_refused(running: Running) -> None:
    for content in (b"", b"[1]", b"{", b"x" * 100_000):
        response = send(running, content=content, MCP_Protocol_Version="2099-01-01")
        assert (response.status_code, response.json()["id"]) == (400, None)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/mcp", {"Content-Type": "text/plain"}, (400, 415)),
        ("POST", "/mcp", {"Accept": "text/html"}, (406,)),
        ("POST", "/mcp", {"Accept": "text/html", "MCP-Protocol-Version": "2026-07-28"}, (406,)),
        ("GET", "/mcp", {"MCP-Protocol-Version": "2026-07-28"}, (405,)),
        ("PUT", "/mcp", {}, (405,)),
        ("GET", "/mcp/other", {}, (404,)),
        ("GET", "/", {}, (404,)),
        ("GET", "/admin/drain", {}, (405,)),
    ],
)
def test_every_refusal_is_json(
    running: Running, method: str, path: str, headers: dict[str, str], status: tuple[int, ...]
) -> None:
    response = send(running, method=method, path=path, headers=headers)
    assert response.status_code in status
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.json()["error"]
    if response.status_code == 405:
        assert response.headers["Allow"]


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
def test_a_body_above_the_limit_is_refused_by_code(running: Running, version: str) -> None:
    response = send(running, content=b" " * (13 * 1024 * 1024), MCP_Protocol_Version=version)
    assert response.status_code == 413
    assert error_of(response)["code"] == "limit_exceeded"


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_record_of_the_maximum_size_reaches_the_reader(running: Running, mode: str) -> None:
    comment = "C[" + "x" * (4 * 1024 * 1024 - 40) + "]"
    record = f"(;SZ[9]{comment};B[ee])".encode()
    async with connected(running, mode) as session:
        arguments = {"sgfBase64": base64.b64encode(record).decode(), "maxVisits": 3}
        accepted = await session.call_tool("analyzePosition", arguments)
        arguments["sgfBase64"] = base64.b64encode(record + b" " * 1000).decode()
        refused = await session.call_tool("analyzePosition", arguments)
    assert not accepted.is_error, accepted.content
    assert refused.structured_content is not None
    assert refused.structured_content["error"]["code"] == "limit_exceeded"


def connected(running: Running, mode: str, query: str = "") -> Client:
    http = httpx2.AsyncClient(headers=BEARER, timeout=PATIENCE)
    return Client(streamable_http_client(running.url + query, http_client=http), mode=mode)


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_chooses_text_and_pictures_without_structured_content(
    running: Running, mode: str
) -> None:
    async with connected(running, mode, "?content=text") as session:
        tools = (await session.list_tools()).tools
        answer = await session.call_tool("analyzePosition", {"position": POSITION, "picture": True})
        failed = await session.call_tool("analyzePosition", {"position": {"komi": 6.25}})
    assert all(tool.output_schema is None for tool in tools)
    assert answer.structured_content is None
    assert [type(part) for part in answer.content] == [TextContent, ImageContent]
    assert failed.structured_content is None
    assert isinstance(failed.content[0], TextContent)
    assert failed.content[0].text.startswith("invalid_komi: ")


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_structured_content_contains_the_summary(running: Running, mode: str) -> None:
    async with connected(running, mode, "?content=all") as session:
        answer = await session.call_tool("analyzePosition", {"position": POSITION})
    assert answer.structured_content is not None
    assert isinstance(answer.content[0], TextContent)
    assert answer.content[0].text.startswith(answer.structured_content["summary"])


def test_an_unknown_form_of_answers_is_refused(running: Running) -> None:
    response = send(running, path="/mcp?content=pictures")
    assert response.status_code == 400
    assert error_of(response)["accepted"] == "content=text or content=all"


@pytest.mark.anyio
async def test_a_new_stream_of_a_session_replaces_the_previous_one(running: Running) -> None:
    opened = send(running)
    headers = {**BEARER, "Accept": "text/event-stream", SESSION: opened.headers[SESSION]}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=PATIENCE) as http,
        http.stream("GET", running.url) as first,
        http.stream("GET", running.url) as second,
    ):
        assert (first.status_code, second.status_code) == (200, 200)
        async with asyncio.timeout(PATIENCE):
            assert b"".join([chunk async for chunk in first.aiter_bytes()]) == b""
        async with http.stream("GET", running.url) as third:
            assert third.status_code == 200


@pytest.mark.anyio
async def test_another_token_cannot_replace_the_stream_of_a_session(running: Running) -> None:
    opened = send(running)
    headers = {**BEARER, "Accept": "text/event-stream", SESSION: opened.headers[SESSION]}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=PATIENCE) as http,
        http.stream("GET", running.url) as first,
    ):
        assert first.status_code == 200
        stranger = {**headers, "Authorization": f"Bearer {BOTH_TOKEN}"}
        assert (await http.get(running.url, headers=stranger)).status_code == 404
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await anext(first.aiter_bytes())


def test_refused_names_are_counted(running: Running) -> None:
    before = running.metric("katago_mcp_http_refused_total", reason="misdirected") or 0
    send(running, Host="evil.example")
    eventually(
        lambda: running.metric("katago_mcp_http_refused_total", reason="misdirected") == before + 1, "counted"
    )
