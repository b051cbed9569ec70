"""The variables of the shared cache: problems before any change, and the addresses that the unit allows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.katago.fleet.plugins.filter.fleet import fleet_addresses
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import shared_cache

SECRET = "the-password-of-the-cache"


def problems(**changed: Any) -> list[str]:
    values: dict[str, Any] = {
        "url": "redis://10.20.0.9:6379/0",
        "password": SECRET,
        "ca": "",
        "networks": [],
        "session_key": "k" * 32,
    }
    return shared_cache.problems(**values | changed)


def certificate() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cache.example.org")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    built = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    return built.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("url", "networks", "allowed"),
    [
        ("redis://10.20.0.9:6379/0", [], ["10.20.0.9"]),
        ("redis://reader@[fd00::9]:6380", [], ["fd00::9"]),
        ("redis://localhost", [], ["localhost"]),
        ("redis://cache.example.org", ["10.20.0.8/31"], ["10.20.0.8/31"]),
        ("redis://10.20.0.9", ["10.20.0.0/24"], ["10.20.0.0/24"]),
        ("unix:///run/redis/redis.sock", [], []),
        ("", ["10.20.0.9"], []),
        ("redis://cache.example.org", [], []),
        ("redis://[", [], []),
    ],
)
def test_unit_allows_the_addresses_of_the_cache_only(
    url: str, networks: list[str], allowed: list[str]
) -> None:
    assert shared_cache.addresses(url, networks) == allowed


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"password": ""},
        {"url": "unix:///run/redis/redis.sock"},
        {"url": "redis://cache.example.org", "networks": ["10.20.0.9", "localhost"]},
        {"url": "", "password": "", "session_key": ""},
    ],
)
def test_usable_variables_have_no_problem(changed: dict[str, Any]) -> None:
    assert problems(**changed) == []


def test_certificate_with_tls_has_no_problem() -> None:
    assert problems(url="rediss://10.20.0.9", ca=certificate()) == []


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"url": ""}, "katago_mcp_shared_cache_password is set but katago_mcp_shared_cache_url is not"),
        ({"url": "http://10.20.0.9"}, "must be redis://HOST:PORT/DATABASE"),
        ({"url": "redis://10.20.0.9:66666"}, "must be redis://HOST:PORT/DATABASE"),
        ({"url": "redis:///0"}, "has no host"),
        ({"url": f"redis://:{SECRET}@10.20.0.9"}, "contains a password. Move it to"),
        ({"url": "redis://cache.example.org"}, "has the host name cache.example.org, which does not tell"),
        ({"session_key": " "}, "katago_mcp_session_key is not"),
        ({"password": "<password>"}, "katago_mcp_shared_cache_password is a placeholder"),
        ({"networks": ["cache.example.org"]}, "has 'cache.example.org'; it must be an IP address"),
        ({"url": "rediss://10.20.0.9", "ca": "/does/not/exist"}, "shared_cache_ca cannot be read"),
        ({"url": "rediss://10.20.0.9", "ca": "-----BEGIN nothing"}, "is not a certificate in PEM format"),
    ],
)
def test_each_problem_is_explained_without_the_password(changed: dict[str, Any], text: str) -> None:
    (problem,) = problems(**changed)
    assert text in problem
    assert SECRET not in problem


def test_certificate_without_tls_is_refused() -> None:
    (problem,) = problems(ca=certificate())
    assert problem.startswith(
        "katago_mcp_shared_cache_ca is set but katago_mcp_shared_cache_url does not use TLS."
    )


def test_address_of_a_host_for_the_fleet() -> None:
    hosts = {
        "b-1": {"fleet_address": "10.20.0.4", "ansible_host": "127.0.0.1"},
        "b-2": {"ansible_host": "10.20.0.5"},
        "10.20.0.6": {},
    }
    assert fleet_addresses(list(hosts), hosts) == ["10.20.0.4", "10.20.0.5", "10.20.0.6"]
