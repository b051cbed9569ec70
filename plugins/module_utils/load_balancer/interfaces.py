"""The network interfaces of this host and their addresses."""

from __future__ import annotations

import ipaddress
import json

from ansible_collections.katago.fleet.plugins.module_utils.common import commands
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import LoadBalancerError

_SECONDS = 20


def read(*arguments: str) -> str:
    """The output of `ip -json`, such as that of `address`. Raises LoadBalancerError if the command failed."""
    command = ["ip", "-json", *arguments]
    status, output = commands.ask(command, _SECONDS)
    if status != 0:
        reason = " ".join(output.split()) or f"exit status {status}"
        raise LoadBalancerError(f"`{' '.join(command)}` failed: {reason}")
    return output


def with_address(address: str, listed: str) -> str:
    """The interface that has the address; empty if none has it. `listed`: from `read("address")`."""
    for link in json.loads(listed or "[]"):
        if any(_is_same(address, each.get("local", "")) for each in link.get("addr_info", [])):
            return str(link["ifname"])
    return ""


def of_default_route(routes: str) -> str:
    """The interface of the default route; empty without one. `routes`: `read("route", "show", "default")`."""
    return next((str(route["dev"]) for route in json.loads(routes or "[]") if "dev" in route), "")


def _is_same(one: str, other: str) -> bool:
    """Whether two texts are the same address. An IPv6 address has several forms."""
    try:
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    except ValueError:
        return False
