"""An MCP client of both protocol generations, for programs that measure the service.

It tells apart how a call fails. It never tries a call again: a client that did would hide what others notice.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.module_utils.service import checks as service_checks
from ansible_collections.katago.fleet.plugins.module_utils.service import mcp

Generation = Literal["session", "stateless"]
"""`session`: initialize and a session id, up to 2025-11-25. `stateless`: single requests, 2026-07-28."""
GENERATIONS: tuple[Generation, ...] = ("session", "stateless")
VERSIONS: Mapping[Generation, str] = {"session": mcp.SESSION_VERSION, "stateless": mcp.STATELESS_VERSION}

Kind = Literal[
    "ok",
    "connect",
    "timeout",
    "broken",
    "unavailable",
    "overloaded",
    "session",
    "http",
    "invalid",
    "error",
    "wrong",
    "not_started",
]
"""How a call ended.

`connect`: no connection (refused, unreachable, TLS). `timeout`: no complete response within the deadline.
`broken`: the connection ended before the response did. `unavailable`: the service, its engine or a load
balancer reports that it cannot serve now. `overloaded`: it reports that it has no capacity, or limits the
caller. `session`: the service does not know the session any more. `http`: another HTTP error. `invalid`: the
response is not MCP. `error`: another error of MCP or of the tool. `wrong`: the analysis is not right.
`not_started`: too many calls were running.
"""
OK: Kind = "ok"
FAILURES: Mapping[Kind, str] = {
    "connect": "no connection",
    "timeout": "no answer in time",
    "broken": "connection broken",
    "unavailable": "unavailable",
    "overloaded": "overloaded",
    "session": "session lost",
    "http": "HTTP error",
    "invalid": "no MCP",
    "error": "error of the tool",
    "wrong": "wrong answer",
    "not_started": "not started",
}
"""Each way in which a call fails, and its name in tables."""

HOST_HEADER = "Katago-Host"
"""The header in which a load balancer names the host that answered a probe."""

_OVERLOAD = frozenset({"overloaded", "rate_limited", "too_many_sessions"})
_UNAVAILABLE = (502, 503, 504)
_TOO_MANY_REQUESTS = 429
_NOT_FOUND = 404
_FIRST_ERROR = 400
_LONGEST_REASON = 200
# Ending a session is a courtesy to the server, which ends it anyway when it is idle.
_END_SECONDS = 1.0


@dataclass(frozen=True)
class Target:
    """What is called: `url` of the MCP endpoint, and `name`, under which results are shown.

    `host_header`: the Host header if it differs from the URL's. `ca`: PEM of the certificates that are
    accepted with TLS; empty for those of the system. `pinned`: they are the service's own, and need not have
    the name in the URL.
    """

    name: str
    url: str
    host_header: str = ""
    ca: str = ""
    pinned: bool = False


@dataclass(frozen=True)
class Result:
    """How a call ended. `seconds`: its duration. `status`: of HTTP; None without a response.

    `session`: the number of the session that was used, counted by this process; 0 for none. `session_lost`:
    this call is the first one that found the session lost. `host`: which one answered; empty if it is not
    known. `answer`: the structured content of a successful call.
    """

    kind: Kind
    seconds: float
    status: int | None = None
    reason: str = ""
    session: int = 0
    session_lost: bool = False
    host: str = ""
    answer: Mapping[str, Any] = field(default_factory=dict)


class Client:
    """Calls one target in one protocol generation. Several threads may call at the same time.

    In the session generation all calls share one session, which is opened when the first call needs it and
    again after it was lost. Connections stay open between calls.

    Args:
        target: what is called.
        generation: the protocol generation.
        token: the bearer token; empty for none.
        name: the name of the program, as the server's log shows it.

    Raises:
        ValueError: the certificates of the target are not PEM.
    """

    _numbers = itertools.count(1)

    def __init__(self, target: Target, generation: Generation, token: str, *, name: str) -> None:
        self.target, self.generation = target, generation
        self._token, self._name = token, name
        self._lock = threading.Lock()
        self._idle: list[mcp.Connection] = []
        self._session: tuple[int, str] | None = None
        try:
            self._context = mcp.tls_context(target.url, target.ca, pinned=target.pinned)
        except OSError as error:
            raise ValueError(f"the certificates for {target.name} are not in PEM format: {error}") from error

    def call(self, tool: str, arguments: Mapping[str, Any], seconds: float) -> Result:
        """Call a tool and wait for its result, for at most `seconds` in all, with opening a session."""
        began = time.monotonic()
        attempt = _Attempt(self, began + seconds)
        try:
            attempt.run(tool, arguments)
        except mcp.NoResponse as error:
            attempt.fail(error.failure, str(error))
        return attempt.result(time.monotonic() - began)

    def close(self) -> None:
        """End the session and close all connections."""
        with self._lock:
            session, self._session = self._session, None
            idle, self._idle = self._idle, []
        if session is not None:
            connection = idle.pop() if idle else self.connection()
            with contextlib.suppress(mcp.NoResponse):
                connection.end_session(session[1], _END_SECONDS)
            connection.close()
        for each in idle:
            each.close()

    def connection(self) -> mcp.Connection:
        """An idle connection, or a new one."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return mcp.Connection(
            self.target.url,
            host_header=self.target.host_header,
            context=self._context,
            token=self._token,
        )

    def release(self, connection: mcp.Connection) -> None:
        """Keep a connection for the next call."""
        with self._lock:
            self._idle.append(connection)

    def session(self, connection: mcp.Connection, until: float) -> tuple[int, str]:
        """The number and the id of the session, which is opened if there is none.

        Calls that start at the same time may each open one: none waits for another that hangs. The first
        one is kept. Raises NoResponse or _Refused.
        """
        with self._lock:
            if self._session is not None:
                return self._session
        response = connection.send(mcp.initialize(self._name), until - time.monotonic())
        identifier = response.headers.get(mcp.SESSION_HEADER)
        if (problem := _problem(response)) or not identifier:
            raise _RefusedError(problem or ("invalid", "the server opened no session"), response)
        connection.send(mcp.initialized(identifier), until - time.monotonic())
        with self._lock:
            opened = next(self._numbers), identifier
            if self._session is None:
                self._session = opened
            return opened

    def is_kept(self, session: tuple[int, str]) -> bool:
        """Whether later calls use this session."""
        with self._lock:
            return self._session == session

    def forget(self, session: tuple[int, str]) -> bool:
        """Let the next call open another session, since the server does not know this one.

        Returns whether no other call noticed it before.
        """
        with self._lock:
            is_first = self._session == session
            if is_first:
                self._session = None
            return is_first

    def request(self, session: str, tool: str, arguments: Mapping[str, Any]) -> mcp.Request:
        """The request of a call. `session`: empty in the stateless generation."""
        if not session:
            return mcp.stateless_call(self._name, tool, arguments)
        return mcp.session_call(session, tool, arguments)


class _RefusedError(Exception):
    """The server did not open a session."""

    def __init__(self, problem: tuple[Kind, str], response: mcp.Response) -> None:
        super().__init__(problem[1])
        self.problem, self.response = problem, response


class _Attempt:
    """One call, and what is known of it so far."""

    def __init__(self, client: Client, until: float) -> None:
        self._client, self._until = client, until
        self._kind: Kind = OK
        self._reason = ""
        self._session: tuple[int, str] | None = None
        self._session_lost = False
        self._response: mcp.Response | None = None

    def fail(self, kind: Kind, reason: str) -> None:
        """Record why the call failed."""
        self._kind, self._reason = kind, reason[:_LONGEST_REASON]

    def run(self, tool: str, arguments: Mapping[str, Any]) -> None:
        """Call the tool. Raises NoResponse."""
        connection = self._client.connection()
        try:
            if self._client.generation == "session":
                self._session = self._client.session(connection, self._until)
            identifier = self._session[1] if self._session else ""
            request = self._client.request(identifier, tool, arguments)
            self._response = connection.send(request, self._until - time.monotonic())
            if problem := _problem(self._response, in_session=self._session is not None):
                self.fail(*problem)
            if self._session is not None:
                self._leave(self._session, connection)
        except _RefusedError as error:
            self._response = error.response
            self.fail(*error.problem)
        finally:
            self._client.release(connection)

    def _leave(self, session: tuple[int, str], connection: mcp.Connection) -> None:
        if self._kind == "session":
            self._session_lost = self._client.forget(session)
        elif not self._client.is_kept(session):
            with contextlib.suppress(mcp.NoResponse):
                connection.end_session(session[1], _END_SECONDS)

    def result(self, seconds: float) -> Result:
        """How the call ended."""
        response = self._response
        answer = (response.message or {}).get("result", {}) if response and self._kind == OK else {}
        return Result(
            kind=self._kind,
            seconds=seconds,
            status=response.status if response else None,
            reason=self._reason,
            session=self._session[0] if self._session else 0,
            session_lost=self._session_lost,
            host=str(response.headers.get(HOST_HEADER) or "") if response else "",
            answer=answer.get("structuredContent") or {},
        )


def _problem(response: mcp.Response, *, in_session: bool = False) -> tuple[Kind, str] | None:
    """What is wrong with a response; None if nothing is."""
    message = response.message or {}
    code, reason = _error(message)
    if response.status >= _FIRST_ERROR:
        shown = f"HTTP {response.status}" + (f", {reason}" if reason else "")
        if response.status == _NOT_FOUND and in_session:
            return "session", shown
        if response.status == _TOO_MANY_REQUESTS:
            return "overloaded", shown
        kind = _kind_of(code)
        if kind == "error":
            kind = "unavailable" if response.status in _UNAVAILABLE else "http"
        return kind, shown
    if code or reason:
        return _kind_of(code), reason
    if not isinstance(message.get("result"), Mapping):
        kind_of_body = "no JSON object" if response.message is None else "no result"
        return "invalid", f"HTTP {response.status}, and {kind_of_body}"
    return None


def _error(message: Mapping[str, Any]) -> tuple[str, str]:
    """The error code and the text of a response that is an error; both empty for others."""
    error, result = message.get("error"), message.get("result")
    if isinstance(error, str):
        # A refusal of a load balancer.
        return error, f"{error}: {message.get('message', '')}"
    if isinstance(error, Mapping):
        data = error.get("data")
        text = str(error.get("message") or error.get("code") or "error")
        return str(data.get("code") or "") if isinstance(data, Mapping) else "", text
    if isinstance(result, Mapping) and result.get("isError"):
        content = result.get("content")
        first = content[0] if isinstance(content, list) and content else {}
        text = str(first.get("text") or "error") if isinstance(first, Mapping) else "error"
        return text.partition(":")[0], text
    return "", ""


def _kind_of(code: str) -> Kind:
    if code in _OVERLOAD:
        return "overloaded"
    counted = service_checks.status({"ok": False, "error": code, "text": ""})
    return "unavailable" if code in ("draining", "unavailable") or counted == "unavailable" else "error"
