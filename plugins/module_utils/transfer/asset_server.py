"""Serves parts of the file that is its standard input, read-only, to the hosts that it is started for.

A host runs this file's text with `python3 -c` in a transient unit, so it imports only the standard library.
systemd opens the file, so the program needs no permission for its path, and the path can be deleted.
"""

from __future__ import annotations

import hashlib
import hmac
import http.server
import ipaddress
import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

STDIN = 0
# A client that reads nothing for this long is gone.
STALLED_SECONDS = 60


@dataclass(frozen=True)
class Order:
    """What is served, and to whom.

    `token_sha256`: the sha256 of the first part of every path. `parts`: offset and size in bytes of each
    file, by its sha256, which is the second part of the path. `clients`: IP addresses. `address`, `port`:
    where to listen; port 0 is a free one.
    """

    token_sha256: str
    parts: Mapping[str, tuple[int, int]]
    clients: frozenset[str]
    address: str
    port: int

    @classmethod
    def from_json(cls, text: str) -> Order:
        """The order from a JSON object with these keys."""
        order = json.loads(text)
        parts = {name: (int(offset), int(size)) for name, (offset, size) in order["parts"].items()}
        clients = frozenset(order["clients"])
        return cls(order["token_sha256"], parts, clients, order["address"], int(order["port"]))


def status(order: Order, path: str, client: str) -> int:
    """The HTTP status of a request: 200, 403 for a host that the order does not name, 404 otherwise."""
    if plain(client) not in order.clients:
        return 403
    token, name = split(path)
    known = hmac.compare_digest(hashlib.sha256(token.encode()).hexdigest(), order.token_sha256)
    return 200 if known and name in order.parts else 404


def split(path: str) -> tuple[str, str]:
    """The two parts of a path `/TOKEN/SHA256`; empty parts for another path."""
    parts = path.split("/")
    return (parts[1], parts[2]) if len(parts) == 3 and not parts[0] else ("", "")


def plain(address: str) -> str:
    """An IP address in its usual form: an IPv4 address also if a socket for IPv6 accepted it."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return str((parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None) or parsed)


def server(order: Order, file: int) -> http.server.ThreadingHTTPServer:
    """A server that listens as the order says and serves parts of the open file."""

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = STALLED_SECONDS

        def do_GET(self) -> None:
            answer = status(order, self.path, self.client_address[0])
            if answer != 200:
                self.send_error(answer)
                return
            offset, size = order.parts[split(self.path)[1]]
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.flush()
            end = offset + size
            while offset < end:
                # Without sendfile: with a timeout the socket is not blocking.
                block = os.pread(file, min(end - offset, 1 << 20), offset)
                if not block:
                    return
                self.wfile.write(block)
                offset += len(block)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            # The path has the token.
            self.log_message("%s", code)

        def log_error(self, format: str, *arguments: object) -> None:
            del format, arguments

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in order.address else socket.AF_INET

        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing of a client that goes away."""

    return Server((order.address, order.port), Handler)


def main() -> None:
    """Serve until the unit is stopped."""
    server(Order.from_json(sys.argv[1]), STDIN).serve_forever()


if __name__ == "__main__":
    main()
