"""Slow and many connections: time limits, limits for each client, and the reserve for probes."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import pytest

from katago_mcp.config import Server
from katago_mcp.connections import Connections
from katago_mcp.metrics import Metrics
from support import PATIENCE, Running, Site, eventually
from test_http import Background

HEAD = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
READY = b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connections(descriptors: int = 8192, **limits: int) -> Connections:
    server = Server(**limits)  # type: ignore[arg-type] # pydantic checks them
    return Connections(lambda: server, Metrics("1", None), descriptors)


def admitted(counted: Connections, client: str, count: int) -> int:
    """How many of so many connections of a client are admitted as normal ones."""
    peers = [(client, 1000 + number) for number in range(count)]
    return sum(counted.admit(peer) and not counted.is_reserved(peer) for peer in peers)


def test_one_client_cannot_use_all_connections() -> None:
    counted = connections(max_connections=100, max_connections_per_client=100)
    assert admitted(counted, "10.0.0.1", 200) == 75
    assert admitted(counted, "10.0.0.2", 200) == 25


def test_ended_connections_make_room() -> None:
    counted = connections(max_connections_per_client=1)
    assert counted.admit(("10.0.0.1", 1))
    assert counted.admit(("10.0.0.1", 2))
    assert counted.is_reserved(("10.0.0.1", 2))
    counted.release(("10.0.0.1", 1))
    counted.release(("10.0.0.1", 2))
    assert admitted(counted, "10.0.0.1", 1) == 1


def test_the_reserve_is_limited_for_each_client() -> None:
    counted = connections(max_connections=4, max_connections_per_client=1)
    for port in range(1, 6):
        assert counted.admit(("10.0.0.1", port)) == (port <= 5)
    assert not counted.admit(("10.0.0.1", 6))
    assert counted.admit(("10.0.0.2", 7))


def test_the_limit_is_below_that_of_file_descriptors() -> None:
    assert connections(descriptors=1024, max_connections=4096).total < 1024 - 128
    assert connections(descriptors=1, max_connections=4096).total == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_addresses_of_one_ipv6_network_are_one_client(one: str, other: str, same: bool) -> None:
    counted = connections(max_connections_per_client=1)
    counted.admit((one, 1))
    assert counted.admit((other, 2))
    assert counted.is_reserved((other, 2)) == same


@pytest.fixture
def limited(site: Site) -> Iterator[Running]:
    site.write(server={"headerTimeoutSeconds": 0.5, "bodyTimeoutSeconds": 0.5})
    with site.serving() as running:
        yield running


@pytest.fixture
def crowded(site: Site) -> Iterator[Running]:
    site.write(server={"headerTimeoutSeconds": 600, "maxConnections": 16, "maxConnectionsPerClient": 8})
    with site.serving() as running:
        eventually(lambda: running.metric("katago_mcp_connections") == 0, "no connection of a probe is left")
        yield running


def connect(running: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE)


def closed(sock: socket.socket, trickle: bytes = b"") -> bytes:
    """What the server sends until it closes the connection, while the client sends a byte at a time."""
    received = b""
    sock.settimeout(0.05)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            sock.sendall(trickle[:1])
            trickle = trickle[1:]
            part = sock.recv(65_536)
        except TimeoutError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            return received
        if not part:
            return received
        received += part
    raise AssertionError("the server never closed the connection")


@pytest.mark.parametrize(
    ("start", "trickle"),
    [
        (b"", b""),
        (b"GET /re", b""),
        (b"GET /re", b"a" * 1000),
        ((HEAD + "Content-Length: 1000\r\n\r\n").encode(), b"{" * 900),
        ((HEAD + "Transfer-Encoding: chunked\r\n\r\n").encode(), b""),
    ],
)
def test_slow_requests_end(limited: Running, start: bytes, trickle: bytes) -> None:
    with connect(limited) as sock:
        if start:
            sock.sendall(start)
        received = closed(sock, trickle)
    # A client that is still sending may lose the answer.
    if start and not trickle:
        assert received.startswith(b"HTTP/1.1 408 ")
        assert json.loads(received.partition(b"\r\n\r\n")[2])["error"] == "request_timeout"
    eventually(lambda: limited.answers("/ready") == 200, "the server answers others")


def test_a_slow_second_request_of_a_connection_ends_too(limited: Running) -> None:
    with connect(limited) as sock:
        sock.sendall(READY)
        # Idle for longer than a header may take: another time limit applies.
        time.sleep(0.8)
        sock.sendall(READY)
        time.sleep(0.8)
        sock.sendall(READY[:10])
        received = closed(sock)
    assert received.count(b"HTTP/1.1 200 ") == 2
    assert received.count(b"HTTP/1.1 408 ") == 1


def test_long_answers_are_not_limited(site: Site) -> None:
    site.write(server={"headerTimeoutSeconds": 2, "bodyTimeoutSeconds": 2})
    with site.serving():
        site.behave(analysis="slow", seconds=60)
        call = Background(site, {"position": {"moves": [["B", "D4"]]}})
        eventually(lambda: bool(site.queries()), "the search has started")
        time.sleep(2.5)
        site.behave()
        assert call.result()["ok"]


def test_a_client_at_its_limit_still_gets_probes_and_metrics(crowded: Running) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(8):
            opened.enter_context(connect(crowded)).sendall(b"GET /mcp HTTP/1.1\r\n")
        eventually(lambda: (crowded.metric("katago_mcp_connections") or 0) >= 8, "the connections are open")
        with connect(crowded) as sock:
            sock.sendall(READY)
            assert closed(sock).startswith(b"HTTP/1.1 200 ")
        with connect(crowded) as sock:
            sock.sendall((HEAD + "Content-Length: 2\r\n\r\n{}").encode())
            refused = closed(sock)
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"too_many_connections" in refused
    eventually(lambda: crowded.metric("katago_mcp_connections") == 0, "the connections are closed")


def test_hundreds_of_connections_of_one_client_are_closed_and_the_log_is_bounded(crowded: Running) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(300):
            opened.enter_context(connect(crowded))
        eventually(
            lambda: (crowded.metric("katago_mcp_connections_refused_total", reason="client") or 0) >= 288,
            "all but 8 and the reserve of 4 are closed",
        )
    eventually(lambda: crowded.answers("/ready") == 200, "the closed connections made room")
    logged = [event for event in crowded.events() if event["event"] == "connection_refused"]
    # The limit of the log is 60 events of a kind in a minute.
    assert 0 < len(logged) <= 60
