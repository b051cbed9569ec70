"""The gate in front of all endpoints of the main port: paths, hosts, origins, CORS and protocol versions."""

import json
import re
from typing import Any

from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp.types import UNSUPPORTED_PROTOCOL_VERSION
from mcp_types.version import KNOWN_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from katago_mcp import answers
from katago_mcp.access import Access
from katago_mcp.refusals import MCP_PATH, JsonRefusals, Refusal
from katago_mcp.settings import Settings

EXPOSED_HEADERS = ("Mcp-Session-Id", "MCP-Protocol-Version", "Retry-After", "WWW-Authenticate")
"""Headers of answers that programs in a browser may read."""

_GUARDED = (MCP_PATH, "/admin/")
_SLASHES = re.compile("/{2,}")
_PREFLIGHT_SECONDS = 600
_MAX_READ = 65_536
"""Bytes of a refused request that are read to find its id."""


class Gate:
    """Middleware that refuses what may not pass, and prepares the rest for the application.

    `/health` and `/ready` have no checks of names: load balancers call them by address.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._settings = settings
        self._plain = JsonRefusals(app)
        self._mcp = _Cors(JsonRefusals(_Protocol(app)), self)
        self._allow()
        settings.watch(self._allow)

    def accepts_origin(self, origin: str) -> bool:
        """Whether a browser's origin is allowed."""
        return self._access.accepts_origin(origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._plain(scope, receive, send)
            return
        # Behind a load balancer that ends TLS, a redirect would lead clients to plain HTTP.
        path = _canonical(scope)
        scope = {**scope, "path": path, "raw_path": path.encode()}
        refusal = self._refusal(path, Headers(scope=scope)) if path.startswith(_GUARDED) else None
        if refusal is not None:
            await refusal.response(path)(scope, receive, send)
            return
        await (self._mcp if path == MCP_PATH else self._plain)(scope, receive, send)

    def _allow(self) -> None:
        server, tls = self._settings.config.server, self._settings.config.tls
        self._access = Access(server.host, server.allowed_hosts, server.allowed_origins, tls=tls.enabled)

    def _refusal(self, path: str, headers: Headers) -> Refusal | None:
        if not self._access.accepts_host(headers.get("host")):
            return Refusal(
                *(421, "misdirected", "the host name of the address is not one of this server"),
                "a name in server.allowedHosts, which an operator can change",
            )
        origin = headers.get("origin")
        if origin and not self.accepts_origin(origin):
            return Refusal(
                *(403, "forbidden", "the browser origin is not allowed"),
                "an origin in server.allowedOrigins, which an operator can change",
            )
        return None


def _canonical(scope: Scope) -> str:
    """The path with single slashes and none at the end. An encoded path stays as it is, and has no route.

    The server has no path that needs encoding. Another spelling of a path could evade rules of a proxy.
    """
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    if b"%" in raw:
        return raw.decode("latin-1")
    return _SLASHES.sub("/", scope["path"]).rstrip("/") or "/"


class _Cors(CORSMiddleware):
    """Starlette's CORS, with origins that can change and have any port."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        super().__init__(
            app,
            allow_methods=("GET", "POST", "DELETE", "OPTIONS"),
            allow_headers=("*",),
            expose_headers=EXPOSED_HEADERS,
            max_age=_PREFLIGHT_SECONDS,
            allow_private_network=True,
        )
        self._gate = gate

    def is_allowed_origin(self, origin: str) -> bool:
        """Whether the gate accepts the origin."""
        return self._gate.accepts_origin(origin)


class _Protocol:
    """Refuses unknown protocol versions and forms of answers, and notes the form for the call."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        version = Headers(scope=scope).get(MCP_PROTOCOL_VERSION_HEADER)
        if version is not None and version not in KNOWN_PROTOCOL_VERSIONS:
            refusal = _unknown_version(version)
            data = {"supported": list(KNOWN_PROTOCOL_VERSIONS), "requested": version}
            response = refusal.response(MCP_PATH, await _request_id(receive), data)
            await response(scope, receive, send)
            return
        form = answers.requested_form(scope["query_string"])
        if form is not None and form not in answers.FORMS:
            accepted = " or ".join(f"content={name}" for name in answers.FORMS)
            refusal = Refusal(400, "invalid_request", "content in the address has an unknown value", accepted)
            await refusal.response(MCP_PATH)(scope, receive, send)
            return
        with answers.using(form):
            await self._app(scope, receive, send)


def _unknown_version(version: str) -> Refusal:
    return Refusal(
        400,
        "unsupported_protocol_version",
        f"the server does not know the protocol version {version[:40]!r} of the header MCP-Protocol-Version",
        f"one of {', '.join(KNOWN_PROTOCOL_VERSIONS)}",
        number=UNSUPPORTED_PROTOCOL_VERSION,
    )


async def _request_id(receive: Receive) -> str | int | None:
    """The id of a JSON-RPC request; None if it has none, or is too long."""
    body = b""
    while len(body) < _MAX_READ:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    try:
        request: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    identity = request.get("id") if isinstance(request, dict) else None
    return identity if isinstance(identity, str | int) else None
