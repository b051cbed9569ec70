"""A service on the loopback interface that speaks MCP in both protocol generations, and fails on command."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.service import mcp
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.client import HOST_HEADER, Target

RIGHT = {"scoreLead": 60.0, "winrate": 0.99, "visits": 8, "moves": [{"move": "E1"}], "cached": False}
SLOW_SECONDS = 0.3
# For a test that fails only: every hanging request ends when the service is closed.
_HANG_SECONDS = 600.0
_LINGER_OFF = struct.pack("ii", 1, 0)


class Service(ThreadingHTTPServer):
    """Answers every analysis with `answer`, and getEngineStatus with `status`.

    `fault`: what happens to calls of tools instead: `slow`, `hang`, `drip` (a byte now and then), `reset`,
    `close`, `truncated`, `text` (no JSON), `no result`, an HTTP status as a number, or an error code of the
    service; `frozen`: every request hangs. `streams`: whether answers are event streams. `endless`: whether
    these streams stay open. `host`: the name in the header of answers; empty for none. `sessions`: those that
    are open. `requests`: headers and messages of all POSTs. `connections`: how many were accepted.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: dict[str, Any] = RIGHT
        self.status: dict[str, Any] = {"ready": True, "state": "ready"}
        self.fault: str | int = ""
        self.streams = False
        self.endless = False
        self.host = ""
        self.sessions: set[str] = set()
        self.opened = 0
        self.ended: list[str] = []
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        self.closed = threading.Event()
        self.scheme = "https" if context else "http"
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def target(self) -> Target:
        """The service as a target."""
        return Target("katago-1", f"{self.scheme}://127.0.0.1:{self.server_port}/mcp")

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The calls of tools that arrived."""
        return [message for _, message in self.requests if message.get("method") == "tools/call"]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        self._open.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients leave; that is no error."""

    def close(self) -> None:
        """Stop, and end all connections."""
        self.closed.set()
        self.shutdown()
        self.server_close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_DELETE(self) -> None:
        self.server.sessions.discard(self.headers[mcp.SESSION_HEADER])
        self.server.ended.append(self.headers[mcp.SESSION_HEADER])
        self._send(200, b"")

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((dict(self.headers), message))
        session = self.headers[mcp.SESSION_HEADER]
        if self.server.fault == "frozen":
            self._hang(drips=False)
        elif message["method"] == "initialize":
            self.server.opened += 1
            session = f"session-{self.server.opened}"
            self.server.sessions.add(session)
            self._answer({"protocolVersion": mcp.SESSION_VERSION}, {mcp.SESSION_HEADER: session})
        elif self.headers["MCP-Protocol-Version"] != mcp.STATELESS_VERSION and (
            session not in self.server.sessions
        ):
            self._send(
                404, b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -32600, "message": "no session"}}'
            )
        elif message["method"] == "notifications/initialized":
            self._send(202, b"")
        else:
            self._call(self.server.fault, message["params"]["name"])

    def _call(self, fault: str | int, tool: str) -> None:
        if isinstance(fault, int):
            self._send(fault, json.dumps({"ok": False, "error": "x", "message": "y"}).encode())
        elif fault in ("hang", "drip"):
            self._hang(drips=fault == "drip")
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
            self.close_connection = True
        elif fault == "close":
            self.close_connection = True
        elif fault == "truncated":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            self.close_connection = True
        elif fault == "text":
            self._send(200, b"<html>welcome</html>")
        elif fault == "no result":
            self._send(200, b'{"jsonrpc": "2.0", "id": 1}')
        elif fault and fault != "slow":
            error = {"error": {"code": fault, "message": "m"}}
            text = [{"type": "text", "text": f"{fault}: m"}]
            self._answer({"isError": True, "content": text, "structuredContent": error})
        else:
            time.sleep(SLOW_SECONDS if fault else 0)
            answer = self.server.status if tool == "getEngineStatus" else self.server.answer
            self._answer({"structuredContent": answer})

    def _hang(self, *, drips: bool) -> None:
        end = time.monotonic() + _HANG_SECONDS
        if drips:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while time.monotonic() < end and not self.server.closed.wait(0.05):
            with contextlib.suppress(OSError):
                self.wfile.write(b" " if drips else b"")
        self.close_connection = True

    def _answer(self, result: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": result})
        if not self.server.streams:
            self._send(200, body.encode(), headers)
            return
        progress = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress"})
        # A message may have several lines of data, and comments keep a stream open.
        half = body.index(",") + 1
        stream = (
            f": ping\r\n\r\nevent: message\r\ndata: {progress}\r\n\r\n"
            f"event: message\r\ndata: {body[:half]}\r\ndata:{body[half:]}\r\n\r\n"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(stream), stream))
        self.wfile.flush()
        if self.server.endless:
            self._hang(drips=False)
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.server.host:
            self.send_header(HOST_HEADER, self.server.host)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        del format, arguments


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Service]:
    """Run a service while the context lasts. `context`: for TLS."""
    service = Service(context)
    try:
        yield service
    finally:
        service.close()
