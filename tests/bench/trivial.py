"""A server like katago-mcp with one typed tool that does nothing: the least cost of a call.

`python -m tests.bench.trivial PORT` serves on that port until it is terminated.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from pydantic import AnyHttpUrl, BaseModel

from katago_mcp import http
from katago_mcp.config import Server
from katago_mcp.connections import Connections
from katago_mcp.metrics import Metrics
from tests.bench.subjects import token


class Sum(BaseModel):
    """The result of the tool."""

    value: int


class _Verifier:
    async def verify_token(self, secret: str) -> AccessToken | None:
        known = secret == token(0)
        return AccessToken(token="caller", client_id="caller", scopes=["analyze"]) if known else None


def build() -> MCPServer[dict[str, Any]]:
    """Build the server with its tool."""
    auth = AuthSettings(
        issuer_url=AnyHttpUrl("http://localhost"), resource_server_url=None, required_scopes=["analyze"]
    )
    server: MCPServer[dict[str, Any]] = MCPServer(
        "trivial", auth=auth, token_verifier=_Verifier(), subscriptions=False
    )

    @server.tool()
    async def add(one: int, other: int) -> Sum:
        """Add two numbers."""
        return Sum(value=one + other)

    return server


async def serve(port: int) -> None:
    """Serve until cancelled."""
    server = build()
    app = server.streamable_http_app(host="127.0.0.1")
    connections = Connections(lambda: Server(), Metrics("0", None))
    with http.bind("127.0.0.1", port) as sock:
        async with server.session_manager.run(), http.serving(app, sock, connections):
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
