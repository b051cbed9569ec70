"""Lets a new GET stream of a session replace the previous one.

A stream can die without the server noticing, for example at a proxy. The SDK refuses a second stream of the
session, so its client would get no messages until the first one times out.
"""

import asyncio
import contextlib

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

_REPLACE_SECONDS = 2.0


class NewestStream:
    """Middleware that closes the open GET stream of a session when its owner opens another one."""

    def __init__(self, app: ASGIApp, manager: StreamableHTTPSessionManager) -> None:
        self._app = app
        self._manager = manager
        self._open: dict[tuple[str | None, str], asyncio.Event] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session_id = Headers(scope=scope).get(MCP_SESSION_ID_HEADER) if scope["type"] == "http" else None
        if session_id is None or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        user = scope.get("user")
        key = (user.display_name if isinstance(user, AuthenticatedUser) else None, session_id)
        await self._close(key)
        ended = self._open[key] = asyncio.Event()
        try:
            await self._app(scope, receive, send)
        finally:
            ended.set()
            if self._open.get(key) is ended:
                del self._open[key]

    async def _close(self, key: tuple[str | None, str]) -> None:
        previous = self._open.get(key)
        # The SDK has no other access to a session than its table.
        transport = self._manager._server_instances.get(key[1])
        if previous is None or transport is None:
            return
        transport.close_standalone_sse_stream()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REPLACE_SECONDS):
                await previous.wait()
