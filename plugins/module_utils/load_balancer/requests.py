"""Requests through a load balancer, as clients make them."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass

from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import Settings, split_name

SECONDS = 10
"""How long an answer may take."""
_MOST_BYTES = 65536
_INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "load-balancer-check", "version": "1"},
    },
}


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    status: int
    body: str


def send(
    settings: Settings, address: str, path: str, *, body: bytes | None = None, name: str = ""
) -> Answer | None:
    """Send a request; None without an answer. `body`: makes it a POST. `name`: the Host header."""
    headers = {"Host": name} if name else {}
    if body is not None:
        headers |= {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        }
    connection = _connection(settings, address)
    try:
        connection.request("GET" if body is None else "POST", path, body=body, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, response.read(_MOST_BYTES).decode(errors="replace"))
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def problem(settings: Settings, address: str, *, has_tokens: bool) -> str:
    """Why clients do not get through the load balancer at this address; empty if they do."""
    for path, expected in (("/ready", 200), ("/admin/status", 404), ("/metrics", 404)):
        answer = send(settings, address, path)
        if answer is None:
            return f"{path} at {address} port {settings.port} gets no answer"
        if answer.status != expected:
            return f"{path} gets HTTP {answer.status} instead of {expected}: {answer.body[:200]}"
    for name in settings.names or ("",):
        host = _host_header(settings, name)
        answer = send(settings, address, "/mcp", body=json.dumps(_INITIALIZE).encode(), name=host)
        expected = 401 if has_tokens else 200
        if answer is None or answer.status != expected:
            got = "no answer" if answer is None else f"HTTP {answer.status}: {answer.body[:200]}"
            token = " without a token" if has_tokens else ""
            return f"/mcp{token}, with the host name {host or address}, gets {got} instead of HTTP {expected}"
    return ""


def _host_header(settings: Settings, name: str) -> str:
    """The Host header of a client that calls the load balancer by a name of its settings."""
    host, port = split_name(name)
    if port in ("", "*"):
        port = str(settings.port)
    default = "443" if settings.certificate else "80"
    return host if not host or port == default else f"{host}:{port}"


def _connection(settings: Settings, address: str) -> http.client.HTTPConnection:
    if not settings.certificate:
        return http.client.HTTPConnection(address, settings.port, timeout=SECONDS)
    # Which certificate is presented was compared after the reload; here the address is not its name.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(address, settings.port, timeout=SECONDS, context=context)
