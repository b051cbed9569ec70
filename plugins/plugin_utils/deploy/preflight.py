"""Checks before anything is changed: pure functions over the inputs and the measured facts of a host."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import os_release, shape
from ansible_collections.katago.fleet.plugins.module_utils.gpu import devices
from ansible_collections.katago.fleet.plugins.module_utils.release import sizing
from ansible_collections.katago.fleet.plugins.module_utils.service import credentials, sandbox
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer import sharing

Facts = Mapping[str, Any]
Settings = Mapping[str, Any]

SUPPORTED_ARCHITECTURES = ("x86_64",)
OLDEST_PYTHON = (3, 11)
OLDEST_SYSTEMD = 252
# A release with its environment (90 MB) and its wheels. An engine (60 MB packed, 130 MB unpacked), in transit
# and installed.
RELEASE_DISK_MB = 250
ENGINE_DISK_MB = 450
STATE_DISK_MB = 200
SHORTEST_TOKEN = 20

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Words long enough that a random token does not contain them by chance.
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
# The range that the server accepts for each limit.
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
    """The problems with the variables alone. Each message names the variable, its value and the fix.

    `settings`: katago_engine, katago_gpu_engines (by backend), katago_network, katago_human_network
    (empty: none), katago_mcp_listen_address, katago_mcp_port, katago_mcp_metrics_listen_address,
    katago_mcp_metrics_port, katago_mcp_allowed_hosts, katago_mcp_allowed_clients,
    katago_mcp_trusted_proxies, katago_mcp_tokens, katago_mcp_session_key, katago_asset_host,
    katago_asset_mirror, fleet_hosts (the group katago) and the server's limits. No message contains a token,
    a key or a password.
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
        *_proxy_problems(settings),
        *_token_problems(settings),
        *_session_key_problems(str(settings.get("katago_mcp_session_key") or "")),
        *_limit_problems(settings),
        *_sharing_problems(settings),
    ]


def host_problems(
    host: Facts,
    *,
    network_bytes: int,
    human_network_bytes: int = 0,
    backend: str = "opencl",
    untested: bool = False,
    credentials: bool = False,
) -> list[str]:
    """The problems with a host, as measured by the `preflight` module; [] if there are none.

    `backend`: the engine's backend, which must work on the host's device. `untested`: as in
    `system_problems`. `credentials`: whether systemd must pass tokens or a certificate to the service.
    """
    return [
        *system_problems(host, untested=untested),
        *_backend_problems(host, backend),
        *_capacity_problems(host, {"network": network_bytes, "human_network": human_network_bytes}),
        *_listener_problems(host),
        *_unit_problems(host, credentials=credentials),
    ]


def engine_for(engine: Settings, gpu_engines: Mapping[str, Settings], vendor: str | None) -> dict[str, Any]:
    """The fastest engine that a host supports. `vendor`: the vendor of its usable GPU; None without one.

    `gpu_engines`: engines by backend. `engine`: the engine if none of these fits.
    """
    for backend in devices.backends(vendor) if vendor else ():
        if backend in gpu_engines:
            return {**gpu_engines[backend], "backend": backend}
    return dict(engine)


def _gpu_engine_problems(engines: Mapping[str, Any]) -> Iterator[str]:
    backends = devices.backends("nvidia")
    for backend, engine in engines.items():
        if backend not in backends:
            yield f"katago_gpu_engines has {backend!r}; its keys must be among {', '.join(backends)}."
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
                " 127.0.0.1 behind a local load balancer, or 0.0.0.0 for all addresses."
            )
        if not 1024 <= port <= 65535:
            yield (
                f"{prefix}_port is {port}; it must be 1024 to 65535, because the service has no"
                " privilege to bind a lower port."
            )
        sockets[prefix] = port
    address = settings["katago_mcp_listen_address"]
    if not is_loopback(str(address)) and not settings["katago_mcp_allowed_hosts"]:
        yield (
            f"katago_mcp_listen_address is {address}, which other hosts can reach, but"
            " katago_mcp_allowed_hosts is empty. List the host names that clients use, such as"
            ' ["go.example.org:*"]. Requests with other Host headers are refused.'
        )
    if sockets["katago_mcp"] == sockets["katago_mcp_metrics"]:
        yield (
            f"katago_mcp_port and katago_mcp_metrics_port are both {sockets['katago_mcp']}."
            " Change one of them."
        )


def _client_problems(settings: Settings) -> Iterator[str]:
    clients = settings["katago_mcp_allowed_clients"]
    address = str(settings["katago_mcp_listen_address"])
    if not is_loopback(address) and set(clients) <= {"localhost"}:
        yield (
            f"katago_mcp_listen_address is {address}, but katago_mcp_allowed_clients only allows the host"
            " itself. List the networks of the clients, such as [10.20.0.0/16]."
        )
    for client in clients:
        try:
            ipaddress.ip_network(client, strict=False)
        except ValueError:
            if client not in _SYSTEMD_NETWORKS:
                yield (
                    f"katago_mcp_allowed_clients has {client!r}; it must be an IP address, a network such as"
                    f" 10.20.0.0/16, or one of {', '.join(_SYSTEMD_NETWORKS)}."
                )


def _proxy_problems(settings: Settings) -> Iterator[str]:
    for proxy in settings.get("katago_mcp_trusted_proxies") or ():
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            yield (
                f"katago_mcp_trusted_proxies has {proxy!r}; it must be an IP address, or a network without"
                " host bits such as 10.20.0.0/16. For a host in the group load_balancer, set fleet_address to"
                " its IP address."
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
            f"katago_mcp_listen_address is {settings['katago_mcp_listen_address']}, which other hosts can"
            " reach, but katago_mcp_tokens is empty. Set at least one token (from Ansible Vault),"
            " or listen on 127.0.0.1."
        )
    names: set[str] = set()
    for number, token in enumerate(tokens):
        place = f"katago_mcp_tokens[{number}]"
        if not isinstance(token, Mapping):
            yield f"{place} must be a mapping of name, scopes and token."
            continue
        yield from _one_token_problems(place, token, names)


def _session_key_problems(keys: str) -> Iterator[str]:
    lines = [line.strip() for line in keys.strip().splitlines()]
    for number, key in enumerate(lines, 1):
        place = f"katago_mcp_session_key, line {number}," if len(lines) > 1 else "katago_mcp_session_key"
        if not key:
            continue
        if len(key) < credentials.SHORTEST_SESSION_KEY:
            yield (
                f"{place} has {len(key)} characters; it must have at least"
                f" {credentials.SHORTEST_SESSION_KEY}. Create a longer one: openssl rand -hex 32"
            )
        elif _PLACEHOLDER.search(key) or len(set(key)) < 8:
            yield f"{place} is a placeholder. Create a real key: openssl rand -hex 32"


def _one_token_problems(place: str, token: Mapping[str, Any], names: set[str]) -> Iterator[str]:
    if unknown := sorted(str(key) for key in token.keys() - {"name", "scopes", "token"}):
        yield f"{place} has the unknown key {unknown[0]!r}; a token has name, scopes and token."
    name = token.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield (
            f"{place}.name must be 1 to 64 of A-Z a-z 0-9 . _ -; it names the client or the person"
            " with the token in logs."
        )
    elif name in names:
        yield f"{place}.name {name!r} is used twice. Names must be unique to identify tokens in logs."
    else:
        names.add(name)
    scopes = token.get("scopes")
    if not isinstance(scopes, list) or not scopes or not set(scopes) <= set(_SCOPES):
        yield f"{place}.scopes must be a list of one or more of: {', '.join(_SCOPES)}."
    value = token.get("token")
    if not isinstance(value, str) or not value:
        yield f"{place}.token is missing. Create one: openssl rand -base64 32. Keep it in Ansible Vault."
    elif _PLACEHOLDER.search(value) or len(set(value)) < 8:
        yield f"{place}.token is a placeholder. Create a real one: openssl rand -base64 32"
    elif len(value) < SHORTEST_TOKEN:
        yield (
            f"{place}.token has {len(value)} characters; it must have at least {SHORTEST_TOKEN}."
            " Create a longer one: openssl rand -base64 32"
        )
    elif not value.isascii() or not value.isprintable() or " " in value:
        yield (
            f"{place}.token has characters that an Authorization header cannot carry."
            " Create another one: openssl rand -base64 32"
        )


def _limit_problems(settings: Settings) -> Iterator[str]:
    for variable, (least, most) in _RANGES.items():
        if variable in settings and not least <= int(settings[variable]) <= most:
            yield f"{variable} is {settings[variable]}; the server accepts {least} to {most}."
    default, allowed = (settings.get(f"katago_mcp_{name}_visits") for name in ("default", "max"))
    if default is not None and allowed is not None and int(default) > int(allowed):
        yield (
            f"katago_mcp_default_visits is {default}, above katago_mcp_max_visits, {allowed}."
            " Lower the first or raise the second."
        )


def _sharing_problems(settings: Settings) -> Iterator[str]:
    host = str(settings.get("katago_asset_host") or "")
    if host and host not in (hosts := settings.get("fleet_hosts") or ()):
        yield (
            f"katago_asset_host is {host!r}, which is no host of the group katago. Its hosts:"
            f" {', '.join(hosts)}."
        )
    mirror = str(settings.get("katago_asset_mirror") or "")
    if mirror and (problem := sharing.mirror_problem(mirror)):
        yield f"{problem}."


def is_loopback(address: str) -> bool:
    """Whether only the host itself can reach an address; False for a malformed address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def system_problems(host: Facts, *, untested: bool = False) -> Iterator[str]:
    """Problems that no variable can fix: an unsupported system, architecture, Python or systemd.

    `untested`: whether an untested system is accepted.
    """
    system = system_of(host)
    if not system.is_tested and not (untested and system.has_apt):
        yield os_release.refusal(system)
    if host["architecture"] not in SUPPORTED_ARCHITECTURES:
        yield f"The host's architecture is {host['architecture']}; KataGo is published for x86_64 only."
    if tuple(host["python"][:2]) < OLDEST_PYTHON:
        yield f"The host's Python is {'.'.join(map(str, host['python']))}; the server needs 3.11 or newer."
    if host["systemd"] < OLDEST_SYSTEMD:
        yield (
            f"The host's systemd is version {host['systemd']} (0 means that it is not running);"
            f" the unit's sandbox needs {OLDEST_SYSTEMD} or newer."
        )


def system_of(host: Facts) -> os_release.System:
    """The operating system of a measured host."""
    return shape.record(os_release.System, host["os"], "os")


def system_warnings(host: Facts) -> list[str]:
    """The warnings about a host: an untested system, and drop-ins that weaken the service's sandbox."""
    untested = os_release.warning(system_of(host))
    return [*([untested] if untested else []), *sandbox.sentences(host.get("weaknesses") or ())]


def _backend_problems(host: Facts, backend: str) -> Iterator[str]:
    supported = devices.backends(host["gpu_vendor"] or "none")
    # The eigen backends compute on the CPU and work everywhere, but they are much slower than a GPU.
    if backend not in supported and not backend.startswith("eigen"):
        device = f"a GPU by {host['gpu_vendor']}" if host["gpu_vendor"] else "no GPU that works"
        yield (
            f"katago_engine.backend is {backend}, but the host has {device}. Supported backends:"
            f" {', '.join(supported)}. To install a GPU driver: ansible-playbook playbooks/gpu_driver.yml"
        )


def _capacity_problems(host: Facts, networks: Mapping[str, int]) -> Iterator[str]:
    needed = sizing.memory_needed_mb(sum(networks.values()))
    if host["memory_mb"] < needed:
        yield (
            f"The host has {host['memory_mb']} MB of memory; this network needs about {needed} MB."
            " Set a smaller network in katago_network, or use a larger host."
        )
    install = RELEASE_DISK_MB
    install += ENGINE_DISK_MB if "engine" in host["lacks"] else 0
    install += 2 * sum(size for name, size in networks.items() if name in host["lacks"]) >> 20
    for path, least in (("/opt", install), ("/var", STATE_DISK_MB)):
        if host["disk_free_mb"][path] < least:
            yield (
                f"{path} has {host['disk_free_mb'][path]} MB free; the deployment needs {least} MB."
                " Free some space, or enlarge the file system."
            )
    for obstacle in host["disk_obstacles"]:
        yield f"{obstacle}. Repair the disk first."
    for closed in host["closed_directories"]:
        yield (
            f"{closed}, so the service's user cannot reach its files below it."
            f" Run on the host: chmod o+x {closed.partition(' has mode ')[0]}"
        )


def _unit_problems(host: Facts, *, credentials: bool) -> Iterator[str]:
    if masked := host.get("masked"):
        yield (
            f"{paths.SERVICE_UNIT} is masked by {masked}: somebody has forbidden its start. If it may start"
            f" again: systemctl unmask {paths.SERVICE_UNIT}"
        )
    lost = [each for each in host.get("weaknesses") or () if each["directive"] == sandbox.LOAD_CREDENTIAL]
    for each in lost if credentials else ():
        yield (
            f"{each['source']} sets {each['setting']}, so systemd passes no credentials to the service: it"
            f" would start without its tokens and its certificate. {sandbox.remedy(each['source'])}"
            " If the service then fails with status 243 in a container, allow the container to nest."
        )


def _listener_problems(host: Facts) -> Iterator[str]:
    for listener in host["listeners"]:
        if listener["error"]:
            yield (
                f"{listener['address']} port {listener['port']} cannot be bound on the host:"
                f" {listener['error']}. Choose an address of the host and a free port, or stop the process"
                " that uses it."
            )
