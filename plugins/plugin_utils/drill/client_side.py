"""Where the prober of a drill calls the fleet, and with which token, from the variables of the inventory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_hosts
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.client import Target

_PEM = "-----BEGIN"
_SCOPE = "analyze"

Groups = Mapping[str, Sequence[str]]
Variables = Mapping[str, Mapping[str, Any]]


def targets(groups: Groups, hostvars: Variables) -> tuple[Target, ...]:
    """What clients call: the virtual address, else all load balancers, else all hosts.

    Raises:
        OSError: the file of a certificate cannot be read.
    """
    balancers = groups.get(fleet_hosts.LOAD_BALANCERS, [])
    if not balancers:
        hosts = groups.get(fleet_hosts.GROUP, [])
        return tuple(_of_host(host, hostvars[host]) for host in hosts)
    for host in balancers:
        if virtual := str(hostvars[host].get("load_balancer_virtual_address") or "").partition("/")[0]:
            return (_of_balancer(virtual, virtual, hostvars[host]),)
    return tuple(_of_balancer(host, _address(host, hostvars[host]), hostvars[host]) for host in balancers)


def token(groups: Groups, hostvars: Variables) -> str:
    """A token with which clients may analyse; empty if the inventory has none."""
    return next(_tokens(groups, hostvars), "")


def _of_balancer(name: str, address: str, variables: Mapping[str, Any]) -> Target:
    certificate = str(variables.get("load_balancer_tls_certificate") or "")
    names = [str(each) for each in variables.get("load_balancer_names") or []]
    port = _port(variables, "load_balancer", secured=bool(certificate))
    header = "" if not names or address in names else names[0]
    return _target(name, address, port, header, certificate)


def _of_host(host: str, variables: Mapping[str, Any]) -> Target:
    certificate = str(variables.get("katago_mcp_tls_certificate") or "")
    if client := str(variables.get("triage_client_address") or ""):
        address, _, port = client.rpartition(":")
        return _target(host, address, int(port), "", certificate)
    return _target(
        host, _address(host, variables), int(variables.get("katago_mcp_port", 8080)), "", certificate
    )


def _target(name: str, address: str, port: int, header: str, certificate: str) -> Target:
    scheme = "https" if certificate else "http"
    shown = f"[{address}]" if ":" in address else address
    pem = certificate if _PEM in certificate or not certificate else Path(certificate).read_text()
    return Target(name, f"{scheme}://{shown}:{port}/mcp", host_header=header, ca=pem, pinned=bool(pem))


def _port(variables: Mapping[str, Any], role: str, *, secured: bool) -> int:
    kind, default = ("https", 443) if secured else ("http", 80)
    return int(variables.get(f"{role}_{kind}_port", default))


def _address(host: str, variables: Mapping[str, Any]) -> str:
    return str(variables.get("fleet_address") or variables.get("ansible_host") or host)


def _tokens(groups: Groups, hostvars: Variables) -> Iterator[str]:
    for host in groups.get(fleet_hosts.GROUP, []):
        for entry in hostvars[host].get("katago_mcp_tokens") or []:
            if _SCOPE in (entry.get("scopes") or []) and entry.get("token"):
                yield str(entry["token"])
