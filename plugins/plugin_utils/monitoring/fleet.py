"""What is monitored: the hosts of the inventory, how Prometheus reaches them, and what the prober calls."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.katago.fleet.plugins.module_utils.common.exposition import Metric, Samples
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    is_ip_address,
    split_name,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import certificates
from ansible_collections.katago.fleet.plugins.plugin_utils.run.fleet_hosts import (
    GROUP,
    LOAD_BALANCERS,
    MONITORING,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.run.fleet_hosts import address as address_of

_ROLES = Path(__file__).resolve().parents[3] / "roles"
_DEFAULTS = {GROUP: "katago_mcp", LOAD_BALANCERS: "load_balancer"}
LEAST_TOKEN = 32
SCRAPES: Mapping[str, str] = {GROUP: "katago", LOAD_BALANCERS: "load_balancer"}
"""The exporters that hosts of a group have besides node exporter, by group."""
OF_MONITORING = ("prometheus", "alertmanager")
"""The exporters of monitoring hosts besides node exporter."""
_HTTP, _HTTPS = 80, 443

_LABELS = ("host", "prober")
METRICS = (
    Metric("katago_inventory_host", "Always 1, for each host of the group katago.", (*_LABELS, "backup")),
    Metric("katago_inventory_target", "Always 1, for each target of Prometheus.", (*_LABELS, "scrape")),
)

Groups = Mapping[str, Sequence[str]]
Variables = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Host:
    """A monitored host. `exporters`: what its gateway serves. `port`: of the gateway. `ssh`: its SSH port.

    `is_backed_up`: whether the inventory has a backup repository for it. `listens`: the gateway's address.
    `tls`: name and port of everything on it that has a certificate.
    """

    name: str
    address: str
    port: int
    ssh: int
    listens: str
    exporters: tuple[str, ...]
    is_backed_up: bool
    tls: tuple[tuple[str, int], ...]


def with_defaults(groups: Any, hostvars: Any) -> dict[str, dict[str, Any]]:
    """The variables of all monitored hosts; the defaults of roles are not among a host's variables."""
    defaults = {
        role: yaml.safe_load((_ROLES / role / "defaults" / "main.yml").read_text())
        for role in ("monitoring", *_DEFAULTS.values())
    }
    names = {name for group in (GROUP, LOAD_BALANCERS, MONITORING) for name in groups.get(group) or []}
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(names):
        roles = [
            "monitoring",
            *(role for group, role in _DEFAULTS.items() if name in (groups.get(group) or [])),
        ]
        used = {key: value for role in roles for key, value in defaults[role].items()}
        optional = ("fleet_address", "ansible_host", "backup_repository")
        found[name] = {
            **{key: hostvars[name].get(key, value) for key, value in used.items()},
            **{key: hostvars[name][key] for key in optional if key in hostvars[name]},
        }
    return found


def hosts(groups: Groups, variables: Variables) -> list[Host]:
    """The monitored hosts of an inventory, by name. `variables`: those of each host, with defaults."""
    found: dict[str, set[str]] = {}
    for group, exporters in (
        (GROUP, (SCRAPES[GROUP],)),
        (LOAD_BALANCERS, (SCRAPES[LOAD_BALANCERS],)),
        (MONITORING, OF_MONITORING),
    ):
        for name in groups.get(group) or []:
            found.setdefault(name, {"node"}).update(exporters)
    return [
        Host(
            name=name,
            address=address_of(name, variables[name]),
            port=int(variables[name]["monitoring_port"]),
            ssh=int(variables[name]["monitoring_ssh_port"]),
            listens=str(variables[name]["monitoring_listen_address"]),
            exporters=tuple(sorted(exporters)),
            tls=_with_tls(variables[name], found[name]),
            is_backed_up=name in (groups.get(GROUP) or []) and bool(variables[name].get("backup_repository")),
        )
        for name, exporters in sorted(found.items())
    ]


def _with_tls(variables: Mapping[str, Any], exporters: set[str]) -> tuple[tuple[str, int], ...]:
    ports = {"exporters": int(variables["monitoring_port"])}
    if SCRAPES[GROUP] in exporters and variables["katago_mcp_tls_certificate"]:
        ports["service"] = int(variables["katago_mcp_port"])
    if SCRAPES[LOAD_BALANCERS] in exporters and variables["load_balancer_tls_certificate"]:
        ports["load_balancer"] = int(variables["load_balancer_https_port"])
    return tuple(ports.items())


def problems(found: Sequence[Host], token: str, monitor: str) -> Iterator[str]:
    """What would keep the host `monitor` from reaching the others, with the variable and the fix."""
    if len(token) < LEAST_TOKEN:
        yield (
            f"monitoring_token has {len(token)} characters; at least {LEAST_TOKEN} are required. Create one"
            f" with"
            " `openssl rand -hex 32` and keep it in Ansible Vault."
        )
    monitors = [host for host in found if set(OF_MONITORING) <= set(host.exporters)]
    for host in monitors if len(monitors) > 1 else ():
        if not is_ip_address(host.address):
            yield (
                f"The address of {host.name} is the name {host.address}. The Alertmanagers of several"
                " monitoring hosts need IP addresses to find each other. Set fleet_address."
            )
    for host in found:
        if host.name != monitor and ipaddress.ip_address(host.listens).is_loopback:
            yield (
                f"The exporters of {host.name} listen on {host.listens} only (monitoring_listen_address), so"
                f" {monitor} cannot reach them. Set it to an address of {host.name}, or to 0.0.0.0."
            )


def cluster_options(addresses: Mapping[str, str], monitor: str, port: int) -> list[str]:
    """The options with which the Alertmanager of `monitor` finds the others. `addresses`: by host.

    Together they notify once. One alone needs no port for it.
    """
    others = [address for host, address in sorted(addresses.items()) if host != monitor]
    if not others:
        return ["--cluster.listen-address="]
    return [
        f"--cluster.listen-address={_bracketed(addresses[monitor])}:{port}",
        *(f"--cluster.peer={_bracketed(address)}:{port}" for address in others),
        "--cluster.tls-config=/etc/katago-monitoring/current/cluster.yml",
    ]


def targets(found: Sequence[Host], monitor: str) -> dict[str, list[dict[str, Any]]]:
    """The targets of each job of Prometheus, as its file discovery reads them."""
    jobs: dict[str, list[dict[str, Any]]] = {"reach": [], "tls": []}
    for host in found:
        at = "127.0.0.1" if host.name == monitor else host.address
        for exporter in host.exporters:
            jobs.setdefault(exporter, []).append(_target(f"{_bracketed(at)}:{host.port}", host.name))
        jobs["reach"].append(_target(f"{_bracketed(host.address)}:{host.ssh}", host.name))
        for name, port in host.tls:
            jobs["tls"].append(_target(f"{_bracketed(at)}:{port}", host.name, endpoint=name))
    return jobs


def _target(place: str, instance: str, **labels: str) -> dict[str, Any]:
    return {"targets": [place], "labels": {"instance": instance, **labels}}


def inventory_metrics(found: Sequence[Host], prober: str) -> str:
    """What the inventory has, as metrics: a host that is not monitored is missed by comparison with them."""
    samples = Samples(METRICS)
    for host in found:
        common = {"host": host.name, "prober": prober}
        if SCRAPES[GROUP] in host.exporters:
            samples.add("katago_inventory_host", 1, **common, backup="yes" if host.is_backed_up else "no")
        for exporter in host.exporters:
            samples.add("katago_inventory_target", 1, **common, scrape=exporter)
    return samples.text()


def probed(groups: Groups, variables: Variables) -> list[dict[str, str]]:
    """What the prober calls: each host of the fleet and each load balancer."""
    found = [
        _probed(
            name,
            variables[name],
            port=int(variables[name]["katago_mcp_port"]),
            tls=variables[name]["katago_mcp_tls_certificate"],
            names=variables[name]["katago_mcp_allowed_hosts"],
        )
        for name in groups.get(GROUP) or []
    ]
    for name in groups.get(LOAD_BALANCERS) or []:
        of_host = variables[name]
        tls = of_host["load_balancer_tls_certificate"]
        port = int(of_host["load_balancer_https_port" if tls else "load_balancer_http_port"])
        found.append(_probed(name, of_host, port=port, tls=tls, names=of_host["load_balancer_names"]))
    return found


def _probed(
    name: str, variables: Mapping[str, Any], *, port: int, tls: str, names: Sequence[str]
) -> dict[str, str]:
    at = address_of(name, variables)
    return {
        "host": name,
        "url": f"{'https' if tls else 'http'}://{_bracketed(at)}:{port}/mcp",
        # Servers refuse requests for names that they do not have.
        "name": _host_header(names[0], port) if names else "",
        "certificate": certificates.pem(tls),
    }


def _host_header(name: str, port: int) -> str:
    host, own = split_name(name)
    return f"{host}:{port if own in ('', '*') else own}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def token_to_analyse(variables: Variables, names: Sequence[str]) -> str:
    """The first token of the fleet that may analyse; empty if its hosts need none."""
    for name in names:
        for token in variables[name]["katago_mcp_tokens"]:
            if "analyze" in token["scopes"]:
                return str(token["token"])
    return ""
