"""HTTP requests to the service: probes, metrics, admin endpoints."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import prometheus

ASK_SECONDS = 5


def reachable(host: str) -> str:
    """The address at which the host itself reaches a listening address."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)


def secured(config: Mapping[str, Any]) -> bool:
    """Whether a server with this configuration uses TLS on its main port."""
    section = config.get("tls")
    return isinstance(section, Mapping) and bool(section.get("enabled"))


def pinned(certificate: Path) -> ssl.SSLContext:
    """A context that accepts only the first certificate of a PEM file, whatever the host name.

    Raises OSError or ValueError if the file has no certificate.
    """
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    text = certificate.read_text()
    context = ssl.create_default_context(cadata=text[text.index(begin) : text.index(end) + len(end)])
    context.check_hostname = False
    context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def ask(
    host: str,
    port: int,
    path: str,
    *,
    method: str = "GET",
    token: str = "",
    seconds: float = ASK_SECONDS,
    tls: bool = False,
    limit: int | None = None,
    name: str = "",
    document: object = None,
) -> tuple[int, bytes] | None:
    """Status and body of a response; None without a response. At most `limit` bytes are read.

    With `tls` the service must present the host's own certificate. `name`: the Host header, as clients
    send it; empty for the address. `document`: the body of the request, which is sent as JSON; None for no
    body.
    """
    try:
        connection = _connection(reachable(host), port, seconds, tls=tls)
    except (OSError, ValueError):
        return None
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= {"Host": name} if name else {}
        body = None
        if document is not None:
            body = json.dumps(document)
            headers["Content-Type"] = "application/json"
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(limit)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def ask_json(
    host: str,
    port: int,
    path: str,
    *,
    method: str = "GET",
    token: str = "",
    seconds: float = ASK_SECONDS,
    tls: bool = False,
) -> tuple[int, dict[str, Any]] | None:
    """Like `ask`, with the body parsed. A body that is not a JSON object counts as empty."""
    answer = ask(host, port, path, method=method, token=token, seconds=seconds, tls=tls)
    if answer is None:
        return None
    try:
        body = json.loads(answer[1])
    except ValueError:
        body = {}
    return answer[0], body if isinstance(body, dict) else {}


def scrape(host: str, port: int) -> prometheus.Scrape | None:
    """The metrics; None if they are unavailable or not in the exposition format."""
    answer = ask(host, port, "/metrics")
    if answer is None or answer[0] != 200:
        return None
    try:
        return prometheus.parse(answer[1].decode())
    except ValueError:
        return None


def _connection(host: str, port: int, seconds: float, *, tls: bool) -> http.client.HTTPConnection:
    if not tls:
        return http.client.HTTPConnection(host, port, timeout=seconds)
    return http.client.HTTPSConnection(host, port, timeout=seconds, context=pinned(paths.PINNED_CERTIFICATE))
