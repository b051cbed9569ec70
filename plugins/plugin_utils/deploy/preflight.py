"""What must hold before anything is touched: pure checks of the inputs and of what was measured on a host."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import os_release, shape
from ansible_collections.katago.fleet.plugins.module_utils.gpu import devices
from ansible_collections.katago.fleet.plugins.module_utils.release import sizing

Facts = Mapping[str, Any]
Settings = Mapping[str, Any]

SUPPORTED_ARCHITECTURES = ("x86_64",)
OLDEST_PYTHON = (3, 11)
OLDEST_SYSTEMD = 252
# A release with its environment (90 MB) and what it is installed from; an engine (60 MB packed,
# 130 MB unpacked) in transit and in place.
RELEASE_DISK_MB = 250
ENGINE_DISK_MB = 450
STATE_DISK_MB = 200
SHORTEST_TOKEN = 20

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Words long enough that a random token holds none of them by chance.
_PLACEHOLDER = re.compile(
    r"change.?me|replace.?me|placeholder|example|secret|password|your.?token|dummy|<.*>", re.I
)
_SCOPES = ("analyze", "admin")
# systemd.resource-control(5), IPAddressAllow.
_SYSTEMD_NETWORKS = ("any", "localhost", "link-local", "multicast")
_NETWORK_SOURCES = {"url": ("url",), "pypi": ("requirement", "member"), "file": ("path",)}
_REQUIRED_BY_SOURCE = {
    "katago_engine": {
        "release": ("backend",),
        "pypi": ("requirement", "member"),
        "file": ("path",),
    },
    "katago_network": _NETWORK_SOURCES,
    "katago_human_network": _NETWORK_SOURCES,
}
# What the server accepts for each of its limits.
_RANGES = {
    "katago_mcp_max_visits": (1, 10_000_000),
    "katago_mcp_default_visits": (1, 10_000_000),
    "katago_mcp_max_time": (1, 3600),
    "katago_mcp_max_review_visits": (1, 1_000_000_000),
    "katago_mcp_max_review_time": (1, 86_400),
    "katago_mcp_rate_limit_per_minute": (1, 1_000_000),
    "katago_mcp_rate_limit_burst": (1, 1_000_000),
}


def input_problems(settings: Settings) -> list[str]:
    """What is wrong with the variables alone; each message names variable, value and remedy.

    `settings`: katago_engine, katago_gpu_engines (by backend), katago_network, katago_human_network
    (empty: none), katago_mcp_listen_address, katago_mcp_port, katago_mcp_metrics_listen_address,
    katago_mcp_metrics_port, katago_mcp_allowed_hosts, katago_mcp_allowed_clients,
    katago_mcp_tokens, and the server's limits. No message contains a token.
    """
    return [
        *_asset_problems("katago_engine", settings["katago_engine"]),
        *_gpu_engine_problems(settings.get("katago_gpu_engines") or {}),
        *_asset_problems("katago_network", settings["katago_network"]),
        *(
            _asset_problems("katago_human_network", settings["katago_human_network"])
            if settings["katago_human_network"]
            else ()
        ),
        *_address_problems(settings),
        *_client_problems(settings),
        *_token_problems(settings),
        *_limit_problems(settings),
    ]


def host_problems(
    host: Facts,
    *,
    network_bytes: int,
    human_network_bytes: int = 0,
    backend: str = "opencl",
    untested: bool = False,
) -> list[str]:
    """What is wrong with a host, as measured by the `preflight` module; [] when it is fit.

    `backend`: of the engine, which must work on the host's device. `untested`: as in `system_problems`.
    """
    return [
        *system_problems(host, untested=untested),
        *_backend_problems(host, backend),
        *_capacity_problems(host, {"network": network_bytes, "human_network": human_network_bytes}),
        *_listener_problems(host),
    ]


def engine_for(engine: Settings, gpu_engines: Mapping[str, Settings], vendor: str | None) -> dict[str, Any]:
    """The engine for a host with a usable GPU of `vendor`, None without: the fastest that it can run.

    `gpu_engines` by backend; `engine` where none of them fits.
    """
    for backend in devices.backends(vendor) if vendor else ():
        if backend in gpu_engines:
            return {**gpu_engines[backend], "backend": backend}
    return dict(engine)


def _gpu_engine_problems(engines: Mapping[str, Any]) -> Iterator[str]:
    known = devices.backends("nvidia")
    for backend, engine in engines.items():
        if backend not in known:
            yield f"katago_gpu_engines has {backend!r}; its keys must be among {', '.join(known)}."
            continue
        place = f"katago_gpu_engines.{backend}"
        yield from _asset_problems("katago_engine", {**engine, "backend": backend}, place=place)


def _asset_problems(variable: str, asset: Mapping[str, Any], *, place: str = "") -> Iterator[str]:
    place = place or variable
    sha256 = str(asset.get("sha256") or "")
    if not _SHA256.fullmatch(sha256):
        yield (
            f"{place}.sha256 is {sha256!r}; it must be the 64 lower-case hexadecimal digits"
            " that sha256sum prints for the file."
        )
    source = str(asset.get("source"))
    by_source = _REQUIRED_BY_SOURCE[variable]
    if source not in by_source:
        yield f"{place}.source is {source!r}; it must be one of {', '.join(by_source)}."
        return
    for key in by_source[source]:
        if not asset.get(key):
            yield f"{place}.{key} is missing; source {source!r} needs it."


def _address_problems(settings: Settings) -> Iterator[str]:
    sockets = {}
    for prefix in ("katago_mcp", "katago_mcp_metrics"):
        address, port = settings[f"{prefix}_listen_address"], int(settings[f"{prefix}_port"])
        try:
            ipaddress.ip_address(str(address))
        except ValueError:
            yield (
                f"{prefix}_listen_address is {address!r}; it must be an IP address of the host,"
                " 127.0.0.1 behind a local balancer, or 0.0.0.0 for all of them."
            )
        if not 1024 <= port <= 65535:
            yield (
                f"{prefix}_port is {port}; it must be 1024 to 65535, since the service has no"
                " privilege to bind a lower one."
            )
        sockets[prefix] = port
    address = settings["katago_mcp_listen_address"]
    if not is_loopback(str(address)) and not settings["katago_mcp_allowed_hosts"]:
        yield (
            f"katago_mcp_listen_address is {address}, which others can reach, and"
            " katago_mcp_allowed_hosts is empty. List the names by which they do, as"
            ' ["go.example.org:*"]; requests with other Host headers are refused.'
        )
    if sockets["katago_mcp"] == sockets["katago_mcp_metrics"]:
        yield (
            f"katago_mcp_port and katago_mcp_metrics_port are both {sockets['katago_mcp']};"
            " give one of them another port."
        )


def _client_problems(settings: Settings) -> Iterator[str]:
    clients = settings["katago_mcp_allowed_clients"]
    address = str(settings["katago_mcp_listen_address"])
    if not is_loopback(address) and set(clients) <= {"localhost"}:
        yield (
            f"katago_mcp_listen_address is {address}, and katago_mcp_allowed_clients lets nobody but"
            " the host itself through. List the networks of the clients, as [10.20.0.0/16]."
        )
    for client in clients:
        try:
            ipaddress.ip_network(client, strict=False)
        except ValueError:
            if client not in _SYSTEMD_NETWORKS:
                yield (
                    f"katago_mcp_allowed_clients has {client!r}; it must be an IP address, a network as"
                    f" 10.20.0.0/16, or one of {', '.join(_SYSTEMD_NETWORKS)}."
                )


def _token_problems(settings: Settings) -> Iterator[str]:
    tokens = settings["katago_mcp_tokens"]
    if isinstance(tokens, str | bytes) or not isinstance(tokens, Sequence):
        yield (
            f"katago_mcp_tokens must be a list of {{name, scopes, token}}; it is a {type(tokens).__name__}."
        )
        return
    if not tokens and not is_loopback(str(settings["katago_mcp_listen_address"])):
        yield (
            f"katago_mcp_listen_address is {settings['katago_mcp_listen_address']}, which others can"
            " reach, and katago_mcp_tokens is empty. Give at least one token (from Ansible Vault),"
            " or listen on 127.0.0.1."
        )
    seen: set[str] = set()
    for number, token in enumerate(tokens):
        place = f"katago_mcp_tokens[{number}]"
        if not isinstance(token, Mapping):
            yield f"{place} must be a mapping of name, scopes and token."
            continue
        yield from _one_token_problems(place, token, seen)


def _one_token_problems(place: str, token: Mapping[str, Any], seen: set[str]) -> Iterator[str]:
    if unknown := sorted(str(key) for key in token.keys() - {"name", "scopes", "token"}):
        yield f"{place} has the unknown key {unknown[0]!r}; a token has name, scopes and token."
    name = token.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield (
            f"{place}.name must be 1 to 64 of A-Z a-z 0-9 . _ -; it names the client or the person"
            " who holds the token, in logs."
        )
    elif name in seen:
        yield f"{place}.name {name!r} stands there twice; names tell tokens apart in logs."
    else:
        seen.add(name)
    scopes = token.get("scopes")
    if not isinstance(scopes, list) or not scopes or not set(scopes) <= set(_SCOPES):
        yield f"{place}.scopes must be a list of one or more of: {', '.join(_SCOPES)}."
    value = token.get("token")
    if not isinstance(value, str) or not value:
        yield f"{place}.token is missing; `openssl rand -base64 32` makes one, Ansible Vault keeps it."
    elif _PLACEHOLDER.search(value) or len(set(value)) < 8:
        yield f"{place}.token is a placeholder; `openssl rand -base64 32` makes a real one."
    elif len(value) < SHORTEST_TOKEN:
        yield (
            f"{place}.token has {len(value)} characters; it must have at least {SHORTEST_TOKEN}."
            " `openssl rand -base64 32` makes one."
        )
    elif not value.isascii() or not value.isprintable() or " " in value:
        yield f"{place}.token has characters that an Authorization header cannot carry."


def _limit_problems(settings: Settings) -> Iterator[str]:
    for variable, (least, most) in _RANGES.items():
        if variable in settings and not least <= int(settings[variable]) <= most:
            yield f"{variable} is {settings[variable]}; the server accepts {least} to {most}."
    default, allowed = (settings.get(f"katago_mcp_{name}_visits") for name in ("default", "max"))
    if default is not None and allowed is not None and int(default) > int(allowed):
        yield (
            f"katago_mcp_default_visits is {default}, above katago_mcp_max_visits, {allowed}."
            " Lower the one or raise the other."
        )


def is_loopback(address: str) -> bool:
    """Whether only the host itself can reach an address; a malformed one counts as reachable."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def system_problems(host: Facts, *, untested: bool = False) -> Iterator[str]:
    """What no variable can repair: another system, architecture, Python or systemd than the service runs on.

    `untested`: whether a system that was not tested is accepted.
    """
    system = system_of(host)
    if not system.is_tested and not (untested and system.has_apt):
        yield os_release.refusal(system)
    if host["architecture"] not in SUPPORTED_ARCHITECTURES:
        yield (f"The host's architecture is {host['architecture']}; KataGo is published for x86_64 only.")
    if tuple(host["python"][:2]) < OLDEST_PYTHON:
        yield f"The host's Python is {'.'.join(map(str, host['python']))}; the server needs 3.11 or newer."
    if host["systemd"] < OLDEST_SYSTEMD:
        yield (
            f"systemd on the host is version {host['systemd']} (0: it does not run);"
            f" the unit's sandbox needs {OLDEST_SYSTEMD} or newer."
        )


def system_of(host: Facts) -> os_release.System:
    """The system of a host that was measured."""
    return shape.record(os_release.System, host["os"], "os")


def system_warnings(host: Facts) -> list[str]:
    """What every report says of a host that is accepted though its system was not tested."""
    return [words] if (words := os_release.warning(system_of(host))) else []


def _backend_problems(host: Facts, backend: str) -> Iterator[str]:
    works = devices.backends(host["gpu_vendor"] or "none")
    # An engine that computes on the processor works everywhere, and is slow beside a GPU.
    if backend not in works and not backend.startswith("eigen"):
        device = f"a GPU of {host['gpu_vendor']}" if host["gpu_vendor"] else "no GPU that works"
        yield (
            f"katago_engine.backend is {backend}, and the host has {device}; what works there:"
            f" {', '.join(works)}. playbooks/gpu_driver.yml installs a driver."
        )


def _capacity_problems(host: Facts, networks: Mapping[str, int]) -> Iterator[str]:
    needed = sizing.memory_needed_mb(sum(networks.values()))
    if host["memory_mb"] < needed:
        yield (
            f"The host has {host['memory_mb']} MB of memory; this network needs about {needed} MB."
            " Choose a smaller network in katago_network or a larger host."
        )
    install = RELEASE_DISK_MB
    install += ENGINE_DISK_MB if "engine" in host["lacks"] else 0
    install += 2 * sum(size for name, size in networks.items() if name in host["lacks"]) >> 20
    for path, least in (("/opt", install), ("/var", STATE_DISK_MB)):
        if host["disk_free_mb"][path] < least:
            yield (
                f"{path} has {host['disk_free_mb'][path]} MB free; the deployment needs {least} MB."
                " Free some, or enlarge the file system."
            )
    for obstacle in host["disk_obstacles"]:
        yield f"{obstacle}. Mend the disk first."


def _listener_problems(host: Facts) -> Iterator[str]:
    for listener in host["listeners"]:
        if listener["error"]:
            yield (
                f"{listener['address']} port {listener['port']} cannot be bound on the host:"
                f" {listener['error']}. Choose an address that the host has and a port that is free."
            )
