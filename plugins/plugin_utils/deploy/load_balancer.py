"""The servers of a load balancer as the inventory describes them, and the checks of its variables."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    NAME,
    PORTS,
    is_address,
    is_ip_address,
    split_name,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import certificates, preflight
from ansible_collections.katago.fleet.plugins.plugin_utils.run.fleet_hosts import GROUP, address

TLS = ("load_balancer_tls_certificate", "load_balancer_tls_key")
LEAST_IDLE = 30
MOST_CONNECTIONS = 8000
_DEFAULT_PORTS = {"http": 80, "https": 443}
_DEFAULTS = Path(__file__).resolve().parents[3] / "roles" / "katago_mcp" / "defaults" / "main.yml"
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
# What the load balancer must know of the servers' variables.
_NAMES = (
    "katago_mcp_port",
    "katago_mcp_listen_address",
    "katago_mcp_allowed_hosts",
    "katago_mcp_tls_certificate",
    "katago_mcp_tokens",
    "katago_mcp_session_key",
)

Hosts = Mapping[str, Mapping[str, Any]]


def with_defaults(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a host that matter here; the role's defaults are not among a host's variables."""
    defaults = yaml.safe_load(_DEFAULTS.read_text())
    return {
        **{name: variables[name] if name in variables else defaults[name] for name in _NAMES},
        **{name: variables[name] for name in ("fleet_address", "ansible_host") if name in variables},
    }


def servers(hosts: Hosts) -> list[dict[str, Any]]:
    """The servers for the module, by name. `hosts`: the variables of the fleet's hosts, with defaults."""
    return [
        {
            "name": name,
            "address": address(name, variables),
            "port": int(variables["katago_mcp_port"]),
            "tls": bool(variables["katago_mcp_tls_certificate"]),
            "tls_name": tls_name(variables["katago_mcp_tls_certificate"]),
        }
        for name, variables in sorted(hosts.items())
    ]


def problems(own: str, arguments: Mapping[str, Any], hosts: Hosts, *, now: datetime) -> list[str]:
    """The problems with the variables. Each names the variable, its value and the fix; none has a secret.

    `own`: the load balancer's name in the inventory.
    """
    if not hosts:
        return [
            f"The group {GROUP} has no host, so there is no server to send requests to. Put the fleet's"
            f" hosts into the group {GROUP} of the inventory."
        ]
    certificate = certificates.problems(
        arguments["tls_certificate"], arguments["tls_key"], now=now, names=TLS
    )
    return [
        *_name_problems([own, *hosts]),
        *_place_problems(hosts),
        *(certificate or _certificate_name_problems(arguments)),
        *_tls_problems(arguments, hosts),
        *_limit_problems(arguments),
        *(each for name, host in sorted(hosts.items()) for each in _server_problems(name, host, arguments)),
    ]


def warnings(hosts: Hosts) -> list[str]:
    """What works, but not as well as it could."""
    keys = {str(host["katago_mcp_session_key"]).strip() for host in hosts.values()}
    if len(hosts) > 1 and (len(keys) > 1 or "" in keys):
        return [
            "katago_mcp_session_key is not the same on all hosts. A session ends when its host is out of"
            " rotation or fails. Set one key for the group katago: openssl rand -hex 32"
        ]
    return []


def refused_names(names: Sequence[str], allowed: Sequence[str], *, port: int, scheme: str) -> list[str]:
    """The host names of clients that a server with these `katago_mcp_allowed_hosts` refuses.

    `port`, `scheme`: how clients call the load balancer.
    """
    accepted = {split_name(str(entry)) for entry in allowed}
    refused = []
    for name in names:
        host, own_port = split_name(name)
        sent = own_port if own_port not in ("", "*") else str(port)
        ports = {"", "*", sent}
        if int(sent) == _DEFAULT_PORTS[scheme]:
            # A client leaves out the default port of its scheme.
            ports |= {"80", "443"}
        if host not in _LOOPBACK_NAMES and not any((host, each) in accepted for each in ports):
            refused.append(name)
    return refused


def bundle(certificate: Any, key: Any) -> str:
    """Certificate and key in one PEM text, as HAProxy reads them. Raises OSError."""
    if not certificate:
        return ""
    return f"{certificates.pem(certificate).strip()}\n{certificates.pem(key).strip()}\n"


def _name_problems(names: Iterable[str]) -> list[str]:
    return [
        f"The inventory name {name!r} has characters that HAProxy does not accept as a server's name. Rename"
        " the host to letters, digits, dots, hyphens and underscores, and set ansible_host to its address."
        for name in dict.fromkeys(names)
        if not NAME.fullmatch(name)
    ]


def _place_problems(hosts: Hosts) -> Iterator[str]:
    """Addresses and ports at which HAProxy cannot call a host, or would call one host as two."""
    places: dict[tuple[str, int], list[str]] = {}
    for name, host in sorted(hosts.items()):
        reached, port = address(name, host), str(host["katago_mcp_port"])
        if not is_address(reached):
            yield (
                f"The address of {name} is {reached!r}, which is neither an IP address nor a host name. Set"
                f" fleet_address of {name} to its IP address, without brackets, port and zone."
            )
        elif not port.isdecimal() or int(port) not in PORTS:
            yield (
                f"katago_mcp_port of {name} is {port!r}; it must be {PORTS.start} to {PORTS.stop - 1}."
                f" Correct it, and deploy {name}."
            )
        else:
            place = (
                str(ipaddress.ip_address(reached))
                if is_ip_address(reached)
                else reached.lower().removesuffix(".")
            )
            places.setdefault((place, int(port)), []).append(name)
    for (place, number), names in places.items():
        if len(names) > 1:
            yield (
                f"{' and '.join(names)} have the same address {place} and the same port {number}, so HAProxy"
                " would call one host as several. Set fleet_address of each to its own address, or remove the"
                " surplus names from the inventory."
            )


def _certificate_name_problems(arguments: Mapping[str, Any]) -> list[str]:
    """Names of clients that the certificate does not have, so that clients would reject it."""
    if not arguments["tls_certificate"]:
        return []
    text = certificates.pem(arguments["tls_certificate"])
    present = _certificate_names(x509.load_pem_x509_certificates(text.encode())[0])
    lacking = [
        host for host, _ in map(split_name, arguments["names"]) if not _is_covered(host.strip("[]"), present)
    ]
    if not lacking:
        return []
    return [
        f"load_balancer_tls_certificate is not for {', '.join(dict.fromkeys(lacking))}, which"
        f" load_balancer_names has. It is for {', '.join(present) or 'no name'}. Request a certificate with"
        " all names, or correct load_balancer_names."
    ]


def _certificate_names(certificate: x509.Certificate) -> list[str]:
    """The alternative names of a certificate, the only ones that clients read [RFC 9110, 4.3.4]."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    names = extension.get_values_for_type(x509.DNSName)
    return [*map(str.lower, names), *map(str, extension.get_values_for_type(x509.IPAddress))]


def _is_covered(host: str, present: Sequence[str]) -> bool:
    if is_ip_address(host):
        return str(ipaddress.ip_address(host)) in present
    return host in present or f"*.{host.partition('.')[2]}" in present


def tls_name(certificate: Any) -> str:
    """The name of a server by its certificate; empty without one. HAProxy compares names of DNS only.

    `certificate`: PEM, or a path on the control node.
    """
    try:
        names = _certificate_names(_certificates(certificate)[0]) if certificate else []
    except (OSError, ValueError):
        # `problems` has refused it, or the preflight of the host will.
        return ""
    return next((name for name in names if not is_ip_address(name) and "*" not in name), "")


def _certificates(source: Any) -> list[x509.Certificate]:
    """The certificates of a PEM text, or of a file on the control node. Raises OSError, ValueError."""
    return x509.load_pem_x509_certificates(certificates.pem(source).encode())


def _tls_problems(arguments: Mapping[str, Any], hosts: Hosts) -> list[str]:
    """What is wrong with TLS to the servers."""
    ca = arguments["server_ca"]
    secured = sorted(name for name, host in hosts.items() if host["katago_mcp_tls_certificate"])
    plain = sorted(hosts.keys() - secured)
    if not secured:
        given = [name for name in ("server_ca", "server_tls_name") if arguments[name]]
        return [
            f"load_balancer_{name} is set, but no host has katago_mcp_tls_certificate, so HAProxy would send"
            " requests without TLS. Set katago_mcp_tls_certificate for the group katago and deploy it, or"
            f" remove load_balancer_{name}."
            for name in given
        ]
    if plain:
        return [
            f"{secured[0]} serves with TLS (katago_mcp_tls_certificate), but {', '.join(plain)}"
            f" {'does' if len(plain) == 1 else 'do'} not, so HAProxy would send some requests without TLS."
            " Set katago_mcp_tls_certificate for all hosts of the group katago, or for none."
        ]
    return [
        *_ca_problems(ca, secured[0]),
        *(
            problem
            for name in secured
            for problem in _server_certificate_problems(
                name, hosts[name]["katago_mcp_tls_certificate"], ca, str(arguments["server_tls_name"]).lower()
            )
        ),
    ]


def certificate_problems(name: str, certificate: Any, balancers: Hosts) -> list[str]:
    """Why the load balancers would reject the certificate of a host; [] without a certificate.

    `balancers`: the variables of the load balancers by name.
    """
    if not certificate:
        return []
    found = []
    for _, variables in sorted(balancers.items()):
        ca = variables.get("load_balancer_server_ca", "")
        required = str(variables.get("load_balancer_server_tls_name", "")).lower()
        found += _ca_problems(ca, name) or _server_certificate_problems(name, certificate, ca, required)
    return list(dict.fromkeys(found))


def _ca_problems(ca: Any, secured: str) -> list[str]:
    """What is wrong with the CA of the servers' certificates. `secured`: a host that serves with TLS."""
    if not ca:
        return [
            f"load_balancer_server_ca is empty, but {secured} serves with TLS"
            " (katago_mcp_tls_certificate). Set it to the CA that signed that certificate, as PEM or as a"
            " file on the control node."
        ]
    try:
        _certificates(ca)
    except OSError as error:
        return [f"load_balancer_server_ca cannot be read: {error}. Set it to a file, or to PEM text."]
    except ValueError as error:
        return [f"load_balancer_server_ca is not a certificate in PEM format: {error}."]
    return []


def _server_certificate_problems(name: str, source: Any, ca: Any, required: str) -> list[str]:
    """Why HAProxy would reject the certificate of a host; [] if the CA cannot be used."""
    try:
        trusted = _certificates(ca)
    except (OSError, ValueError):
        return []
    try:
        chain = _certificates(source)
    except (OSError, ValueError) as error:
        return [
            f"katago_mcp_tls_certificate of {name} cannot be read: {error}. Correct it, and deploy {name}."
        ]
    found = []
    if not _is_trusted(chain, trusted):
        found.append(
            f"katago_mcp_tls_certificate of {name} is not signed by load_balancer_server_ca, so HAProxy would"
            " reject it. Add its CA to load_balancer_server_ca; while certificates are replaced, the old and"
            " the new one."
        )
    present = _certificate_names(chain[0])
    if required and not _is_covered(required, present):
        found.append(
            f"katago_mcp_tls_certificate of {name} is not for {required}, which is"
            f" load_balancer_server_tls_name. It is for {', '.join(present) or 'no name'}. Request a"
            " certificate with that name, or correct load_balancer_server_tls_name; if it is empty, each host"
            " has the name of its own certificate."
        )
    return found


def _is_trusted(chain: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate]) -> bool:
    """Whether a chain, the certificate of a server first, leads to a certificate that is trusted."""
    certificate, others = chain[0], list(chain[1:])
    while True:
        if certificate in trusted or any(_signed(certificate, each) for each in trusted):
            return True
        issuer = next((each for each in others if _signed(certificate, each)), None)
        if issuer is None:
            return False
        others.remove(issuer)
        certificate = issuer


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def _limit_problems(arguments: Mapping[str, Any]) -> list[str]:
    found = []
    if arguments["idle_timeout"] < LEAST_IDLE:
        found.append(
            f"load_balancer_idle_timeout is {arguments['idle_timeout']}; it must be at least {LEAST_IDLE},"
            " because a stream that waits has a ping every 15 s."
        )
    if not 1 <= arguments["max_connections"] <= MOST_CONNECTIONS:
        found.append(
            f"load_balancer_max_connections is {arguments['max_connections']}; it must be 1 to"
            f" {MOST_CONNECTIONS}."
        )
    return found


def _server_problems(name: str, host: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[str]:
    found = []
    reached = address(name, host)
    listens = str(host["katago_mcp_listen_address"])
    if preflight.is_loopback(listens) and not preflight.is_loopback(reached):
        found.append(
            f"{name} listens on {listens} only, so the load balancer cannot reach it at {reached}."
            f" Set katago_mcp_listen_address of {name} to {reached} or 0.0.0.0, and deploy it."
        )
    scheme = "https" if arguments["tls_certificate"] else "http"
    port = arguments[f"{scheme}_port"]
    allowed = host["katago_mcp_allowed_hosts"]
    if refused := refused_names(arguments["names"], allowed, port=port, scheme=scheme):
        found.append(
            f"{name} would refuse clients of {refused[0]} with HTTP 421: load_balancer_names has it, but"
            f" katago_mcp_allowed_hosts of {name} is {', '.join(map(str, allowed)) or 'empty'}. Add"
            f' "{split_name(refused[0])[0]}:*" there, and deploy {name}.'
        )
    return found
