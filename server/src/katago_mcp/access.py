"""Which `Host` names and browser origins may use the server. Names compare as DNS and browsers compare them.

Without these checks, a web page could reach the server through a name that resolves to its address (DNS
rebinding). The case of a name, its final dot and the notation of an IPv6 address make no difference.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]+\]|[^\[\]:/@?#\s]+)(:(?P<port>\d{1,5}|\*))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


@dataclass(frozen=True)
class Authority:
    """A host name or address in canonical form, and its port as text: None without one, or `*`."""

    host: str
    port: str | None = None


def authority(text: str) -> Authority | None:
    """Read `name`, `name:port` or `name:*`; None for anything else. An IPv6 address needs no brackets."""
    text = text.strip()
    if (address := _ipv6(text)) is not None:
        return Authority(address)
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    host = _canonical(match["host"])
    port = match["port"]
    if host is None or (port not in (None, "*") and int(port) > 65535):
        return None
    return Authority(host, port)


def origin(text: str) -> tuple[str, Authority] | None:
    """The scheme (http or https) and the authority of a browser origin; None for anything else."""
    scheme, separator, rest = text.strip().partition("://")
    scheme = scheme.lower()
    place = authority(rest)
    if not separator or scheme not in _DEFAULT_PORTS or place is None:
        return None
    return scheme, place


class Access:
    """The names and origins of a server: loopback, the address to listen on, and the allowed ones."""

    def __init__(self, host: str, hosts: Sequence[str], origins: Sequence[str], *, tls: bool) -> None:
        own = [] if host in _ANY_ADDRESS else [host]
        self._hosts = set(_authorities([*_LOOPBACK, *own, *hosts]))
        self._origins = {place for entry in origins if (place := origin(entry)) is not None}
        scheme = "https" if tls else "http"
        self._origins |= {(scheme, Authority(entry.host, "*")) for entry in _authorities([*_LOOPBACK, *own])}

    def accepts_host(self, header: str | None) -> bool:
        """Whether a `Host` header names this server. A name that is allowed without a port has any port."""
        place = None if header is None else authority(header)
        if place is None or place.port == "*":
            return False
        host, port = place.host, place.port
        if {Authority(host), Authority(host, "*"), Authority(host, port)} & self._hosts:
            return True
        # A client leaves out the default port of its scheme, which a proxy may have changed.
        return port is None and any(Authority(host, str(default)) in self._hosts for default in (80, 443))

    def accepts_origin(self, header: str) -> bool:
        """Whether an `Origin` header is allowed. The default port of the scheme may be left out."""
        place = origin(header)
        if place is None:
            return False
        scheme, (host, port) = place[0], (place[1].host, place[1].port)
        default = str(_DEFAULT_PORTS[scheme])
        ports = {port, "*"} | ({None, default} if port in (None, default) else set())
        return any((scheme, Authority(host, accepted)) in self._origins for accepted in ports)


def _authorities(entries: Iterable[str]) -> list[Authority]:
    return [place for entry in entries if (place := authority(entry)) is not None]


def _canonical(host: str) -> str | None:
    """A host name in lower case without its final dot, or an address in its shortest notation."""
    if host.startswith("["):
        return _ipv6(host[1:-1])
    name = host.lower().removesuffix(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            return None
    return name if re.fullmatch(r"[a-z0-9_.-]+", name) else None


def _ipv6(text: str) -> str | None:
    try:
        return f"[{ipaddress.IPv6Address(text)}]"
    except ValueError:
        return None
