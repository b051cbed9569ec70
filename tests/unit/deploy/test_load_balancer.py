"""The servers of a load balancer from the inventory, and the checks of its variables."""

from __future__ import annotations

import ipaddress
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.katago.fleet.plugins.filter import fleet
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import load_balancer
from tests import loopback

NOW = datetime(2026, 1, 31, tzinfo=UTC)
ARGUMENTS: dict[str, Any] = {
    "names": ["go.example.org"],
    "tls_certificate": "",
    "tls_key": "",
    "server_ca": "",
    "server_tls_name": "",
    "http_port": 80,
    "https_port": 443,
    "idle_timeout": 60,
    "max_connections": 2000,
}


NUMBERS = itertools.count(1)


def host(**changes: Any) -> dict[str, Any]:
    """The variables of a host of the fleet with an address of its own, as the inventory has them."""
    return load_balancer.with_defaults(
        {
            "fleet_address": f"10.0.0.{next(NUMBERS) % 250 + 1}",
            "katago_mcp_listen_address": "0.0.0.0",
            "katago_mcp_allowed_hosts": ["go.example.org:*"],
            "katago_mcp_tokens": [{"name": "anna"}],
            "katago_mcp_session_key": "k" * 40,
            **changes,
        }
    )


def problems(hosts: dict[str, dict[str, Any]], **changes: Any) -> list[str]:
    return load_balancer.problems("balancer-1", {**ARGUMENTS, **changes}, hosts, now=NOW)


def test_servers_have_the_ports_of_their_hosts_or_the_roles_default() -> None:
    place = {"fleet_address": "10.0.0.1"}
    hosts = {"b": host(**place, katago_mcp_port="9000", katago_mcp_tls_certificate="PEM"), "a": host(**place)}
    assert load_balancer.servers(hosts) == [
        {"name": "a", "address": "10.0.0.1", "port": 8080, "tls": False, "tls_name": ""},
        {"name": "b", "address": "10.0.0.1", "port": 9000, "tls": True, "tls_name": ""},
    ]


def test_valid_variables_have_no_problem() -> None:
    assert problems({"a": host()}) == []


def test_fleet_without_hosts_is_refused() -> None:
    (problem,) = problems({})
    assert problem.startswith("The group katago has no host")


@pytest.mark.parametrize(
    ("allowed", "port", "scheme", "is_refused"),
    [
        (["go.example.org"], 80, "http", False),
        (["GO.example.org:*"], 8080, "http", False),
        (["go.example.org:443"], 443, "https", False),
        # A client of port 443 sends no port, which servers accept for both default ports.
        (["go.example.org:80"], 443, "https", False),
        (["go.example.org:443"], 8443, "https", True),
        (["other.example.org"], 80, "http", True),
        ([], 80, "http", True),
    ],
)
def test_names_that_a_server_refuses(allowed: list[str], port: int, scheme: str, *, is_refused: bool) -> None:
    refused = load_balancer.refused_names(["go.example.org"], allowed, port=port, scheme=scheme)
    assert bool(refused) == is_refused


def test_name_with_a_port_is_checked_with_it() -> None:
    names = ["go.example.org:8443"]
    assert load_balancer.refused_names(names, ["go.example.org:8443"], port=443, scheme="https") == []
    assert load_balancer.refused_names(names, ["go.example.org:443"], port=443, scheme="https") == names


def test_server_that_refuses_a_name_is_named_with_the_fix() -> None:
    (problem,) = problems({"a": host(katago_mcp_allowed_hosts=["other.example.org"])})
    assert "a would refuse clients of go.example.org with HTTP 421" in problem
    assert 'Add "go.example.org:*" there, and deploy a.' in problem


def test_server_that_listens_on_loopback_is_refused() -> None:
    (problem,) = problems({"a": host(katago_mcp_listen_address="127.0.0.1")})
    assert "a listens on 127.0.0.1 only" in problem
    assert problems({"a": host(katago_mcp_listen_address="127.0.0.1", fleet_address="127.0.0.1")}) == []


def test_certificate_without_its_key_is_refused_by_the_names_of_the_role() -> None:
    (problem,) = problems({"a": host()}, tls_certificate="PEM")
    assert problem.startswith("load_balancer_tls_certificate is set but load_balancer_tls_key is not.")


def self_signed(*names: x509.GeneralName) -> dict[str, str]:
    """The variables with a certificate for these names, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "go.example.org")])
    builder = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    served = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return {"tls_certificate": served.decode(), "tls_key": plain.decode()}


@pytest.mark.parametrize(
    ("names", "lacking"),
    [
        (["go.example.org", "GO.example.org:8443", "a.example.net", "10.0.0.9"], ""),
        (["go.example.org.", "[fd00::9]"], ""),
        (["other.example.org"], "other.example.org"),
        (["a.b.example.net", "10.0.0.8"], "a.b.example.net, 10.0.0.8"),
    ],
)
def test_certificate_must_be_for_the_names_of_clients(names: list[str], lacking: str) -> None:
    addresses = [x509.IPAddress(ipaddress.ip_address(each)) for each in ("10.0.0.9", "fd00::9")]
    certificate = self_signed(x509.DNSName("go.example.org"), x509.DNSName("*.example.net"), *addresses)
    accepted = host(katago_mcp_allowed_hosts=[f"{name.partition(':8')[0]}:*" for name in names])
    found = problems({"a": accepted}, names=names, **certificate)
    assert len(found) == bool(lacking)
    assert f"load_balancer_tls_certificate is not for {lacking}, which" in found[0] if lacking else True


def test_certificate_without_alternative_names_is_for_no_name() -> None:
    (problem,) = problems({"a": host()}, **self_signed())
    assert "is not for go.example.org" in problem
    assert "It is for no name." in problem


def test_key_of_another_certificate_is_refused() -> None:
    san = x509.DNSName("go.example.org")
    mixed = {**self_signed(san), "tls_key": self_signed(san)["tls_key"]}
    (problem,) = problems({"a": host()}, **mixed)
    assert problem.startswith("load_balancer_tls_key is not the key of load_balancer_tls_certificate.")


@pytest.mark.parametrize("name", ["katago 1", "kätago", "-i", "a;b", "a\nb"])
def test_name_that_haproxy_cannot_have_is_refused_with_the_fix(name: str) -> None:
    (problem,) = problems({name: host()})
    assert problem.startswith(f"The inventory name {name!r} has characters")
    assert "Rename the host" in problem


def test_damaged_key_is_not_shown() -> None:
    found = problems({"a": host()}, tls_certificate="-----BEGIN X", tls_key="-----BEGIN secret")
    assert len(found) == 2
    assert "secret" not in " ".join(found)


def test_servers_with_tls_need_a_ca() -> None:
    hosts = {"a": host(katago_mcp_tls_certificate="PEM")}
    (problem,) = problems(hosts)
    assert problem.startswith("load_balancer_server_ca is empty, but a serves with TLS")
    (problem,) = problems(hosts, server_ca="-----BEGIN nothing")
    assert problem.startswith("load_balancer_server_ca is not a certificate in PEM format")
    (problem,) = problems(hosts, server_ca="/no/such/file")
    assert problem.startswith("load_balancer_server_ca cannot be read")


def with_tls(certificate: str) -> dict[str, Any]:
    return host(katago_mcp_tls_certificate=certificate)


def test_server_is_verified_by_the_name_of_its_certificate() -> None:
    authority = loopback.Authority()
    hosts = {name: with_tls(authority.issue(f"{name}.example.org")[0]) for name in ("a", "b")}
    assert problems(hosts, server_ca=authority.pem) == []
    assert [server["tls_name"] for server in load_balancer.servers(hosts)] == [
        "a.example.org",
        "b.example.org",
    ]


def test_certificate_that_load_balancers_would_reject_is_refused_before_the_host_is_deployed() -> None:
    authority = loopback.Authority()
    certificate, _ = authority.issue("a.example.org")
    balancers = {name: {"load_balancer_server_ca": authority.pem} for name in ("lb-1", "lb-2")}
    assert load_balancer.certificate_problems("a", certificate, balancers) == []
    assert load_balancer.certificate_problems("a", "", {"lb-1": {}}) == []
    (problem,) = load_balancer.certificate_problems("a", certificate, {**balancers, "lb-2": {}, "lb-3": {}})
    assert problem.startswith("load_balancer_server_ca is empty, but a serves with TLS")
    balancers["lb-2"] = {"load_balancer_server_ca": loopback.Authority().pem}
    (problem,) = load_balancer.certificate_problems("a", certificate, balancers)
    assert "of a is not signed by load_balancer_server_ca" in problem
    balancers["lb-2"] = {**balancers["lb-1"], "load_balancer_server_tls_name": "go"}
    (problem,) = load_balancer.certificate_problems("a", certificate, balancers)
    assert "of a is not for go, which is load_balancer_server_tls_name" in problem


def test_name_for_all_servers_must_be_in_each_certificate() -> None:
    authority = loopback.Authority()
    hosts = {"a": with_tls(authority.issue("*.example.org")[0]), "b": with_tls(authority.issue("b")[0])}
    (problem,) = problems(hosts, server_ca=authority.pem, server_tls_name="Go.example.org")
    assert problem.startswith("katago_mcp_tls_certificate of b is not for go.example.org")
    assert "It is for b. Request a certificate with that name" in problem


def test_certificate_of_another_authority_is_refused_until_both_are_trusted() -> None:
    old, new = loopback.Authority("old"), loopback.Authority("new")
    hosts = {"a": with_tls(old.issue("a.example.org")[0]), "b": with_tls(new.issue("b.example.org")[0])}
    (problem,) = problems(hosts, server_ca=old.pem)
    assert problem.startswith("katago_mcp_tls_certificate of b is not signed by load_balancer_server_ca")
    assert "the old and the new one" in problem
    assert problems(hosts, server_ca=old.pem + new.pem) == []


def test_authority_of_the_same_name_with_another_key_is_not_trusted() -> None:
    (problem,) = problems(
        {"a": with_tls(loopback.Authority().issue("a")[0])}, server_ca=loopback.Authority().pem
    )
    assert "is not signed by load_balancer_server_ca" in problem


def test_self_signed_certificate_is_its_own_authority() -> None:
    certificate = self_signed(x509.DNSName("a.example.org"))["tls_certificate"]
    assert problems({"a": with_tls(certificate)}, server_ca=certificate) == []


@pytest.mark.parametrize("certificate", ["PEM", "/no/such/file", "-----BEGIN CERTIFICATE-----"])
def test_certificate_of_a_server_that_cannot_be_read_is_named(certificate: str) -> None:
    (problem,) = problems({"a": with_tls(certificate)}, server_ca=loopback.Authority().pem)
    assert problem.startswith("katago_mcp_tls_certificate of a cannot be read")


def test_hosts_with_and_without_tls_are_refused_together() -> None:
    authority = loopback.Authority()
    hosts = {"a": host(), "b": with_tls(authority.issue("b")[0]), "c": host()}
    (problem,) = problems(hosts, server_ca=authority.pem)
    assert problem.startswith("b serves with TLS (katago_mcp_tls_certificate), but a, c do not")
    assert "for all hosts of the group katago, or for none" in problem


@pytest.mark.parametrize("name", ["server_ca", "server_tls_name"])
def test_setting_of_tls_to_servers_without_tls_is_refused(name: str) -> None:
    (problem,) = problems({"a": host()}, **{name: "go.example.org"})
    assert problem.startswith(f"load_balancer_{name} is set, but no host has katago_mcp_tls_certificate")


def test_limits_that_break_streams_or_exceed_the_unit_are_refused() -> None:
    (problem,) = problems({"a": host()}, idle_timeout=10)
    assert "load_balancer_idle_timeout is 10; it must be at least 30" in problem
    (problem,) = problems({"a": host()}, max_connections=9000)
    assert "load_balancer_max_connections is 9000; it must be 1 to 8000" in problem


def test_different_session_keys_are_warned_of() -> None:
    assert load_balancer.warnings({"a": host(), "b": host()}) == []
    assert load_balancer.warnings({"a": host(katago_mcp_session_key="")}) == []
    for key in ("", "other"):
        (warning,) = load_balancer.warnings({"a": host(), "b": host(katago_mcp_session_key=key)})
        assert "katago_mcp_session_key is not the same on all hosts" in warning


def test_addresses_of_load_balancers_for_firewalls() -> None:
    hosts = {"b1": {"fleet_address": "10.0.0.9"}, "b2": {}, "b3": {"ansible_host": "fd00::1"}}
    assert fleet.fleet_addresses(list(hosts), hosts) == ["10.0.0.9", "fd00::1"]


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "fd00::1", "Katago-1.example.org", "katago-1.example.org.", "localhost"]
)
def test_addresses_and_host_names_are_accepted(address: str) -> None:
    assert problems({"a": host(fleet_address=address)}) == []


@pytest.mark.parametrize(
    "address",
    ["[fd00::1]", "10.0.0.1:8080", "fe80::1%eth0", "10.0.0.300", "10.0.0", "a b", "-i", "http://a", "a/24"],
)
def test_address_that_haproxy_cannot_call_is_refused_with_the_variable(address: str) -> None:
    (problem,) = problems({"a": host(fleet_address=address)})
    assert problem.startswith(
        f"The address of a is {address!r}, which is neither an IP address nor a host name."
    )
    assert "Set fleet_address of a" in problem


@pytest.mark.parametrize("port", ["http", 0, 70000, -1, "", "8080.0"])
def test_port_that_is_none_is_refused_with_the_variable(port: object) -> None:
    (problem,) = problems({"a": host(katago_mcp_port=port)})
    assert problem.startswith(f"katago_mcp_port of a is {str(port)!r}; it must be 1 to 65535.")


@pytest.mark.parametrize(
    ("one", "other"),
    [("10.0.0.1", "10.0.0.1"), ("fd00::1", "FD00:0::1"), ("a.example.org", "A.example.org.")],
)
def test_hosts_with_the_same_address_and_port_are_refused(one: str, other: str) -> None:
    hosts = {"a": host(fleet_address=one), "b": host(fleet_address=other)}
    (problem,) = problems(hosts)
    assert problem.startswith("a and b have the same address")
    assert "Set fleet_address of each to its own address" in problem
    hosts["b"] = host(fleet_address=other, katago_mcp_port=8081)
    assert problems(hosts) == []
