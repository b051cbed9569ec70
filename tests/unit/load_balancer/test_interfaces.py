"""The network interfaces of a host, as `ip -json` lists them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import interfaces
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import LoadBalancerError
from ansible_collections.katago.fleet.plugins.modules import load_balancer_address

ADDRESSES = (
    '[{"ifname": "lo", "addr_info": [{"local": "127.0.0.1"}]}, {"ifname": "sit0"},'
    ' {"ifname": "ens3", "addr_info": [{"local": "fd00::1"}, {"local": "10.0.0.101"}]}]'
)
ROUTES = '[{"dst": "default", "dev": "ens4"}]'


@pytest.mark.parametrize(
    ("address", "interface"),
    [
        ("10.0.0.101", "ens3"),
        ("127.0.0.1", "lo"),
        ("fd00:0:0:0::1", "ens3"),
        ("FD00::1", "ens3"),
        ("10.0.0.10", ""),
        ("balancer.example", ""),
        ("", ""),
    ],
)
def test_interface_has_the_address_in_any_form(address: str, interface: str) -> None:
    assert interfaces.with_address(address, ADDRESSES) == interface


@pytest.mark.parametrize(("routes", "interface"), [(ROUTES, "ens4"), ("[]", ""), ("", "")])
def test_default_route_may_be_missing(routes: str, interface: str) -> None:
    assert interfaces.of_default_route(routes) == interface


@pytest.mark.parametrize(("source", "interface"), [("10.0.0.101", "ens3"), ("192.0.2.1", "ens4")])
def test_own_interface_is_that_of_the_own_address_else_of_the_default_route(
    monkeypatch: pytest.MonkeyPatch, source: str, interface: str
) -> None:
    listed = {"address": ADDRESSES, "route": ROUTES}
    monkeypatch.setattr(interfaces, "read", lambda *arguments: listed[arguments[0]])
    assert load_balancer_address.own_interface(source) == interface


def test_failed_command_is_reported_with_its_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "ip"
    program.write_text("#!/bin/sh\necho Cannot open netlink socket >&2\nexit 2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(LoadBalancerError, match=r"`ip -json address` failed: .*Cannot open netlink socket"):
        interfaces.read("address")
    assert load_balancer_address.own_interface("10.0.0.101") == ""
