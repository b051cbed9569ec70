"""MCP over HTTP(S) with the standard library: the requests of both protocol generations, and a connection.

For programs that measure the service from outside. A response may be JSON or a stream of events [MCP
2025-11-25 and 2026-07-28, Transports, Streamable HTTP].
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import select
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any, Literal, cast
from urllib.parse import urlsplit

STATELESS_VERSION = "2026-07-28"
"""The protocol generation in which every request stands alone."""
SESSION_VERSION = "2025-11-25"
"""The newest version of the generation with sessions."""
SESSION_HEADER = "Mcp-Session-Id"
PROBE_HEADER = "katago-probe"
"""The server does not count requests with this header as traffic of its cache."""

_MOST_BYTES = 8 << 20
# A stream should end with its answer. If it does not within this time, the connection is not used again.
_STREAM_END_SECONDS = 0.5
_DEFAULT_PORTS = {"http": 80, "https": 443}

Failure = Literal["connect", "timeout", "broken"]


class NoResponse(Exception):
    """The service sent no complete response. The message says why.

    `failure`: `connect` without a connection, `timeout` if the deadline passed, `broken` if the connection
    ended.
    """

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure


@dataclass(frozen=True)
class Request:
    """A message, and the headers that its protocol generation requires."""

    message: Mapping[str, Any]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Response:
    """A complete response. `message`: its JSON object, of a stream the answer; None if it has none."""

    status: int
    headers: Message
    message: Mapping[str, Any] | None


def stateless_call(client: str, tool: str, arguments: Mapping[str, Any]) -> Request:
    """A call of a tool that stands alone. `client`: the name of the program."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": STATELESS_VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": client, "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    parameters = {"name": tool, "arguments": arguments, "_meta": meta}
    return Request(
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": parameters},
        {"MCP-Protocol-Version": STATELESS_VERSION, "Mcp-Method": "tools/call", "Mcp-Name": tool},
    )


def initialize(client: str) -> Request:
    """The request that opens a session; the response has its id in `SESSION_HEADER`."""
    parameters = {
        "protocolVersion": SESSION_VERSION,
        "capabilities": {},
        "clientInfo": {"name": client, "version": "1"},
    }
    return Request({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": parameters}, {})


def initialized(session: str) -> Request:
    """The notification that completes the opening of a session."""
    return Request({"jsonrpc": "2.0", "method": "notifications/initialized"}, _of_session(session))


def session_call(session: str, tool: str, arguments: Mapping[str, Any]) -> Request:
    """A call of a tool in a session."""
    parameters = {"name": tool, "arguments": arguments}
    return Request(
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": parameters}, _of_session(session)
    )


def _of_session(session: str) -> dict[str, str]:
    return {"MCP-Protocol-Version": SESSION_VERSION, SESSION_HEADER: session}


def tls_context(url: str, certificates: str, *, pinned: bool) -> ssl.SSLContext | None:
    """How the certificate of a service is checked; None for an address without TLS.

    `certificates`: PEM of those that are accepted; empty for those of the system. `pinned`: they are the
    service's own, which is called by an address that they need not have. Raises ssl.SSLError.
    """
    if urlsplit(url).scheme != "https":
        return None
    context = ssl.create_default_context(cadata=certificates or None)
    if certificates and pinned:
        context.check_hostname = False
        context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


class Connection:
    """A connection to an MCP endpoint that stays open between requests. For one thread at a time.

    `url`: http, or https with a `context`. `host_header`: empty for the one of the URL. `token`: empty for
    none. `probe`: whether to send `PROBE_HEADER`.
    """

    def __init__(
        self,
        url: str,
        *,
        host_header: str = "",
        context: ssl.SSLContext | None = None,
        token: str = "",
        probe: bool = True,
    ) -> None:
        place = urlsplit(url)
        self._context = context
        self._host = place.hostname or ""
        self._port = place.port or _DEFAULT_PORTS[place.scheme]
        self._path = place.path or "/"
        self._headers = {
            "Host": host_header or place.netloc.rpartition("@")[2],
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            **({"Authorization": f"Bearer {token}"} if token else {}),
            **({PROBE_HEADER: "1"} if probe else {}),
        }
        self._socket: socket.socket | None = None

    def send(self, request: Request, seconds: float) -> Response:
        """Send a request and wait for the whole response, for at most `seconds`. Raises NoResponse."""
        return self._exchange("POST", json.dumps(request.message).encode(), request.headers, seconds)

    def end_session(self, session: str, seconds: float) -> None:
        """Ask the server to forget a session. Raises NoResponse."""
        self._exchange("DELETE", b"", _of_session(session), seconds)

    def close(self) -> None:
        """Close the connection. The next request opens another one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, method: str, body: bytes, headers: Mapping[str, str], seconds: float) -> Response:
        until = time.monotonic() + seconds
        sent = (
            _head(method, self._path, {**self._headers, **headers, "Content-Length": str(len(body))}) + body
        )
        connected = self._connected(until)
        reader = _Reader(connected, until)
        keeps = False
        try:
            connected.settimeout(_left(until))
            connected.sendall(sent)
            # HTTPResponse takes nothing from the socket but the file that it reads.
            response = http.client.HTTPResponse(cast(socket.socket, reader), method=method)
            response.begin()
            message = _message(response, reader)
            keeps = response.isclosed() and not response.will_close
            return Response(response.status, response.headers, message)
        except TimeoutError as error:
            raise NoResponse("timeout", f"no complete response within {seconds:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise NoResponse("broken", f"the connection ended: {_described(error)}") from error
        finally:
            reader.close()
            if not keeps:
                self.close()

    def _connected(self, until: float) -> socket.socket:
        if self._socket is not None and _was_closed(self._socket):
            self.close()
        if self._socket is None:
            try:
                self._socket = _opened(self._host, self._port, self._context, until)
            except OSError as error:
                raise NoResponse("connect", f"no connection: {_described(error)}") from error
        return self._socket


class _Reader(io.RawIOBase):
    """What HTTPResponse reads of a socket. All reads together end at `until`."""

    def __init__(self, connected: socket.socket, until: float) -> None:
        self._socket, self.until = connected, until
        self._raw = connected.makefile("rb", buffering=0)

    def makefile(self, mode: str) -> io.BufferedReader:
        del mode
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(_left(self.until))
        return cast(io.RawIOBase, self._raw).readinto(buffer)

    def close(self) -> None:
        # HTTPResponse closes its file at the end of each response, but the connection stays open.
        self._raw.close()
        super().close()


def _head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    """The head of a request. Raises ValueError for a header that would not be one line."""
    for name, value in headers.items():
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"the header {name} has characters that HTTP does not allow")
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _opened(host: str, port: int, context: ssl.SSLContext | None, until: float) -> socket.socket:
    """Connect to the first address that accepts. Raises OSError."""
    problem: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connecting = socket.socket(family, kind, protocol)
        try:
            connecting.settimeout(_left(until))
            connecting.connect(address)
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is None:
                return connecting
            connecting.settimeout(_left(until))
            return context.wrap_socket(connecting, server_hostname=host)
        except OSError as error:
            connecting.close()
            problem = error
    raise problem


def _was_closed(idle: socket.socket) -> bool:
    """Whether an idle connection has something to read, which can only be its end."""
    poll = select.poll()
    poll.register(idle, select.POLLIN)
    return bool(poll.poll(0))


def _message(response: http.client.HTTPResponse, reader: _Reader) -> Mapping[str, Any] | None:
    if "event-stream" not in (response.headers.get("Content-Type") or ""):
        body = response.read(_MOST_BYTES)
        if response.length:
            raise http.client.IncompleteRead(body, response.length)
        # A body of exactly the limit is complete only after one more read.
        response.read(1)
        return _parsed(body)
    answer = _last_answer(response)
    reader.until = min(reader.until, time.monotonic() + _STREAM_END_SECONDS)
    with contextlib.suppress(OSError, http.client.HTTPException):
        response.read(_MOST_BYTES)
    return answer


def _last_answer(response: http.client.HTTPResponse) -> Mapping[str, Any]:
    """The answer in a stream of events; progress and comments come before it."""
    left = _MOST_BYTES
    data: list[bytes] = []
    while line := response.readline(left):
        left -= len(line)
        content = line.rstrip(b"\r\n")
        if content.startswith(b"data:"):
            data.append(content.removeprefix(b"data:").removeprefix(b" "))
        elif not content and data:
            message = _parsed(b"\n".join(data))
            if message is not None and ("result" in message or "error" in message):
                return message
            data = []
    raise http.client.HTTPException("the stream ended without an answer")


def _parsed(body: bytes) -> Mapping[str, Any] | None:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, Mapping) else None


def _described(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    reason = getattr(error, "strerror", None) or str(error)
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__
