"""Who listens on a port, found on this machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

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


def test_port_of_own_processes_can_be_bound_again_and_that_of_others_names_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert sockets.bind_problem("127.0.0.1", port, [os.getpid()], PROC) is None
        problem = sockets.bind_problem("127.0.0.1", port, [], PROC)
        assert problem is not None
        assert problem.startswith("Address already in use by ")
        assert f"(PID {os.getpid()})" in problem
    assert sockets.bind_problem("127.0.0.1", port, [], PROC) is None


def test_listener_on_another_address_does_not_count() -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        port = own.getsockname()[1]
        with socket.create_server(("127.0.0.2", port)):
            holders = sockets.holders("127.0.0.1", port, PROC)
            assert holders == {os.getpid()}
            assert sockets.holders("127.0.0.3", port, PROC) == set()
            assert sockets.holders("0.0.0.0", port, PROC) == {os.getpid()}


@pytest.mark.parametrize("address", ["::1", "::", "0.0.0.0"])
def test_listener_on_any_family_is_found(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        assert sockets.bind_problem(address, port, [os.getpid()], PROC) is None
        assert sockets.holders(address, port, PROC) == {os.getpid()}


@pytest.mark.parametrize(
    ("address", "port", "problem"),
    [("192.0.2.1", 18080, "Cannot assign requested address"), ("no such host", 18080, "not known")],
)
def test_address_that_the_host_does_not_have_is_a_problem(address: str, port: int, problem: str) -> None:
    assert problem in (sockets.bind_problem(address, port, [], PROC) or "")
