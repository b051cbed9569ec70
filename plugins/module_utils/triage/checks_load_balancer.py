"""The checks of triage on a load balancer. Each measures one fact that `facts_load_balancer.py` declares."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Literal

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    commands,
    endings,
    shape,
    unit_state,
    workers,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import (
    config,
    haproxy,
    interfaces,
    keepalived,
    rotation,
    runtime,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    LoadBalancerError,
    Settings,
    reachable,
)
from ansible_collections.katago.fleet.plugins.module_utils.service import unit as service_unit
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts_load_balancer as facts
from ansible_collections.katago.fleet.plugins.module_utils.triage import rules_load_balancer

WATCHED_SECONDS = 5
"""How long the virtual address is watched: it moves within less."""
_POLL_SECONDS = 0.5
_CONNECT_SECONDS = 2
_ADDRESS = re.compile(r"^\s*virtual_ipaddress \{\n\s*(?P<address>\S+) dev (?P<interface>\S+)$", re.M)


def settings() -> Settings:
    """The load balancer's settings. Raises NoResult if it is not set up."""
    try:
        return Settings.load(paths.LOAD_BALANCER_SETTINGS)
    except FileNotFoundError as error:
        raise workers.NoResult(
            f"the load balancer is not set up: {paths.LOAD_BALANCER_SETTINGS} does not exist"
        ) from error
    except LoadBalancerError as error:
        raise workers.NoResult(str(error)) from error


def unit(name: str) -> facts.BalancerUnit:
    """A unit of the load balancer."""
    shown = unit_state.properties(
        name, "LoadState", "ActiveState", "SubState", "Result", "NRestarts", "ExecMainStartTimestamp"
    )
    active = shown["ActiveState"]
    started = shown.get("ExecMainStartTimestamp", "").removeprefix("@")
    return {
        "load": shown["LoadState"],
        "active": active,
        "sub": shown["SubState"],
        "result": shown["Result"],
        "restarts": int(shown.get("NRestarts") or 0),
        "started_at": float(started) if started and active == "active" else None,
    }


def running_haproxy() -> facts.Haproxy:
    """HAProxy's unit, and whether the process answers."""
    silent = runtime.Runtime(paths.HAPROXY_SOCKET).silence()
    return {**unit(paths.LOAD_BALANCER_UNIT), "silent": silent}


def haproxy_config() -> facts.HaproxyConfig:
    """The configuration's problems, and whether the file and the process are those of the settings."""
    current = settings()
    status, output = commands.ask(
        [str(paths.HAPROXY), "-c", "-f", str(paths.HAPROXY_CONFIG)], haproxy.CHECK_SECONDS
    )
    try:
        text = paths.HAPROXY_CONFIG.read_text(errors="replace")
    except FileNotFoundError:
        text = ""
    problems = haproxy.translated(output, text)
    if status != 0 and not problems:
        problems = [endings.describe(output, status=status)]
    try:
        edited = text != config.render(current, rotation.read(paths.ROTATION).keys())
    except LoadBalancerError as error:
        problems.append(str(error))
        edited = False
    try:
        in_use = runtime.Runtime(paths.HAPROXY_SOCKET).digest() == config.digest(current)
    except LoadBalancerError:
        in_use = None
    return {"problems": problems, "edited": edited, "in_use": in_use}


def rotation_state(
    read: Callable[[], facts.Rotation] | None = None, sleep: Callable[[float], object] = time.sleep
) -> facts.Rotation:
    """The record of the hosts that are out, and what HAProxy does.

    Read again after a second if they differ: a procedure changes one after the other.
    """
    read = read or _rotation
    state = read()
    if rules_load_balancer.disagreements(state):
        sleep(1)
        state = read()
    return state


def _rotation() -> facts.Rotation:
    try:
        out = {name: asdict(entry) for name, entry in rotation.read(paths.ROTATION).items()}
    except LoadBalancerError as error:
        raise workers.NoResult(str(error)) from error
    try:
        servers = runtime.Runtime(paths.HAPROXY_SOCKET).servers()
    except LoadBalancerError:
        # The fact `haproxy` has the reason.
        return shape.typed(facts.Rotation, {"out": out, "servers": None}, "rotation")
    fields = facts.BalancerServer.__annotations__
    shown = {
        name: {field: value for field, value in asdict(server).items() if field in fields}
        for name, server in servers.items()
    }
    return shape.typed(facts.Rotation, {"out": out, "servers": shown}, "rotation")


def virtual_address() -> facts.VirtualAddress | None:
    """The address that keepalived shares; None if the load balancer shares none."""
    try:
        text = paths.KEEPALIVED_CONFIG.read_text()
    except FileNotFoundError:
        return None
    shared = shared_address(text)
    if shared is None:
        return None
    address, interface = shared
    return {
        "address": address,
        "interface": interface,
        "unit": unit(paths.KEEPALIVED_UNIT),
        "held": held(lambda: _has(address)),
        "refused": _refusal(address, settings().port),
    }


def shared_address(text: str) -> tuple[str, str] | None:
    """The address, without its prefix length, and the interface in a configuration of this collection."""
    if not text.startswith(keepalived.HEADER) or not (match := _ADDRESS.search(text)):
        return None
    return match["address"].partition("/")[0], match["interface"]


def held(
    has_address: Callable[[], bool], sleep: Callable[[float], object] = time.sleep
) -> Literal["always", "never", "sometimes"]:
    """Whether the address was here all the time that it was watched."""
    seen = set()
    for _ in range(int(WATCHED_SECONDS / _POLL_SECONDS)):
        seen.add(has_address())
        sleep(_POLL_SECONDS)
    if len(seen) == 2:
        return "sometimes"
    return "always" if seen.pop() else "never"


def _has(address: str) -> bool:
    try:
        return bool(interfaces.with_address(address, interfaces.read("address")))
    except LoadBalancerError as error:
        raise workers.NoResult(str(error)) from error


def _refusal(address: str, port: int) -> str:
    try:
        with socket.create_connection((address, port), timeout=_CONNECT_SECONDS):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def certificate() -> facts.BalancerCertificate | None:
    """The certificate that HAProxy presents, without reading the file with its key; None without TLS.

    Raises NoResult if HAProxy presents none.
    """
    current = settings()
    if not current.certificate:
        return None
    place = (reachable(current.listen_addresses[0]), current.https_port)
    try:
        return {"pem": ssl.get_server_certificate(place, timeout=_CONNECT_SECONDS)}
    except OSError as error:
        raise workers.NoResult(
            f"no TLS handshake at {place[0]} port {place[1]}: {error.strerror or error}"
        ) from error


def last_lines(lines: int) -> list[str]:
    """The last lines of HAProxy's log."""
    return service_unit.journal(lines, unit=paths.LOAD_BALANCER_UNIT).splitlines()
