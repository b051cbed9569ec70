"""Limits the open sessions of the older protocol generation, per token and in total.

The SDK has only a limit in total, first come first served, and does not report when a session ends. So this
middleware counts sessions from the requests that pass through it, which open, use and end them. A session
that fails inside the SDK counts until its idle timeout. The newer protocol generation has no sessions.
"""

import math
import time
from collections.abc import Collection
from dataclasses import dataclass

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp.types import INTERNAL_ERROR, ErrorData, JSONRPCError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from katago_mcp.auth import ANALYZE, ANONYMOUS
from katago_mcp.errors import Rejected
from katago_mcp.logs import Log
from katago_mcp.metrics import Metrics
from katago_mcp.settings import Settings

PATH = "/mcp"
"""The path at which the SDK serves MCP."""

_NOT_FOUND = 404
_FIRST_ERROR = 400
_log = Log(__name__)


@dataclass(eq=False)
class _Session:
    owner: str
    idle_seconds: float
    """Idle timeout. Fixed when the session opens, as in the SDK."""
    id: str | None = None
    """None until the SDK assigns one."""
    requests: int = 0
    """Number of running requests, including open streams."""
    ends: float = math.inf
    """When the idle timeout ends, of `time.monotonic`."""


class Sessions:
    """Admits new sessions within both limits. Runs between authentication and the SDK.

    `secured`: whether callers have tokens. Without tokens, all callers are one owner.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics, *, secured: bool) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._secured = secured
        self._open: set[_Session] = set()
        self._identified: dict[tuple[str, str], _Session] = {}
        metrics.sessions.set_function(lambda: len(self._alive()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        owner = self._owner(scope)
        headers = Headers(scope=scope)
        if owner is None or not _is_older_generation(headers):
            await self._app(scope, receive, send)
            return
        session_id = headers.get(MCP_SESSION_ID_HEADER)
        if session_id is None:
            try:
                session = self._admit(owner)
            except Rejected as rejection:
                await _response(rejection)(scope, receive, send)
                return
            await self._pass(session, scope, receive, send)
        elif (session_in_use := self._identified.get((owner, session_id))) is not None:
            await self._pass(session_in_use, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _pass(self, session: _Session, scope: Scope, receive: Receive, send: Send) -> None:
        opening = session.id is None
        status = None

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if opening and status < _FIRST_ERROR:
                    # Register the id before the client receives it: it may use it before this request ends.
                    self._identify(session, Headers(raw=message["headers"]).get(MCP_SESSION_ID_HEADER))
            await send(message)

        session.requests += 1
        session.ends = math.inf
        try:
            await self._app(scope, receive, watch)
        finally:
            session.requests -= 1
            if session.requests == 0:
                session.ends = time.monotonic() + session.idle_seconds
            if opening:
                over = status is None or status >= _FIRST_ERROR
            else:
                deleted = scope["method"] == "DELETE" and status is not None and status < _FIRST_ERROR
                over = deleted or status == _NOT_FOUND
            if over:
                self._forget(session)

    def _owner(self, scope: Scope) -> str | None:
        """The owner of the session that a request opens or uses; None if the request can do neither."""
        if scope["type"] != "http" or scope["path"] != PATH:
            return None
        user = scope.get("user")
        if isinstance(user, AuthenticatedUser):
            return user.display_name if ANALYZE in user.scopes else None
        return None if self._secured else ANONYMOUS

    def _admit(self, owner: str) -> _Session:
        """Count one more session.

        Raises:
            Rejected: `too_many_sessions`, if the limit per token or in total is reached.
        """
        for session in self._open - self._alive():
            self._forget(session)
        limits = self._settings.config.server
        own = [session for session in self._open if session.owner == owner]
        if len(own) >= limits.max_sessions_per_token:
            raise self._rejection("token", owner, own)
        if len(self._open) >= limits.max_sessions:
            raise self._rejection("total", owner, self._open)
        session = _Session(owner, limits.session_idle_seconds)
        self._open.add(session)
        return session

    def _rejection(self, reason: str, owner: str, blocking: Collection[_Session]) -> Rejected:
        self._metrics.sessions_refused.labels(reason).inc()
        _log.warning("session_refused", reason=reason, caller=owner, open=len(blocking))
        now = time.monotonic()
        longest = self._settings.config.server.session_idle_seconds
        whose = "this token" if reason == "token" else "all clients together"
        return Rejected(
            "too_many_sessions",
            f"{len(blocking)} sessions of {whose} are open, which is the limit",
            accepted="fewer sessions (end each with DELETE), or protocol 2026-07-28, which has no sessions",
            retry_after=min(longest, *(session.ends - now for session in blocking)),
        )

    def _alive(self) -> set[_Session]:
        now = time.monotonic()
        return {session for session in self._open if session.ends > now}

    def _identify(self, session: _Session, session_id: str | None) -> None:
        if session_id is not None:
            session.id = session_id
            self._identified[session.owner, session_id] = session

    def _forget(self, session: _Session) -> None:
        self._open.discard(session)
        if session.id is not None:
            self._identified.pop((session.owner, session.id), None)


def _is_older_generation(headers: Headers) -> bool:
    # The same test as in the SDK [StreamableHTTPSessionManager]: the older generation may omit the version.
    version = headers.get(MCP_PROTOCOL_VERSION_HEADER)
    return version is None or version in HANDSHAKE_PROTOCOL_VERSIONS


def _response(rejection: Rejected) -> Response:
    """The rejection in the SDK's format: an HTTP status, and a JSON-RPC error without an id."""
    error = ErrorData(code=INTERNAL_ERROR, message=str(rejection), data=rejection.details())
    return Response(
        JSONRPCError(jsonrpc="2.0", id=None, error=error).model_dump_json(by_alias=True, exclude_unset=True),
        status_code=503,
        headers={"Retry-After": str(rejection.retry_after)},
        media_type="application/json",
    )
