"""The asset host serves exactly the files of its order, to the hosts of its order, at the secret path."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.transfer import asset_server

TOKEN = "a-random-token"
A, B = "a" * 64, "b" * 64
ORDER = asset_server.Order(
    hashlib.sha256(TOKEN.encode()).hexdigest(),
    {A: (0, 3), B: (3, 5)},
    frozenset({"127.0.0.1"}),
    "127.0.0.1",
    0,
)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """The port of a server of the order."""
    path = tmp_path / "bundle"
    path.write_bytes(b"onesecond and more")
    file = os.open(path, os.O_RDONLY)
    # As on a host, the file is deleted as soon as the server has it.
    path.unlink()
    server = asset_server.server(ORDER, file)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()
    os.close(file)


def ask(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_each_file_is_its_part_of_the_bundle(port: int) -> None:
    assert ask(port, f"/{TOKEN}/{A}") == (200, b"one")
    assert ask(port, f"/{TOKEN}/{B}") == (200, b"secon")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        f"/{A}",
        f"/{TOKEN}",
        f"/{TOKEN}/",
        f"/wrong/{A}",
        f"/{TOKEN}/{'c' * 64}",
        f"/{TOKEN}/../etc/passwd",
    ],
)
def test_nothing_else_is_served(port: int, path: str) -> None:
    assert ask(port, path)[0] == 404


def test_nothing_can_be_written(port: int) -> None:
    for method in ("PUT", "POST", "DELETE"):
        assert ask(port, f"/{TOKEN}/{A}", method)[0] == 501


@pytest.mark.parametrize(
    ("client", "expected"), [("127.0.0.1", 200), ("::ffff:127.0.0.1", 200), ("127.0.0.2", 403), ("::1", 403)]
)
def test_other_hosts_are_refused(client: str, expected: int) -> None:
    assert asset_server.status(ORDER, f"/{TOKEN}/{A}", client) == expected


def test_log_has_no_token(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    ask(port, f"/{TOKEN}/{A}")
    ask(port, f"/{TOKEN}/nothing")
    written = capfd.readouterr().err
    assert "200" in written
    assert TOKEN not in written


def test_order_is_read_from_json() -> None:
    order = {**ORDER.__dict__, "clients": ["127.0.0.1"]}
    assert asset_server.Order.from_json(json.dumps(order)) == ORDER
