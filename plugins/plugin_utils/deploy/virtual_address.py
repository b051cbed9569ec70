"""Which load balancers share a virtual address, and whether their variables agree."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_hosts

_DEFAULTS = Path(__file__).resolve().parents[3] / "roles" / "load_balancer" / "defaults" / "main.yml"
_VARIABLES = {
    "address": "load_balancer_virtual_address",
    "router_id": "load_balancer_router_id",
    "password": "load_balancer_vrrp_password",
}


@dataclass(frozen=True)
class Member:
    """A load balancer as the inventory describes it. `source`: the address at which others reach it."""

    name: str
    source: str
    address: str
    router_id: str
    password: Any


def member(name: str, variables: Mapping[str, Any]) -> Member:
    """A load balancer from its variables; the role's defaults are not among them."""
    defaults = yaml.safe_load(_DEFAULTS.read_text())
    values = {
        key: variables[variable] if variable in variables else defaults[variable]
        for key, variable in _VARIABLES.items()
    }
    return Member(
        name,
        fleet_hosts.address(name, variables),
        str(values["address"]),
        str(values["router_id"]),
        values["password"],
    )


def peers(own: Member, others: Sequence[Member]) -> list[Member]:
    """The other load balancers that have the same virtual address."""
    return [other for other in others if other.address and _ip(other) == _ip(own)]


def problems(own: Member, others: Sequence[Member], addresses: Mapping[str, str]) -> list[str]:
    """What is wrong with the virtual address of `own` beside those of the others. No password is shown.

    `addresses`: those of all hosts of the inventory, by name.
    """
    if not own.address or (virtual := _ip(own)) is None:
        # The host reports an address that is none.
        return []
    found = [
        f"load_balancer_virtual_address is {own.address}, but {name} has the address {address}. Use one"
        " that no host has."
        for name, address in addresses.items()
        if _parsed(address) == virtual.ip
    ]
    for other in peers(own, others):
        if other.router_id != own.router_id:
            found.append(
                f"load_balancer_router_id is {own.router_id} for {own.name}, but {other.router_id} for"
                f" {other.name}, and both share {own.address}. Set the same one for the group load_balancer."
            )
        if str(other.password or "") != str(own.password or ""):
            found.append(
                f"load_balancer_vrrp_password of {own.name} is not that of {other.name}, and both share"
                f" {own.address}. Set the same one for the group load_balancer."
            )
    for other in others:
        theirs = _ip(other)
        is_beside = theirs is not None and theirs.ip != virtual.ip and theirs.network == virtual.network
        if is_beside and other.router_id == own.router_id:
            found.append(
                f"load_balancer_router_id is {own.router_id}, which {other.name} has too, for its virtual"
                f" address {other.address} in the same network. Give each address an id of its own."
            )
    return found


def _ip(each: Member) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    try:
        return ipaddress.ip_interface(each.address)
    except ValueError:
        return None


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
