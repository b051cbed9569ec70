"""A client that disconnects during a request is not an error of the server."""

import socket
from collections.abc import MutableMapping
from typing import Any

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from katago_mcp.config import load
from katago_mcp.http import Application
from katago_mcp.metrics import Metrics
from katago_mcp.settings import Settings
from support import Site

Messages = list[MutableMapping[str, Any]]

START = {"type": "http.response.start", "status": 202, "headers": []}
BODY = {"type": "http.response.body", "body": b""}


@pytest.mark.parametrize("protocol", ["2026-07-28", "2025-11-25"])
def test_incomplete_request_logs_no_error(site: Site, protocol: str) -> None:
    with site.serving() as running:
        head = (
            f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\nContent-Type: application/json\r\n"
            f"Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: {protocol}\r\n"
            'Content-Length: 1000\r\n\r\n{"jsonrpc"'
        )
        with socket.create_connection(("127.0.0.1", running.port)) as sock:
            sock.sendall(head.encode())
        assert running.answers("/ready") == 200
    assert {event["level"] for event in running.events()} == {"info"}, running.log.read_text()


async def exchange(site: Site, *, complete: bool) -> Messages:
    """The messages that the server sends if the SDK's session is closed."""
    sent: Messages = []

    async def sdk(scope: Scope, receive: Receive, send: Send) -> None:
        await send(dict(START))
        if complete:
            await send(dict(BODY))
            await send({**START, "status": 500})
        raise anyio.ClosedResourceError

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("nothing is read")

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": []}
    await Application(sdk, Metrics("1", None), Settings(load(site.path, {}).config))(scope, receive, send)
    return sent


@pytest.mark.anyio
async def test_session_that_ends_after_the_answer_is_not_an_error(site: Site) -> None:
    assert await exchange(site, complete=True) == [START, BODY]


@pytest.mark.anyio
async def test_session_that_ends_before_the_answer_is_an_error(site: Site) -> None:
    with pytest.raises(anyio.ClosedResourceError):
        await exchange(site, complete=False)
