"""The facts of triage about a load balancer. `facts.py` lists them among the others."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class BalancerUnit(TypedDict):
    """A unit of the load balancer, as in systemctl(1). `started_at`: None if it does not run."""

    load: str
    active: str
    sub: str
    result: str
    restarts: int
    started_at: float | None


class Haproxy(BalancerUnit):
    """HAProxy. `silent`: why its runtime socket does not answer, empty if it does."""

    silent: str


class HaproxyConfig(TypedDict):
    """The configuration of HAProxy.

    `problems`: what `haproxy -c` rejects or warns of. `edited`: whether the file differs from what the
    settings render. `in_use`: whether the running process uses the settings; None without an answer.
    """

    problems: list[str]
    edited: bool
    in_use: bool | None


class OutOfRotation(TypedDict):
    """The record of a host that is out of rotation, with the fields of `load_balancer.rotation.Entry`."""

    procedure: str
    who: str
    since: str
    why: str


class BalancerServer(TypedDict):
    """A server in HAProxy's view, with fields of `load_balancer.server_state.ServerState`."""

    address: str
    status: str
    weight: int
    sessions: int
    check: str


class Rotation(TypedDict):
    """Which hosts are out of rotation by the record, and what HAProxy does; both by the host's name.

    `servers`: None if HAProxy does not answer.
    """

    out: dict[str, OutOfRotation]
    servers: dict[str, BalancerServer] | None


class VirtualAddress(TypedDict):
    """The address that load balancers share, as keepalived is configured.

    `held`: whether this load balancer had it all the time that was watched. `refused`: why the clients' port
    at the address cannot be connected to from here, empty if it can.
    """

    address: str
    interface: str
    unit: BalancerUnit
    held: Literal["always", "never", "sometimes"]
    refused: str


class BalancerCertificate(TypedDict):
    """The certificate that HAProxy presents to clients, in PEM.

    `ends_at`: seconds since the epoch, which the control node adds; None if it cannot read the certificate.
    """

    pem: str
    ends_at: NotRequired[float | None]


class Fleet(TypedDict):
    """The names in the inventory, which the control node adds."""

    hosts: list[str]
    load_balancers: list[str]
