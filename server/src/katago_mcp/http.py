"""The HTTP side: MCP, health, readiness and admin endpoints; metrics on a port of their own.

`/mcp` and `/admin/*` check Host and Origin on every bind, so that no web page can reach them
through a name of its own (DNS rebinding). `/health` and `/ready` do not: balancers ask by address.
"""

import asyncio
import contextlib
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
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
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
from katago_mcp.config import Config
from katago_mcp.logs import Log
from katago_mcp.metrics import Metrics
from katago_mcp.reload import Reloader
from katago_mcp.sessions import Sessions
from katago_mcp.settings import Settings
from katago_mcp.supervisor import Supervisor
from katago_mcp.tls import Tls

SHUTDOWN_SECONDS = 1
"""How long open streams may outlive the last answer when the server stops."""

_log = Log(__name__)
_REFUSED = {401: "unauthenticated", 403: "forbidden", 421: "misdirected"}


class BindError(Exception):
    """An address cannot be listened on; the text names it and says why."""


@dataclass(frozen=True)
class Operations:
    """What the endpoints report on and act upon."""

    settings: Settings
    reloader: Reloader
    supervisor: Supervisor
    analyst: Analyst
    cache: Cache | None
    metrics: Metrics
    release: str | None
    tokens: Tokens | None
    started: float
    """Of `time.monotonic`."""


def security(config: Config) -> TransportSecuritySettings:
    """The Host and Origin values to accept: of the loopback, of the bind, and configured ones.

    An entry is a name, a name with a port, or a name with `:*` for any port.
    """
    server = config.server
    names = ["localhost", "127.0.0.1", "[::1]"]
    if server.host not in ("0.0.0.0", "::", *names):  # noqa: S104 - compared, not bound
        names.append(f"[{server.host}]" if ":" in server.host else server.host)
    hosts = [entry for name in names for entry in (name, f"{name}:*")]
    scheme = "https" if config.tls.enabled else "http"
    origins = [f"{scheme}://{entry}" for entry in hosts]
    return TransportSecuritySettings(
        allowed_hosts=hosts + server.allowed_hosts,
        allowed_origins=origins + server.allowed_origins,
    )


def application(mcp: MCPServer[dict[str, Any]], operations: Operations) -> "Application":
    """The application for the main port."""
    allowed = security(operations.settings.config)

    def allow() -> None:
        now = security(operations.settings.config)
        # The SDK holds on to the object that it was given, and looks into it for every request.
        allowed.allowed_hosts, allowed.allowed_origins = now.allowed_hosts, now.allowed_origins

    operations.settings.watch(allow)
    _add_probes(mcp, operations)
    _add_admin(mcp, operations, TransportSecurityMiddleware(allowed))
    # Stateful with SSE: the only mode that gives progress and cancellation to both generations
    # of the protocol.
    app: Starlette = mcp.streamable_http_app(transport_security=allowed)

    def limit() -> None:
        server, manager = operations.settings.config.server, mcp.session_manager
        manager.max_sessions = server.max_sessions
        manager.session_idle_timeout = server.session_idle_seconds

    limit()
    operations.settings.watch(limit)
    # The last one, so that those before it have said who calls.
    app.user_middleware.append(
        Middleware(Sessions, operations.settings, operations.metrics, secured=operations.tokens is not None)
    )
    return Application(app, operations.metrics)


def metrics_application(metrics: Metrics) -> ASGIApp:
    """The application for the metrics port: `/metrics`, and nothing else."""
    expose = make_asgi_app(registry=metrics.registry)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/metrics":
            await Response("metrics are at /metrics\n", status_code=404)(scope, receive, send)
        else:
            await expose(scope, receive, send)

    return app


def health(operations: Operations) -> tuple[bool, dict[str, Any]]:
    """Whether the server itself works, whatever the engine does; and the details."""
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
    """Whether an analysis asked for now would be answered; and why not."""
    status = operations.supervisor.status()
    reason = None
    if operations.analyst.draining:
        reason = "draining"
    elif status.state != "ready":
        reason = f"engine {status.state}" + (f": {status.reason}" if status.reason else "")
    elif not operations.supervisor.beating:
        reason = "no recent heartbeat of the engine"
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
    laid = settings.overlay
    return {
        "overlay": None if laid is None else laid.as_json(settings.configured),
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


def _add_admin(
    mcp: MCPServer[dict[str, Any]], operations: Operations, guard: TransportSecurityMiddleware
) -> None:
    Act = Callable[[], Awaitable[tuple[int, dict[str, Any]]]]

    def route(path: str, act: Act) -> None:
        async def endpoint(request: Request) -> Response:
            misdirected = await guard.validate_request(request)
            if misdirected is not None:
                return misdirected
            denied = _denied(request, operations)
            if denied is not None:
                return denied
            status, body = await act()
            user = request.scope.get("user")
            caller = user.display_name if isinstance(user, AuthenticatedUser) else "anonymous"
            _log.info("admin", path=path, caller=caller, status=status)
            return JSONResponse(body, status)

        mcp.custom_route(path, methods=["POST"])(endpoint)

    async def clear_cache() -> tuple[int, dict[str, Any]]:
        if operations.cache is None:
            return 409, {"ok": False, "error": "cache_disabled", "message": "no cache is in use"}
        try:
            before, after = await operations.cache.clear()
        except CacheTrouble as error:
            return 500, {"ok": False, "error": "cache_trouble", "message": str(error)}
        return 200, {"ok": True, "before": asdict(before), "after": asdict(after)}

    async def restart_engine() -> tuple[int, dict[str, Any]]:
        before = operations.supervisor.status()
        operations.supervisor.restart()
        return 202, {"ok": True, "before": {"state": before.state, "pid": before.pid}}

    def draining(wanted: bool) -> Act:
        async def act() -> tuple[int, dict[str, Any]]:
            before = operations.analyst.draining
            operations.analyst.draining = wanted
            return 200, {
                "ok": True,
                "draining": wanted,
                "changed": before != wanted,
                "inFlight": operations.analyst.busy,
            }

        return act

    async def reload() -> tuple[int, dict[str, Any]]:
        outcome = await operations.reloader.reload()
        if outcome.problems:
            return 422, {
                "ok": False,
                "error": "invalid_config",
                "message": "the configuration was refused and stays as it was",
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
            return 409, {"ok": False, "error": "no_tokens", "message": "no tokens are in use"}
        tokens.reload()
        if tokens.problems:
            return 422, {
                "ok": False,
                "error": "invalid_tokens",
                "message": "the tokens file was refused, and the tokens known before stay valid",
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
        # The configuration allows that on a loopback bind only.
        return None
    user = request.scope.get("user")
    if not isinstance(user, AuthenticatedUser):
        response = _error(401, "unauthenticated", "give a bearer token with the scope 'admin'")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    if ADMIN not in user.scopes:
        return _error(403, "forbidden", "the token lacks the scope 'admin'")
    return None


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"ok": False, "error": code, "message": message}, status)


class Application:
    """The main port's application: counts what it refuses, and refuses everything once closed."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._posts = 0
        self._answered = asyncio.Event()
        self._answered.set()
        self.closed = False

    async def answered(self) -> None:
        """Wait until every POST has been answered; open GET streams do not count."""
        await self._answered.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.closed:
            await _error(503, "stopping", "the server is stopping")(scope, receive, send)
            return
        counted = scope.get("method") == "POST"
        self._posts += counted
        self._note()
        watch = _Watch(scope, send, self._metrics)
        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect:
            _log.info("client_left", path=scope["path"])
        except anyio.ClosedResourceError:
            # A session that ended while its last message, already answered, was on its way to it.
            if not watch.complete:
                raise
        finally:
            self._posts -= counted
            self._note()

    def _note(self) -> None:
        if self._posts:
            self._answered.clear()
        else:
            self._answered.set()


class _Watch:
    """A `send` that counts refusals, and lets nothing through after the end of a response.

    The SDK answers a second time when what it had answered turns out to fail.
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
        BindError: if the address is taken, not this host's, or not an address.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        # Python adds the address to some of these texts; resolver errors have negative numbers.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror
        raise BindError(f"cannot listen on {host}:{port}: {reason}") from error
    sock.setblocking(False)
    # Inherited by every connection. asyncio would do it only for sockets that name their protocol; without,
    # the second part of an answer waits for the client's delayed acknowledgement of the first, some 40 ms.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class _Uvicorn(uvicorn.Server):
    """A uvicorn that leaves the signals to whoever runs it, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, sock: socket.socket, tls: Tls | None = None) -> AsyncIterator[None]:
    """Serve an application on a socket while the context lasts."""
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        timeout_keep_alive=30,
        ssl_context_factory=None if tls is None else lambda *_: tls.context,
    )
    server = _Uvicorn(config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(sockets=[sock]))
        await server.listening.wait()
        try:
            yield
        finally:
            server.should_exit = True


@contextlib.asynccontextmanager
async def serving_mcp(
    app: "Application", mcp: MCPServer[dict[str, Any]], sock: socket.socket, tls: Tls | None
) -> AsyncIterator[None]:
    """Serve the main port while the context lasts.

    The MCP sessions end before the HTTP server does: their open streams would keep it waiting.
    """
    async with contextlib.AsyncExitStack() as sessions:
        await sessions.enter_async_context(mcp.session_manager.run())
        async with serving(app, sock, tls):
            try:
                yield
            finally:
                app.closed = True
                await sessions.aclose()
