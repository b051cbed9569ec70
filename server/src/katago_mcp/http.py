"""The HTTP endpoints: MCP, health, readiness and admin on the main port, metrics on another port.

The gate in front of the main port checks hosts and origins, see `gate`.
"""

import asyncio
import contextlib
import functools
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import asdict, dataclass
from typing import Any

import anyio
import uvicorn
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from prometheus_client import make_asgi_app
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from katago_mcp import __version__
from katago_mcp.analysis import Analyst
from katago_mcp.auth import ADMIN, Tokens
from katago_mcp.cache import Cache, CacheTrouble
from katago_mcp.connections import Connections, LimitedProtocol, Listener
from katago_mcp.desk import DRAINED_SECONDS
from katago_mcp.gate import Gate
from katago_mcp.logs import Log
from katago_mcp.metrics import Metrics
from katago_mcp.presence import exchange
from katago_mcp.proxies import TrustedProxies
from katago_mcp.reload import Reloader
from katago_mcp.session_ids import SessionIds
from katago_mcp.sessions import Sessions
from katago_mcp.settings import Settings
from katago_mcp.sgftree import Limits
from katago_mcp.streams import NewestStream
from katago_mcp.supervisor import Supervisor
from katago_mcp.tls import Tls

MAX_BODY = 3 * Limits().size + 65_536
"""Maximum bytes of a request: a game record of the maximum size fits, escaped in JSON or in base64."""

SHUTDOWN_SECONDS = 1
"""Time that open streams have to close after the last answer when the server stops."""

_log = Log(__name__)
_REFUSED = {401: "unauthenticated", 403: "forbidden", 421: "misdirected"}


class BindError(Exception):
    """The server cannot listen on an address. The text contains the address and the reason."""


@dataclass(frozen=True)
class Operations:
    """The parts of the server that the endpoints use."""

    settings: Settings
    reloader: Reloader
    supervisor: Supervisor
    analyst: Analyst
    cache: Cache | None
    metrics: Metrics
    release: str | None
    tokens: Tokens | None
    session_ids: SessionIds
    started: float
    """Start time, of `time.monotonic`."""


def application(mcp: MCPServer[dict[str, Any]], operations: Operations) -> "Application":
    """The application for the main port."""
    _add_probes(mcp, operations)
    _add_admin(mcp, operations)
    # Stateful with SSE: the only mode with progress and cancellation in both protocol generations.
    app: Starlette = mcp.streamable_http_app(
        # The gate checks hosts and origins.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        max_request_body_size=MAX_BODY,
    )

    def limit() -> None:
        server, manager = operations.settings.config.server, mcp.session_manager
        manager.max_sessions = server.max_sessions
        manager.session_idle_timeout = server.session_idle_seconds

    limit()
    operations.settings.watch(limit)
    # The last middleware, because it needs the caller's identity from the earlier ones.
    app.user_middleware.append(
        Middleware(
            Sessions,
            operations.settings,
            operations.metrics,
            operations.session_ids,
            secured=operations.tokens is not None,
        )
    )
    app.user_middleware.append(Middleware(NewestStream, mcp.session_manager))
    return Application(Gate(app, operations.settings), operations.metrics, operations.settings)


def metrics_application(metrics: Metrics) -> ASGIApp:
    """The application for the metrics port. It serves only `/metrics`."""
    expose = make_asgi_app(registry=metrics.registry)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/metrics":
            await Response("metrics are at /metrics\n", status_code=404)(scope, receive, send)
        else:
            await expose(scope, receive, send)

    return app


def health(operations: Operations) -> tuple[bool, dict[str, Any]]:
    """Whether the server itself works, independent of the engine, with details."""
    status = operations.supervisor.status()
    alive = operations.supervisor.fresh
    return alive, {
        "status": "ok" if alive else "unhealthy",
        "reason": None if alive else "the supervisor makes no progress",
        "engine": {
            "state": status.state,
            "reason": status.reason,
            "pid": status.pid,
            "restarts": status.restarts,
            "version": status.version,
            "network": status.network,
            "startingSeconds": _rounded(status.starting_for),
            "stillSeconds": _rounded(status.still_for),
        },
        "release": operations.release,
        "version": __version__,
        "uptimeSeconds": round(time.monotonic() - operations.started, 1),
        "draining": operations.analyst.draining,
        **_overlay(operations),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def readiness(operations: Operations) -> tuple[bool, dict[str, Any]]:
    """Whether the server can answer an analysis now, with the reason if not."""
    status = operations.supervisor.status()
    reason = None
    if operations.analyst.draining:
        reason = "draining"
    elif status.state != "ready":
        reason = f"engine {status.state}" + (f": {status.reason}" if status.reason else "")
    elif not operations.supervisor.beating:
        reason = "no recent heartbeat from the engine"
    elif operations.analyst.saturated:
        reason = "saturated"
    return reason is None, {
        "ready": reason is None,
        "reason": reason,
        "engine": status.state,
        "inFlight": operations.analyst.busy,
        "release": operations.release,
        "version": __version__,
    }


def _overlay(operations: Operations) -> dict[str, Any]:
    settings = operations.settings
    overlay = settings.overlay
    return {
        "overlay": None if overlay is None else overlay.as_json(settings.configured),
        "overlayProblems": list(operations.reloader.overlay_problems),
    }


def _add_probes(mcp: MCPServer[dict[str, Any]], operations: Operations) -> None:
    async def get_health(_: Request) -> Response:
        alive, body = health(operations)
        return JSONResponse(body, 200 if alive else 503)

    async def get_ready(_: Request) -> Response:
        ready, body = readiness(operations)
        return JSONResponse(body, 200 if ready else 503)

    mcp.custom_route("/health", methods=["GET"])(get_health)
    mcp.custom_route("/ready", methods=["GET"])(get_ready)


def _add_admin(mcp: MCPServer[dict[str, Any]], operations: Operations) -> None:
    Action = Callable[[], Awaitable[tuple[int, dict[str, Any]]]]

    def route(path: str, action: Action) -> None:
        async def endpoint(request: Request) -> Response:
            denied = _denied(request, operations)
            if denied is not None:
                return denied
            status, body = await action()
            user = request.scope.get("user")
            caller = user.display_name if isinstance(user, AuthenticatedUser) else "anonymous"
            client = request.client.host if request.client else None
            _log.info("admin", path=path, caller=caller, client=client, status=status)
            return JSONResponse(body, status)

        mcp.custom_route(path, methods=["POST"])(endpoint)

    async def clear_cache() -> tuple[int, dict[str, Any]]:
        if operations.cache is None:
            return 409, {
                "ok": False,
                "error": "cache_disabled",
                "message": "the cache is disabled (cache.enabled)",
            }
        try:
            before, after = await operations.cache.clear()
        except CacheTrouble as error:
            return 500, {"ok": False, "error": "cache_trouble", "message": str(error)}
        return 200, {"ok": True, "before": asdict(before), "after": asdict(after)}

    async def restart_engine() -> tuple[int, dict[str, Any]]:
        before = operations.supervisor.status()
        operations.supervisor.restart()
        return 202, {"ok": True, "before": {"state": before.state, "pid": before.pid}}

    def draining(enabled: bool) -> Action:
        async def action() -> tuple[int, dict[str, Any]]:
            before = operations.analyst.draining
            operations.analyst.draining = enabled
            return 200, {
                "ok": True,
                "draining": enabled,
                "changed": before != enabled,
                "inFlight": operations.analyst.busy,
            }

        return action

    async def reload() -> tuple[int, dict[str, Any]]:
        outcome = await operations.reloader.reload()
        if outcome.problems:
            return 422, {
                "ok": False,
                "error": "invalid_config",
                "message": "the new configuration is not valid; the previous one stays in force",
                "problems": list(outcome.problems),
                **_overlay(operations),
            }
        return 200, {
            "ok": True,
            "changed": [change.as_json() for change in outcome.changed],
            "needsRestart": [change.as_json() for change in outcome.needs_restart],
            **_overlay(operations),
        }

    async def reload_tokens() -> tuple[int, dict[str, Any]]:
        tokens = operations.tokens
        if tokens is None:
            return 409, {
                "ok": False,
                "error": "no_tokens",
                "message": "no tokens are configured (auth.tokensFile)",
            }
        tokens.reload()
        if tokens.problems:
            return 422, {
                "ok": False,
                "error": "invalid_tokens",
                "message": "the tokens file is not valid; the previous tokens stay in force",
                "problems": list(tokens.problems),
                **tokens.as_json(),
            }
        return 200, {"ok": True, **tokens.as_json()}

    route("/admin/reload", reload)
    route("/admin/tokens/reload", reload_tokens)
    route("/admin/cache/clear", clear_cache)
    route("/admin/engine/restart", restart_engine)
    route("/admin/drain", draining(True))
    route("/admin/undrain", draining(False))


def _denied(request: Request, operations: Operations) -> Response | None:
    if operations.tokens is None:
        # The configuration allows this only on a loopback address.
        return None
    user = request.scope.get("user")
    if not isinstance(user, AuthenticatedUser):
        response = _error(401, "unauthenticated", "send a bearer token with the scope 'admin'")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    if ADMIN not in user.scopes:
        return _error(403, "forbidden", "the token lacks the scope 'admin': use a token that has it")
    return None


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"ok": False, "error": code, "message": message}, status)


class Application:
    """The main port's application. It counts rejected requests, and rejects all requests once closed.

    It finds the clients behind trusted proxies. All other parts see the client as the peer.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, settings: Settings) -> None:
        self._app = app
        self._metrics = metrics
        self._settings = settings
        self._trust()
        settings.watch(self._trust)
        self._posts = 0
        self._answered = asyncio.Event()
        self._answered.set()
        self.closed = False

    async def answered(self) -> None:
        """Wait until every POST is answered. Open GET streams do not count."""
        await self._answered.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.closed:
            response = _error(503, "stopping", "the server is stopping: send the request again")
            response.headers["Retry-After"] = str(DRAINED_SECONDS)
            await response(scope, receive, send)
            return
        scope = self._proxies.seen_through(scope)
        counted = scope.get("method") == "POST"
        self._posts += counted
        self._note()
        watch = _Watch(scope, send, self._metrics)
        try:
            with exchange() as left:
                try:
                    await self._app(scope, receive, watch)
                finally:
                    if not watch.complete:
                        left.set()
        except ClientDisconnect:
            _log.info("client_left", path=scope["path"])
        except anyio.ClosedResourceError:
            # The session ended while its last, already answered message was being delivered.
            if not watch.complete:
                raise
        finally:
            self._posts -= counted
            self._note()

    def _trust(self) -> None:
        self._proxies = TrustedProxies(self._settings.config.server.trusted_proxies)

    def _note(self) -> None:
        if self._posts:
            self._answered.clear()
        else:
            self._answered.set()


class _Watch:
    """A `send` that counts rejections, and drops messages after the end of a response.

    If sending fails, the SDK would send a second response.
    """

    def __init__(self, scope: Scope, send: Send, metrics: Metrics) -> None:
        self.complete = False
        self._scope = scope
        self._send = send
        self._metrics = metrics

    async def __call__(self, message: Message) -> None:
        if self.complete:
            return
        if message["type"] == "http.response.start":
            reason = _REFUSED.get(message["status"])
            if reason is not None:
                self._metrics.http_refused.labels(reason).inc()
                client = (self._scope.get("client") or ("unknown",))[0]
                _log.warning("http_refused", reason=reason, client=client)
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)
        await self._send(message)


def bind(host: str, port: int) -> socket.socket:
    """Bind and listen.

    Raises:
        BindError: if the address is in use, not of this host, or not valid.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        # Python adds the address to some of these messages. Resolver errors have negative numbers.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror
        raise BindError(f"cannot listen on {host}:{port}: {reason}") from error
    sock.setblocking(False)
    # Every connection inherits this. asyncio sets it only for sockets with an explicit protocol. Without it,
    # the second part of an answer waits about 40 ms for the client's delayed acknowledgement of the first.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class _Uvicorn(uvicorn.Server):
    """A uvicorn server that does not handle signals, and has an event for when it listens."""

    def __init__(self, config: uvicorn.Config, handshake_seconds: float) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._handshake_seconds = handshake_seconds

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets. uvicorn's own method has no limit for the TLS handshake."""
        config = self.config

        def protocol() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )

        loop = asyncio.get_running_loop()
        patience = None if config.ssl is None else self._handshake_seconds
        self.servers = [
            await loop.create_server(
                protocol, sock=sock, ssl=config.ssl, backlog=config.backlog, ssl_handshake_timeout=patience
            )
            for sock in sockets or ()
        ]
        self.started = True
        self.listening.set()


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, sock: socket.socket, connections: Connections, tls: Tls | None = None
) -> AsyncIterator[None]:
    """Serve an application on a socket while the context lasts, within the limits of connections."""
    config = uvicorn.Config(
        app,
        http=functools.partial(LimitedProtocol, connections=connections),  # type: ignore[arg-type]
        ws="none",
        access_log=False,
        # The application does it, with a stricter reading of the headers.
        proxy_headers=False,
        log_config=None,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        timeout_keep_alive=30,
        ssl_context_factory=None if tls is None else lambda *_: tls.context,
    )
    server = _Uvicorn(config, connections.limits.header_timeout_seconds)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(sockets=[Listener(sock, connections)]))
        await server.listening.wait()
        try:
            yield
        finally:
            server.should_exit = True


@contextlib.asynccontextmanager
async def serving_mcp(
    app: "Application",
    mcp: MCPServer[dict[str, Any]],
    sock: socket.socket,
    connections: Connections,
    tls: Tls | None,
) -> AsyncIterator[None]:
    """Serve the main port while the context lasts.

    The MCP sessions end before the HTTP server does, which would otherwise wait for their open streams.
    """
    async with contextlib.AsyncExitStack() as sessions:
        await sessions.enter_async_context(mcp.session_manager.run())
        async with serving(app, sock, connections, tls):
            try:
                yield
            finally:
                app.closed = True
                await sessions.aclose()
