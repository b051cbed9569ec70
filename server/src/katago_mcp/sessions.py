"""How many sessions of the older protocol generation a token, and everybody together, may have open.

The SDK bounds them in all, for whoever comes first, and tells nobody when one ends. So they are counted by
the requests that pass on their way to it, which begin and end a session and keep it from being idle. One
that breaks down in the SDK counts until it would have been idle for too long. The newer generation of the
protocol has none.
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
"""Where the SDK serves MCP."""

_NOT_FOUND = 404
_FIRST_ERROR = 400
_log = Log(__name__)


@dataclass(eq=False)
class _Session:
    owner: str
    idle_seconds: float
    """How long it may go without a request; fixed when it opens, as the SDK has it."""
    id: str | None = None
    """None until the SDK has given it one."""
    requests: int = 0
    """Those being answered, an open stream among them."""
    ends: float = math.inf
    """When it will have been idle for too long, of `time.monotonic`."""


class Sessions:
    """Lets a session open where both limits allow it; stands between authentication and the SDK.

    `secured`: whether callers carry tokens; without, they are one owner.
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
        if owner is None or not _of_the_older_generation(headers):
            await self._app(scope, receive, send)
            return
        session_id = headers.get(MCP_SESSION_ID_HEADER)
        if session_id is None:
            try:
                session = self._admit(owner)
            except Rejected as refusal:
                await _response(refusal)(scope, receive, send)
                return
            await self._pass(session, scope, receive, send)
        elif (known := self._identified.get((owner, session_id))) is not None:
            await self._pass(known, scope, receive, send)
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
                    # Before the client learns it, which may use it before this request is over.
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
        """Whose session a request opens or uses; None for a request that can do neither."""
        if scope["type"] != "http" or scope["path"] != PATH:
            return None
        user = scope.get("user")
        if isinstance(user, AuthenticatedUser):
            return user.display_name if ANALYZE in user.scopes else None
        return None if self._secured else ANONYMOUS

    def _admit(self, owner: str) -> _Session:
        """Count one more session.

        Raises:
            Rejected: `too_many_sessions`, if its owner or all together have as many as they may.
        """
        for session in self._open - self._alive():
            self._forget(session)
        limits = self._settings.config.server
        own = [session for session in self._open if session.owner == owner]
        if len(own) >= limits.max_sessions_per_token:
            raise self._refused("token", owner, own)
        if len(self._open) >= limits.max_sessions:
            raise self._refused("total", owner, self._open)
        session = _Session(owner, limits.session_idle_seconds)
        self._open.add(session)
        return session

    def _refused(self, reason: str, owner: str, standing: Collection[_Session]) -> Rejected:
        self._metrics.sessions_refused.labels(reason).inc()
        _log.warning("session_refused", reason=reason, caller=owner, open=len(standing))
        now = time.monotonic()
        longest = self._settings.config.server.session_idle_seconds
        whose = "this token" if reason == "token" else "all clients together"
        return Rejected(
            "too_many_sessions",
            f"{len(standing)} sessions of {whose} are open",
            accepted="fewer sessions, each ended with DELETE; or a protocol without them, from 2026-07-28 on",
            retry_after=min(longest, *(session.ends - now for session in standing)),
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


def _of_the_older_generation(headers: Headers) -> bool:
    # As the SDK tells them apart [StreamableHTTPSessionManager]: the older one may name no version.
    version = headers.get(MCP_PROTOCOL_VERSION_HEADER)
    return version is None or version in HANDSHAKE_PROTOCOL_VERSIONS


def _response(refusal: Rejected) -> Response:
    """The refusal as the SDK has its own: the status of HTTP, and an error of JSON-RPC without an id."""
    error = ErrorData(code=INTERNAL_ERROR, message=str(refusal), data=refusal.details())
    return Response(
        JSONRPCError(jsonrpc="2.0", id=None, error=error).model_dump_json(by_alias=True, exclude_unset=True),
        status_code=503,
        headers={"Retry-After": str(refusal.retry_after)},
        media_type="application/json",
    )
