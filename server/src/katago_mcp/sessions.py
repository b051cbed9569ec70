"""The sessions of the older protocol generation: their ids, their limits, and their move to this host.

The SDK keeps a session as an object of one process, and answers 404 for any other, which clients treat as
final.
So this middleware gives clients a signed id instead of the SDK's. A request whose id is valid but not known
here belongs to a session that was opened before a restart, or on another host. The middleware opens a session
in the SDK for it. Nothing else has to move: the server keeps nothing in a session, and uses no capability of
the client.

The SDK has only a limit in total, first come first served, and does not report when a session ends. So the
middleware counts sessions from the requests that pass through it. A session that fails inside the SDK counts
until its idle timeout. The newer protocol generation has no sessions.
"""

import asyncio
import json
import math
import time
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp.types import INTERNAL_ERROR, ErrorData, JSONRPCError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from katago_mcp import __version__
from katago_mcp.auth import ANALYZE, ANONYMOUS
from katago_mcp.errors import Rejected
from katago_mcp.logs import Log
from katago_mcp.metrics import Metrics
from katago_mcp.session_ids import SessionIds
from katago_mcp.settings import Settings

PATH = "/mcp"
"""The path at which the SDK serves MCP."""

MOST_ENDED = 50_000
"""Ended sessions that are remembered, so that their ids are not accepted again."""

_NOT_FOUND = 404
_FIRST_ERROR = 400
_LONGEST_INITIALIZE = 65_536
"""Bytes of a request's body that are read to find out whether it is `initialize`."""
_log = Log(__name__)


@dataclass(eq=False)
class _Session:
    owner: str
    idle_seconds: float
    """Idle timeout. Fixed when the session opens, as in the SDK."""
    id: str | None = None
    """The client's id. None until the SDK has opened the session."""
    sdk_id: str | None = None
    requests: int = 0
    """Number of running requests, including open streams."""
    ends: float = math.inf
    """When the idle timeout ends, of `time.monotonic`."""
    adopted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the SDK has opened the session, or has refused to."""


class Sessions:
    """Admits new sessions and those of other hosts, within both limits.

    Runs between authentication and the SDK.

    `secured`: whether callers have tokens. Without tokens, all callers are one owner.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, metrics: Metrics, ids: SessionIds, *, secured: bool
    ) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._ids = ids
        self._secured = secured
        self._open: set[_Session] = set()
        self._owned: dict[str, set[_Session]] = {}
        self._identified: dict[tuple[str, str], _Session] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        metrics.sessions.set_function(lambda: len(self._alive()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        owner = self._owner(scope)
        headers = Headers(scope=scope)
        if owner is None or not _is_older_generation(headers):
            await self._app(scope, receive, send)
            return
        session_id = headers.get(MCP_SESSION_ID_HEADER)
        if session_id and (owner, session_id) in self._identified:
            await self._use(owner, session_id, scope, receive, send)
            return
        body = _Body(receive)
        requested = await body.initialize() if scope["method"] == "POST" else None
        try:
            if requested is not None or session_id is None:
                await self._open_session(owner, requested, scope, body, send)
            else:
                await self._use(owner, session_id, scope, body, send)
        except Rejected as rejection:
            await _response(rejection)(scope, body, send)

    async def _use(self, owner: str, session_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request of a session: one of this host, of another host, or of none."""
        while (session := self._identified.get((owner, session_id))) is not None:
            await session.adopted.wait()
            if session.sdk_id is not None:
                await self._pass(session, scope, receive, send)
                return
        if (version := self._valid(session_id, owner)) is None:
            await self._app(scope, receive, send)
        elif scope["method"] == "DELETE":
            self._end(session_id)
            await Response(status_code=200)(scope, receive, send)
        else:
            await self._adopt(session_id, owner, version, scope, receive, send)

    async def _open_session(
        self, owner: str, requested: str | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Let the SDK open a session. A client that sends `initialize` with an old id gets a new one."""
        session = self._admit(owner, _peer(scope))
        version = requested if requested in HANDSHAKE_PROTOCOL_VERSIONS else LATEST_HANDSHAKE_VERSION
        session.id = self._ids.issue(owner, version)
        await self._pass(session, _with_session(scope, None), receive, send)

    async def _adopt(
        self, session_id: str, owner: str, version: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Open a session in the SDK for a client that opened its own elsewhere, then pass its request on."""
        session = self._admit(owner, _peer(scope))
        session.id = session_id
        # Requests that arrive meanwhile wait for the end of the adoption.
        self._identified[owner, session_id] = session
        try:
            session.sdk_id, answer = await self._initialize(version, scope)
        finally:
            session.adopted.set()
            if session.sdk_id is None:
                self._forget(session)
        if session.sdk_id is None:
            for message in answer:
                await send(message)
            return
        self._metrics.sessions_adopted.inc()
        _log.info("session_adopted", caller=owner, protocol=version)
        await self._pass(session, scope, receive, send)

    async def _initialize(self, version: str, scope: Scope) -> tuple[str | None, list[Message]]:
        """Open a session in the SDK, as the client did. Returns its id, None if refused, and the answer."""
        client = {"name": "katago-mcp", "version": __version__}
        initialize = {"protocolVersion": version, "capabilities": {}, "clientInfo": client}
        answer = await self._call(
            {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": initialize}, scope, version
        )
        start = next((message for message in answer if message["type"] == "http.response.start"), None)
        if start is None or start["status"] >= _FIRST_ERROR:
            return None, answer
        sdk_id = Headers(raw=start["headers"]).get(MCP_SESSION_ID_HEADER)
        if sdk_id is not None:
            await self._call(
                {"jsonrpc": "2.0", "method": "notifications/initialized"}, scope, version, sdk_id
            )
        return sdk_id, answer

    async def _call(
        self, message: dict[str, object], scope: Scope, version: str, sdk_id: str | None = None
    ) -> list[Message]:
        """Send the SDK a message in the name of the client of a request. Returns the response."""
        content = json.dumps(message).encode()
        own = MutableHeaders(raw=list(scope["headers"]))
        own["content-type"] = "application/json"
        own["accept"] = "application/json, text/event-stream"
        own["content-length"] = str(len(content))
        own[MCP_PROTOCOL_VERSION_HEADER] = version
        del own["transfer-encoding"]
        scope = _with_session({**scope, "method": "POST", "headers": own.raw}, sdk_id)
        sent: list[Message] = []
        body = [{"type": "http.request", "body": content, "more_body": False}]
        answered = asyncio.Event()

        async def receive() -> Message:
            if body:
                return body.pop()
            await answered.wait()
            return {"type": "http.disconnect"}

        async def send(part: Message) -> None:
            sent.append(part)
            if part["type"] == "http.response.body" and not part.get("more_body", False):
                answered.set()

        await self._app(scope, receive, send)
        return sent

    async def _pass(self, session: _Session, scope: Scope, receive: Receive, send: Send) -> None:
        opening = session.sdk_id is None
        status = None

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=list(message["headers"]))
                sdk_id = headers.get(MCP_SESSION_ID_HEADER)
                if opening and status < _FIRST_ERROR:
                    # Register the id before the client receives it: it may use it before this request ends.
                    self._identify(session, sdk_id)
                if sdk_id is not None and session.id is not None:
                    headers[MCP_SESSION_ID_HEADER] = session.id
                    message = {**message, "headers": headers.raw}
            await send(message)

        session.requests += 1
        session.ends = math.inf
        try:
            await self._app(scope if opening else _with_session(scope, session.sdk_id), receive, watch)
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

    def _valid(self, session_id: str, owner: str) -> str | None:
        """The protocol's version of a session that this host accepts without having it; None for others."""
        return None if session_id in self._ended else self._ids.verify(session_id, owner)

    def _admit(self, owner: str, client: str | None) -> _Session:
        """Count one more session. `client`: the address of the client, for the log.

        Raises:
            Rejected: `too_many_sessions`, if the limit per token or in total is reached.
        """
        limits = self._settings.config.server
        own = self._owned.get(owner, set())
        if len(own) >= limits.max_sessions_per_token or len(self._open) >= limits.max_sessions:
            # Only now, because it looks at all sessions.
            for session in self._open - self._alive():
                self._forget(session)
            own = self._owned.get(owner, set())
        if len(own) >= limits.max_sessions_per_token:
            raise self._rejection("token", owner, client, own)
        if len(self._open) >= limits.max_sessions:
            raise self._rejection("total", owner, client, self._open)
        session = _Session(owner, limits.session_idle_seconds)
        self._open.add(session)
        self._owned.setdefault(owner, set()).add(session)
        return session

    def _rejection(
        self, reason: str, owner: str, client: str | None, blocking: Collection[_Session]
    ) -> Rejected:
        self._metrics.sessions_refused.labels(reason).inc()
        _log.warning("session_refused", reason=reason, caller=owner, client=client, open=len(blocking))
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

    def _identify(self, session: _Session, sdk_id: str | None) -> None:
        if sdk_id is not None and session.id is not None:
            session.sdk_id = sdk_id
            session.adopted.set()
            self._identified[session.owner, session.id] = session

    def _forget(self, session: _Session) -> None:
        self._open.discard(session)
        own = self._owned.get(session.owner, set())
        own.discard(session)
        if not own:
            self._owned.pop(session.owner, None)
        if session.id is not None:
            self._identified.pop((session.owner, session.id), None)
            if session.sdk_id is not None:
                self._end(session.id)

    def _end(self, session_id: str) -> None:
        self._ended[session_id] = None
        while len(self._ended) > MOST_ENDED:
            self._ended.popitem(last=False)


class _Body:
    """A `receive` whose first part was read before. It gives that part again, then the rest."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._read: list[Message] = []

    async def __call__(self) -> Message:
        return self._read.pop(0) if self._read else await self._receive()

    async def initialize(self) -> str | None:
        """The protocol's version that the body requests, if it is `initialize`; else None."""
        content = b""
        while True:
            message = await self._receive()
            self._read.append(message)
            content += message.get("body", b"")
            if message["type"] != "http.request" or len(content) > _LONGEST_INITIALIZE:
                return None
            if not message.get("more_body", False):
                return _requested(content)


def _requested(content: bytes) -> str | None:
    try:
        message = json.loads(content)
        version = message["params"]["protocolVersion"] if message["method"] == "initialize" else None
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    return version if isinstance(version, str) else None


def _with_session(scope: Scope, session_id: str | None) -> Scope:
    """A copy of a request's scope with another session id; None for no id."""
    headers = MutableHeaders(raw=list(scope["headers"]))
    del headers[MCP_SESSION_ID_HEADER]
    if session_id is not None:
        headers[MCP_SESSION_ID_HEADER] = session_id
    return {**scope, "headers": headers.raw}


def _peer(scope: Scope) -> str | None:
    client = scope.get("client")
    return None if client is None else str(client[0])


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
