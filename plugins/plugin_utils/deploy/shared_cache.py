"""The shared cache of answers: what the operator gives, and which addresses the service may reach for it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from urllib.parse import SplitResult, urlsplit

from cryptography import x509

from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import certificates

URL = "katago_mcp_shared_cache_url"
PASSWORD = "katago_mcp_shared_cache_password"  # noqa: S105 (a variable's name)
CA = "katago_mcp_shared_cache_ca"
ADDRESSES = "katago_mcp_shared_cache_addresses"
_SCHEMES = ("redis", "rediss", "valkey", "valkeys", "unix")
_ENCRYPTED = ("rediss", "valkeys")
_PLACEHOLDER = re.compile(r"change.?me|<.*>|\bplaceholder\b", re.IGNORECASE)


def addresses(url: str, configured: Sequence[str]) -> list[str]:
    """The addresses that the service's unit must allow. `configured`: those of the operator, or none.

    Empty for a socket, for no cache, and for a host name, whose addresses the operator must give.
    """
    if configured or not url:
        return list(configured) if url else []
    parts = _split(url)
    host = None if parts is None else parts.hostname
    return [host] if host is not None and (host == "localhost" or is_network(host)) else []


def problems(*, url: str, password: str, ca: str, networks: Sequence[str], session_key: str) -> list[str]:
    """The problems with the variables. No message contains the address, because it may have a password."""
    if not url:
        return [
            f"{variable} is set but {URL} is not. Set both, or neither for no shared cache."
            for variable, value in ((PASSWORD, password), (CA, ca), (ADDRESSES, networks))
            if value
        ]
    return [
        *_url_problems(url, networks),
        *_ca_problems(url, ca),
        *(
            [f"{PASSWORD} is a placeholder. Set the password of the shared cache, from Ansible Vault."]
            if password and _PLACEHOLDER.search(password)
            else []
        ),
        *(
            []
            if session_key.strip()
            else [
                f"{URL} is set but katago_mcp_session_key is not. The hosts sign the entries of the shared"
                " cache with it. Create one for all hosts: openssl rand -hex 32"
            ]
        ),
        *(
            f"{ADDRESSES} has {network!r}; it must be an IP address or a network such as 10.20.0.0/16."
            for network in networks
            if network != "localhost" and not is_network(network)
        ),
    ]


def is_network(text: str) -> bool:
    """Whether a text is an IP address or a network."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _split(url: str) -> SplitResult | None:
    """The parts of an address; None if it is none."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (raises ValueError for a wrong port)
    except ValueError:
        return None
    return parts


def _url_problems(url: str, networks: Sequence[str]) -> Iterator[str]:
    parts = _split(url)
    if parts is None or parts.scheme not in _SCHEMES:
        yield f"{URL} must be redis://HOST:PORT/DATABASE, rediss:// for TLS, or unix:///PATH."
        return
    if parts.password is not None:
        yield f"{URL} contains a password. Move it to {PASSWORD}, and keep that in Ansible Vault."
    if parts.scheme == "unix":
        return
    if not parts.hostname:
        yield f"{URL} has no host. Write redis://HOST:PORT/DATABASE."
    elif not addresses(url, networks):
        yield (
            f"{URL} has the host name {parts.hostname}, which does not tell to which addresses the service"
            f" may connect. Use an IP address, or set {ADDRESSES} to the addresses of this name."
        )


def _ca_problems(url: str, ca: str) -> Iterator[str]:
    if not ca:
        return
    parts = _split(url)
    if parts is not None and parts.scheme not in _ENCRYPTED:
        yield f"{CA} is set but {URL} does not use TLS. Write rediss:// in {URL}, or remove {CA}."
    try:
        x509.load_pem_x509_certificates(certificates.pem(ca).encode())
    except OSError as error:
        yield f"{CA} cannot be read: {error}. Set it to a file on the control node, or to PEM text."
    except ValueError as error:
        yield f"{CA} is not a certificate in PEM format: {error}. `openssl x509` converts it."
