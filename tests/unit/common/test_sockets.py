"""Who listens on a port, found on this machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import sockets

PROC = Path("/proc")


def test_listener_is_found_by_its_port_and_ports_by_their_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port in sockets.ports_of([os.getpid()], PROC)
        assert sockets.listeners([port], PROC)[port] <= os.getpid()
    assert sockets.listeners([port], PROC) == {}


def test_process_that_is_gone_listens_on_nothing() -> None:
    assert sockets.ports_of([2**22 + 1], PROC) == set()
