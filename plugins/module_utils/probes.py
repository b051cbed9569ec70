"""The service asked over HTTP, as it is configured to listen: probes, metrics, admin endpoints."""

from __future__ import annotations

import http.client
import json
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import exposition

ASK_SECONDS = 5


def reachable(host: str) -> str:
    """The address by which the host itself reaches a bound one."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)


def ask(
    host: str, port: int, path: str, *, method: str = "GET", token: str = "", seconds: float = ASK_SECONDS
) -> tuple[int, bytes] | None:
    """The status and the body of an answer; None when there was none."""
    connection = http.client.HTTPConnection(reachable(host), port, timeout=seconds)
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def ask_json(
    host: str, port: int, path: str, *, method: str = "GET", token: str = "", seconds: float = ASK_SECONDS
) -> tuple[int, dict[str, Any]] | None:
    """As `ask`, with the body parsed; a body that is not a JSON object counts as empty."""
    answer = ask(host, port, path, method=method, token=token, seconds=seconds)
    if answer is None:
        return None
    try:
        body = json.loads(answer[1])
    except ValueError:
        body = {}
    return answer[0], body if isinstance(body, dict) else {}


def scrape(host: str, port: int) -> exposition.Scrape | None:
    """The metrics, None when there are none in the exposition format."""
    answer = ask(host, port, "/metrics")
    if answer is None or answer[0] != 200:
        return None
    try:
        return exposition.parse(answer[1].decode())
    except ValueError:
        return None
