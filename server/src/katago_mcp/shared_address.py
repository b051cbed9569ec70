"""The address of a shared cache: `redis://HOST:PORT/DATABASE`, `rediss://` with TLS, or `unix:///PATH?db=0`.

Valkey's names of the schemes, `valkey` and `valkeys`, are the same.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

_PORT = 6379
_ENCRYPTED = {"redis": False, "rediss": True, "valkey": False, "valkeys": True}


class AddressError(ValueError):
    """The address is not usable. The text says why and what to do; it never contains the address."""


@dataclass(frozen=True)
class Endpoint:
    """Where the cache listens: a host and a port, or a socket. `user`: None for the default user."""

    host: str = ""
    port: int = _PORT
    socket: Path | None = None
    database: int = 0
    user: str | None = None
    tls: bool = False


def endpoint(url: str) -> Endpoint:
    """Read an address.

    Raises:
        AddressError: for another scheme, a password, a missing host, or a wrong port or database.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressError("its host or port is not valid: write redis://HOST:PORT") from error
    if parts.password is not None:
        raise AddressError("it contains a password: move the password to sharedCache.passwordFile")
    user = unquote(parts.username) if parts.username else None
    if parts.scheme == "unix":
        query = parse_qs(parts.query)
        if parts.hostname or not parts.path.startswith("/") or set(query) - {"db"}:
            raise AddressError("a socket is written as unix:///run/redis/redis.sock or unix:///PATH?db=1")
        return Endpoint(
            socket=Path(unquote(parts.path)), database=_database(query.get("db", ["0"])[-1]), user=user
        )
    if parts.scheme not in _ENCRYPTED:
        raise AddressError("its scheme is not one of redis, rediss (with TLS) and unix")
    _refuse_extras(parts)
    if not parts.hostname:
        raise AddressError("it has no host: write redis://HOST:PORT")
    return Endpoint(
        host=parts.hostname,
        port=_PORT if port is None else port,
        database=_database(parts.path.removeprefix("/") or "0"),
        user=user,
        tls=_ENCRYPTED[parts.scheme],
    )


def _refuse_extras(parts: SplitResult) -> None:
    if parts.query or parts.fragment:
        raise AddressError("it has options behind the database, which this server does not read: remove them")


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 4):
        raise AddressError("its database is not a number such as 0")
    return int(text)
