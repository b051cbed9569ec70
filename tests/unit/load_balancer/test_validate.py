"""What the module `load_balancer_validate` expects at the virtual address."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import interfaces, requests
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.runtime import Runtime
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.server_state import ServerState
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    LoadBalancerError,
    Settings,
)
from ansible_collections.katago.fleet.plugins.modules import load_balancer_validate
from tests import loopback
from tests.ports import free_ports

ADDRESS = "127.0.0.1"
UP = ServerState(
    name="katago-1", status="UP", sessions=0, address="10.20.0.21:8080", check="HTTP status 200", weight=100
)
HTTPS = {"certificate": "/etc/katago-load-balancer/certificate.pem"}


@pytest.fixture(autouse=True)
def working(monkeypatch: pytest.MonkeyPatch) -> None:
    """The load balancer works at its own address."""
    monkeypatch.setattr(Runtime, "servers", lambda _: {"katago-1": UP})
    monkeypatch.setattr(requests, "problem", lambda *_, **__: "")


def problem(
    monkeypatch: pytest.MonkeyPatch, port: int, *, own: bool, address: str = ADDRESS, **changes: Any
) -> str:
    """Why the load balancer does not serve its clients, if it has the virtual address or another one does."""
    listed = f'[{{"ifname": "eth0", "addr_info": [{{"local": "{address if own else "10.20.0.11"}"}}]}}]'
    monkeypatch.setattr(interfaces, "read", lambda *_: listed)
    settings = Settings(
        version=1, local_name="balancer-1", servers=(), http_port=port, https_port=port, **changes
    )
    return load_balancer_validate.problem(settings, has_tokens=True, virtual_address=f"{address}/24")


def test_without_a_virtual_address_none_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problem(monkeypatch, free_ports(1)[0], own=False, address="") == ""


@pytest.mark.parametrize("own", [True, False])
def test_address_that_answers_200_is_valid(monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    with loopback.http() as balancer:
        assert problem(monkeypatch, balancer.port, own=own) == ""


@pytest.mark.parametrize("status", [308, 503])
def test_own_address_must_answer_200(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with loopback.http(status=status) as balancer:
        text = problem(monkeypatch, balancer.port, own=True)
    assert f"/ready at its port {balancer.port} gets HTTP {status}. See `journalctl -u haproxy" in text


def test_own_address_where_nothing_listens_is_named_with_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = problem(monkeypatch, free_ports(1)[0], own=True, listen_addresses=("10.20.0.11",))
    assert "gets no answer" in text
    assert "load_balancer_listen_addresses is ['10.20.0.11']. Set it to ['0.0.0.0']" in text


@pytest.mark.parametrize("status", [308, 400, 404, 503])
@pytest.mark.parametrize("changes", [{}, HTTPS])
def test_other_load_balancer_may_still_have_the_previous_scheme(
    monkeypatch: pytest.MonkeyPatch, status: int, changes: dict[str, str]
) -> None:
    with loopback.http(status=status) as balancer:
        assert problem(monkeypatch, balancer.port, own=False, **changes) == ""


def test_other_load_balancer_may_still_have_the_previous_port(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problem(monkeypatch, free_ports(1)[0], own=False) == ""


@pytest.mark.parametrize("code", [errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ENETUNREACH])
def test_address_that_no_load_balancer_has_is_a_problem(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(socket, "create_connection", fail)
    text = problem(monkeypatch, 80, own=False)
    assert "no load balancer has the virtual address 127.0.0.1" in text
    assert os.strerror(code) in text
    assert "journalctl -u keepalived" in text


def test_addresses_that_cannot_be_listed_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: str) -> str:
        raise LoadBalancerError("`ip -json address` failed: it is not installed")

    settings = Settings(version=1, local_name="balancer-1", servers=())
    monkeypatch.setattr(interfaces, "read", fail)
    found = load_balancer_validate.problem(settings, has_tokens=True, virtual_address=ADDRESS)
    assert found.startswith("`ip -json address` failed")
