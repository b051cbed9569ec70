"""Whose `X-Forwarded-For` and `X-Forwarded-Proto` the server believes: those of trusted proxies only.

uvicorn's own middleware trusts the loopback address by default, and takes any text as an address.
"""

import ipaddress
from collections.abc import Iterable, Sequence

from starlette.datastructures import Headers
from starlette.types import Scope

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MOST_HOPS = 64


def network(text: str) -> Network | None:
    """Read an address or a network, such as `10.0.0.5` or `fd00::/8`; None for anything else."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


class TrustedProxies:
    """The peers that may say for whom they connect. `entries`: addresses and networks."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._networks = [accepted for entry in entries if (accepted := network(entry)) is not None]

    def seen_through(self, scope: Scope) -> Scope:
        """The scope of a request with the address of the client, and the scheme that it used.

        The scope itself, if the peer is not a trusted proxy or sends no valid header. Then the peer is the
        client.
        """
        peer = scope.get("client")
        if not self._networks or peer is None or not self._trusts(_address(peer[0])):
            return scope
        headers = Headers(scope=scope)
        hops = [hop for value in headers.getlist("x-forwarded-for") for hop in value.split(",")]
        client = self._client(hops[-_MOST_HOPS:])
        scheme = headers.get("x-forwarded-proto", "").strip().lower()
        return {
            **scope,
            **({} if client is None else {"client": (str(client), 0)}),
            **({"scheme": scheme} if scheme in ("http", "https") else {}),
        }

    def _client(self, hops: Sequence[str]) -> Address | None:
        """The last address that is not a proxy itself: everything before it may be invented by a client.

        If all are proxies, the first one. Of a value that is not an address, nothing before it is believed.
        """
        client = None
        for hop in reversed(hops):
            address = _address(hop)
            if address is None:
                break
            client = address
            if not self._trusts(address):
                break
        return client

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in trusted for trusted in self._networks)


def _address(text: str) -> Address | None:
    """Read an address as proxies write it, also with a port; None for anything else.

    An IPv4 address in IPv6 notation is the IPv4 address.
    """
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
