"""Free ports for programs that a test starts."""

from __future__ import annotations

import contextlib
import os
import random
import socket

# Below the ports that Linux gives to clients [ip(7)]: a client could take one before the program does.
_PORTS = (20_000, 32_768)
# Each worker of pytest-xdist has ports of its own: another one could take a port before the program does.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 on which nobody listens now."""
    ports: set[int] = set()
    while len(ports) < count:
        port = random.randrange(_PORTS[0] + _WORKER, _PORTS[1], _WORKERS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.add(port)
    return list(ports)
