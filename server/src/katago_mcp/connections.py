"""Limits connections: how many a client may open, and how long it may take to send a request.

uvicorn has no time limits for the header and the body of a request, and its limit of connections does not
know clients. So the listening socket counts connections where they are accepted, before any TLS handshake,
and the HTTP protocol has timers. A few connections above the limits stay reserved for `/health` and `/ready`,
so that a server with too many clients still answers probes.
"""

import asyncio
import contextlib
import ipaddress
import os
import resource
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

import h11
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from katago_mcp.config import Server
from katago_mcp.logs import Log
from katago_mcp.metrics import Metrics

PROBES = ("/health", "/ready")
DESCRIPTORS = 8192
"""File descriptors that the server asks for. The service's unit has the same limit."""

_KEPT_DESCRIPTORS = 128
"""Descriptors for the engine, the cache, the log, the metrics port and files that are read."""

_RESERVE, _RESERVE_PER_CLIENT = 32, 4
_RESERVED_SECONDS = 2.0
_LATE = (
    b'{"ok":false,"error":"request_timeout","message":"the request was not complete in time: send it faster"}'
)
_TIMEOUT = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_LATE), _LATE)
)
_log = Log(__name__)


def raise_descriptor_limit() -> int:
    """Raise the soft limit of file descriptors to `DESCRIPTORS`, as far as allowed. Returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    goal = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < goal:
        resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
        return goal
    return soft


class Connections:
    """The open connections of a port. `limits` returns the limits in force."""

    def __init__(
        self, limits: Callable[[], Server], metrics: Metrics, descriptors: int = DESCRIPTORS
    ) -> None:
        self._limits = limits
        self._metrics = metrics
        self._descriptors = descriptors
        self._by_client: Counter[str] = Counter()
        self._reserved_by_client: Counter[str] = Counter()
        self._reserved: set[tuple[str, int]] = set()
        metrics.connections.set_function(lambda: self._by_client.total() + self._reserved_by_client.total())

    @property
    def limits(self) -> Server:
        """The limits in force."""
        return self._limits()

    @property
    def total(self) -> int:
        """Maximum connections of all clients, without the reserve."""
        room = self._descriptors - _KEPT_DESCRIPTORS - _RESERVE
        return max(1, min(self.limits.max_connections, room))

    @property
    def per_client(self) -> int:
        """Maximum connections of one client: never all of them."""
        return max(1, min(self.limits.max_connections_per_client, self.total * 3 // 4))

    def admit(self, peer: tuple[str, int]) -> bool:
        """Count a new connection. False if it must be closed."""
        client = _client_of(peer)
        reason = None
        if self._by_client[client] >= self.per_client:
            reason = "client"
        elif self._by_client.total() >= self.total:
            reason = "total"
        if reason is None:
            self._by_client[client] += 1
            return True
        if (
            self._reserved_by_client[client] < _RESERVE_PER_CLIENT
            and self._reserved_by_client.total() < _RESERVE
        ):
            self._reserved_by_client[client] += 1
            self._reserved.add(peer)
            return True
        self.refuse(reason, client)
        return False

    def release(self, peer: tuple[str, int]) -> None:
        """Forget a connection that ended."""
        client = _client_of(peer)
        counter = self._reserved_by_client if peer in self._reserved else self._by_client
        self._reserved.discard(peer)
        counter[client] -= 1
        if counter[client] <= 0:
            del counter[client]

    def is_reserved(self, peer: tuple[str, int] | None) -> bool:
        """Whether a connection is one of those for probes."""
        return peer in self._reserved

    def refuse(self, reason: str, client: str) -> None:
        """Count and log a refused connection."""
        self._metrics.connections_refused.labels(reason).inc()
        _log.warning("connection_refused", reason=reason, client=client)


class Listener(socket.socket):
    """A listening socket that accepts connections within the limits."""

    def __init__(self, listening: socket.socket, connections: Connections) -> None:
        super().__init__(listening.family, listening.type, listening.proto, fileno=os.dup(listening.fileno()))
        self._connections = connections

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection that the limits admit.

        Raises:
            BlockingIOError: if there is none.
        """
        while True:
            descriptor, address = self._accept()  # type: ignore[attr-defined]
            peer = address[:2]
            if self._connections.admit(peer):
                accepted = _Accepted(self.family, self.type, self.proto, fileno=descriptor)
                accepted.on_close = lambda peer=peer: self._connections.release(peer)
                return accepted, address
            os.close(descriptor)


class _Accepted(socket.socket):
    """A connection that reports its end once."""

    on_close: Callable[[], None] | None = None

    def close(self) -> None:
        if self.on_close is not None:
            self.on_close()
            self.on_close = None
        super().close()


class LimitedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol with time limits for the header and the body of each request."""

    def __init__(self, *arguments: Any, connections: Connections, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None
        self._phase: tuple[str, int] | None = None
        self._requests = 0
        self._reserved = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._reserved = self._connections.is_reserved(self.client)
        if self._reserved:
            self.app = _for_probes(self.app)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        self._requests += 1
        super().on_response_complete()
        if self._reserved:
            self.transport.close()
        self._watch()

    def _waiting_for(self) -> str | None:
        """The part of a request that the client still has to send; None if it has to send nothing."""
        if self.transport.is_closing():
            return None
        if self.cycle is not None and not self.cycle.response_complete:
            return "body" if self.cycle.more_body else None
        # Between two requests, uvicorn's time for idle connections applies.
        is_idle = self.cycle is not None and not self.conn.trailing_data[0]
        return None if is_idle else "header"

    def _watch(self) -> None:
        """Start the timer of the part that the client is sending now."""
        part = self._waiting_for()
        phase = None if part is None else (part, self._requests)
        if phase == self._phase:
            return
        self._stop()
        self._phase = phase
        if part is not None:
            self._timer = self.loop.call_later(self._seconds(part), self._expire, part)

    def _seconds(self, part: str) -> float:
        limits = self._connections.limits
        seconds = limits.header_timeout_seconds if part == "header" else limits.body_timeout_seconds
        return min(seconds, _RESERVED_SECONDS) if self._reserved else seconds

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, part: str) -> None:
        if self._waiting_for() != part:
            return
        self._connections.refuse(part, _client_of(self.client or ("", 0)))
        has_begun = self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0])
        has_answer = self.cycle is not None and self.cycle.response_started
        if has_begun and not (has_answer and part == "body"):
            with contextlib.suppress(OSError):
                self.transport.write(_TIMEOUT)
        self.transport.close()


def _for_probes(app: Any) -> ASGIApp:
    """The application on a reserved connection: it serves only probes."""

    async def probes(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in PROBES:
            await app(scope, receive, send)
            return
        body = {
            "ok": False,
            "error": "too_many_connections",
            "message": "this client, or all clients together, have too many open connections",
            "accepted": "fewer connections: end sessions and streams that are not used",
        }
        headers = {"Connection": "close", "Retry-After": "1"}
        await JSONResponse(body, 503, headers)(scope, receive, send)

    return probes


def _client_of(peer: tuple[str, int]) -> str:
    """The client behind an address: for IPv6 its network, from which one client has many addresses."""
    try:
        address = ipaddress.ip_address(peer[0].partition("%")[0])
    except ValueError:
        return peer[0]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        if not address.is_loopback:
            return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)
