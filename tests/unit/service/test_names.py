"""Requests to the service under the host names of its clients."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.service import credentials, http
from ansible_collections.katago.fleet.plugins.module_utils.service.endpoints import Endpoints


class Handler(BaseHTTPRequestHandler):
    """Knows one name, as a service with `allowedHosts` does."""

    def do_GET(self) -> None:
        self.send_response(400 if self.headers["Host"] == "go.example.org" else 421)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_request_has_the_name_of_the_client(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "operator_token", lambda: "a-token")
    at = Endpoints(host="127.0.0.1", port=port)
    assert at.status_under("go.example.org") == 400
    assert at.status_under("other.example.org") == 421
    assert http.ask("127.0.0.1", port, "/mcp") == (421, b"")


def test_service_that_does_not_respond_has_no_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "operator_token", lambda: None)
    assert Endpoints(host="127.0.0.1", port=1).status_under("go.example.org") is None
