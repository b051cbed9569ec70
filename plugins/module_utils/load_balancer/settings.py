"""The settings from which the configuration of HAProxy is rendered."""

from __future__ import annotations

import ipaddress
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from ansible_collections.katago.fleet.plugins.module_utils.common import directories, files, shape

VERSION = 1
BACKEND = "mcp"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
"""The names of servers in HAProxy."""
_ADDRESS_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
# A name with or without a port, or an IPv6 address in brackets. HAProxy would read "-i" as an option.
_HOST_NAME = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?)(?::(?:[0-9]+|\*))?"
)
_PATH = re.compile(r"/[A-Za-z0-9_./-]+")
PORTS = range(1, 65536)


class LoadBalancerError(Exception):
    """The load balancer cannot do what was requested. The message says what happened and what to do."""


@dataclass(frozen=True)
class Server:
    """A host of the fleet as HAProxy reaches it. `name`: its inventory name. `id`: its number in HAProxy.

    `tls_name`: the name that its certificate must have; empty for any name.
    """

    name: str
    id: int
    address: str
    port: int
    tls: bool = False
    tls_name: str = ""


class Socket(NamedTuple):
    """Where HAProxy listens. `field`: the setting with the port."""

    field: str
    address: str
    port: int


@dataclass(frozen=True)
class Settings:
    """All that the configuration of HAProxy depends on, except which servers are out of rotation.

    `local_name`: the load balancer's own name. `names`: the accepted host names of clients; empty for any.
    `certificate`: the file with HAProxy's certificate and key; empty for plain HTTP on `http_port`. With a
    certificate, clients use `https_port`, and `http_port` only redirects to it; 0 for no such port.
    `ca_file`: verifies the servers' certificates. `server_tls_name`: the name that all of them must have;
    empty for that of each server. `rate_limit`: requests of one client address in 10 seconds; 0 for no limit.
    `peers_port`, `relay_port`: loopback ports by which a new process gets the sessions and the late requests
    of the one that it replaces. Times are in seconds.
    """

    version: int
    local_name: str
    servers: tuple[Server, ...]
    names: tuple[str, ...] = ()
    listen_addresses: tuple[str, ...] = ("0.0.0.0",)  # noqa: S104 (clients come from everywhere)
    http_port: int = 80
    https_port: int = 443
    certificate: str = ""
    ca_file: str = ""
    server_tls_name: str = ""
    metrics_address: str = "127.0.0.1"
    metrics_port: int = 8404
    peers_port: int = 8405
    relay_port: int = 8406
    max_connections: int = 2000
    max_connections_per_server: int = 2000
    max_request_bytes: int = 12_648_448
    rate_limit: int = 200
    queue_timeout: int = 10
    idle_timeout: int = 60
    reload_timeout: int = 960

    @classmethod
    def load(cls, path: Path) -> Settings:
        """Read the settings from a file. Raises OSError; LoadBalancerError if they are not valid."""
        try:
            return parsed(shape.parsed(path.read_bytes()))
        except shape.ShapeError as error:
            raise LoadBalancerError(
                f"{path}: {error}. Write the settings again: `ansible-playbook playbooks/load_balancer.yml`"
            ) from error

    def write(self, path: Path) -> None:
        """Replace the settings file."""
        directories.make(path.parent, own=path.parent)
        files.write(path, self.content(), mode=0o644)

    @property
    def port(self) -> int:
        """The port of clients."""
        return self.https_port if self.certificate else self.http_port

    def sockets(self) -> list[Socket]:
        """Where HAProxy listens."""
        ports = [("https_port", self.https_port)] if self.certificate else []
        ports += [("http_port", self.http_port)] if self.http_port else []
        return [
            *(Socket(field, address, port) for field, port in ports for address in self.listen_addresses),
            Socket("metrics_port", self.metrics_address, self.metrics_port),
            Socket("peers_port", "127.0.0.1", self.peers_port),
            Socket("relay_port", "127.0.0.1", self.relay_port),
        ]

    def content(self) -> bytes:
        """The content of the settings file."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"


def reachable(address: str) -> str:
    """The address at which the host itself reaches a listening address."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 (compared, not bound)


def is_address(text: str) -> bool:
    """Whether HAProxy can call a server at this address: a host name, or an IP address without a zone."""
    return bool(_ADDRESS_NAME.fullmatch(text)) or is_ip_address(text)


def is_ip_address(text: str) -> bool:
    """Whether a text is an IP address without a zone."""
    try:
        return "%" not in text and ipaddress.ip_address(text) is not None
    except ValueError:
        return False


def parsed(value: object) -> Settings:
    """The settings in a JSON value. Raises ShapeError; the message names the field."""
    settings = shape.record(Settings, value)
    check(settings)
    return settings


def split_name(name: str) -> tuple[str, str]:
    """The host in lower case and the port of `name`, `name:port` or `name:*`; an empty port without one.

    A final dot does not belong to the host.
    """
    host, colon, port = name.lower().rpartition(":")
    if not colon or not (port == "*" or port.isdigit()) or host[-1:] == ":":
        host, port = name.lower(), ""
    return host.removesuffix("."), port


def numbered(names: Iterable[str], previous: Mapping[str, int]) -> dict[str, int]:
    """A number for each server. Known servers keep theirs, since sessions are stored with it."""
    ordered = sorted(names)
    numbers = {name: previous[name] for name in ordered if name in previous}
    free = (number for number in range(1, len(ordered) + 1) if number not in numbers.values())
    return {name: numbers[name] if name in numbers else next(free) for name in ordered}


def check(settings: Settings) -> None:
    """Reject what would change the meaning of the rendered configuration. Raises ShapeError."""
    if settings.version != VERSION:
        raise shape.ShapeError(f"version is {settings.version}, not {VERSION}")
    if not settings.servers:
        raise shape.ShapeError("servers is empty, not a list with at least one server")
    for place, values in (
        ("servers.name", [server.name for server in settings.servers]),
        ("servers.id", [str(server.id) for server in settings.servers]),
    ):
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise shape.ShapeError(f"{place} has {twice[0]} more than once")
    for number, server in enumerate(settings.servers):
        _require(f"servers[{number}].name", server.name, NAME)
        if not is_address(server.address):
            raise shape.ShapeError(
                f"servers[{number}].address is {server.address!r:.80}, which is neither an IP address nor a"
                " host name"
            )
        _require_number(f"servers[{number}].port", server.port, PORTS)
        _require_number(f"servers[{number}].id", server.id, range(1, 2**31))
        if server.tls_name:
            _require(f"servers[{number}].tls_name", server.tls_name, _HOST_NAME)
    _require("local_name", settings.local_name, NAME)
    for name in settings.names:
        _require("names", name, _HOST_NAME)
    if not settings.listen_addresses:
        raise shape.ShapeError("listen_addresses is empty, not a list with at least one address")
    for address in settings.listen_addresses:
        _require_ip_address("listen_addresses", address)
    _require_ip_address("metrics_address", settings.metrics_address)
    for place in ("certificate", "ca_file"):
        if value := getattr(settings, place):
            _require(place, value, _PATH)
    if settings.server_tls_name:
        _require("server_tls_name", settings.server_tls_name, _HOST_NAME)
    if any(server.tls for server in settings.servers) and not settings.ca_file:
        raise shape.ShapeError("ca_file is empty, but a server uses TLS")
    _require_ports(settings)
    _require_distinct_sockets(settings)
    for place in (
        *("max_connections", "max_connections_per_server", "max_request_bytes"),
        *("queue_timeout", "idle_timeout", "reload_timeout"),
    ):
        _require_number(place, getattr(settings, place), range(1, 2**31))
    _require_number("rate_limit", settings.rate_limit, range(2**31))


def _require_ports(settings: Settings) -> None:
    client = "https_port" if settings.certificate else "http_port"
    for place in (client, "metrics_port", "peers_port", "relay_port"):
        _require_number(place, getattr(settings, place), PORTS)
    if settings.certificate and settings.http_port:
        _require_number("http_port", settings.http_port, PORTS)


def _require_distinct_sockets(settings: Settings) -> None:
    """HAProxy checks this only when it starts."""
    for one, other in itertools.combinations(settings.sockets(), 2):
        if one.field != other.field and one.port == other.port and _conflict(one.address, other.address):
            raise shape.ShapeError(
                f"{other.field} is {other.port}, the same as load_balancer_{one.field}. Give each a port of"
                " its own"
            )


def _conflict(one: str, other: str) -> bool:
    """Whether two sockets with these addresses cannot have the same port."""
    addresses = (ipaddress.ip_address(one), ipaddress.ip_address(other))
    return addresses[0] == addresses[1] or any(
        each.is_unspecified and (each.version == 6 or addresses[0].version == addresses[1].version)
        for each in addresses
    )


def _require_ip_address(place: str, value: str) -> None:
    if not is_ip_address(value):
        raise shape.ShapeError(f"{place} has {value!r:.80}, which is not an IP address")


def _require(place: str, value: str, form: re.Pattern[str]) -> None:
    if not form.fullmatch(value):
        raise shape.ShapeError(f"{place} is {value!r:.80}, which has characters that are not allowed")


def _require_number(place: str, value: int, accepted: range) -> None:
    if value not in accepted:
        raise shape.ShapeError(f"{place} is {value}, not {accepted.start} to {accepted.stop - 1}")
