#!/usr/bin/python
"""Configures HAProxy as the load balancer of the fleet."""

from __future__ import annotations

DOCUMENTATION = r"""
module: load_balancer
short_description: Configure HAProxy as the load balancer of the fleet
description:
  - Writes C(/etc/katago-load-balancer/settings.json) and the C(haproxy.cfg) that is rendered from it. The
    servers are the hosts of the group C(katago), at their C(fleet_address).
  - Checks everything first, the variables on the control node, the ports and addresses on the host, and the
    configuration with C(haproxy -c). If anything is wrong, it refuses and changes nothing. Check mode does
    the same checks.
  - Reloads HAProxy, which loses no connection. HAProxy is restarted only if the sandbox of its unit changed,
    or if it does not run with a configuration of the fleet.
  - Succeeds only if the running process reports the new settings, listens on its ports and presents the
    new certificate. Otherwise it restores every file and reloads again. The previous configuration is kept
    beside the new one, with the ending C(.previous).
  - Hosts that are out of rotation stay out.
extends_documentation_fragment: [katago.fleet.load_balancer]
options:
  names:
    description: Host names that clients use, as C(load_balancer_names).
    type: list
    elements: str
    default: []
  listen_addresses:
    description: Addresses to listen on, as C(load_balancer_listen_addresses).
    type: list
    elements: str
    required: true
  http_port:
    description: The port of HTTP, as C(load_balancer_http_port).
    type: int
    required: true
  https_port:
    description: The port of HTTPS, as C(load_balancer_https_port).
    type: int
    required: true
  tls_certificate:
    description: The certificate with its chain; PEM, or a path on the control node; empty for no TLS.
    type: str
    default: ""
  tls_key:
    description: The certificate's key without a password; PEM, or a path on the control node.
    type: raw
    default: ""
  server_ca:
    description: The CA of the servers' certificates; PEM, or a path on the control node.
    type: str
    default: ""
  server_tls_name:
    description: The name that the servers' certificates must have; empty for that of each.
    type: str
    default: ""
  metrics_address:
    description: The address of statistics and metrics.
    type: str
    required: true
  metrics_port:
    description: The port of statistics and metrics.
    type: int
    required: true
  peers_port:
    description: The loopback port by which sessions outlive a reload.
    type: int
    required: true
  max_connections:
    description: Open connections of all clients.
    type: int
    required: true
  max_connections_per_server:
    description: Open connections to one server.
    type: int
    required: true
  max_request_bytes:
    description: The size of a request in bytes.
    type: int
    required: true
  rate_limit:
    description: Requests of one client address in 10 seconds; 0 for no limit.
    type: int
    required: true
  queue_timeout:
    description: Seconds that a request may wait for a server.
    type: int
    required: true
  idle_timeout:
    description: Seconds after which a stream without any data is closed.
    type: int
    required: true
  reload_timeout:
    description: Seconds that requests may take to end after a reload.
    type: int
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Configure the load balancer
  katago.fleet.load_balancer:
    names: [go.example.org]
    sandbox: {ProtectSystem: strict}
    listen_addresses: [0.0.0.0]
    http_port: 80
    https_port: 443
    tls_certificate: certificates/go.pem
    tls_key: "{{ vault_go_key }}"
    metrics_address: 127.0.0.1
    metrics_port: 8404
    peers_port: 8405
    max_connections: 2000
    max_connections_per_server: 2000
    max_request_bytes: 12648448
    rate_limit: 200
    queue_timeout: 10
    idle_timeout: 60
    reload_timeout: 960
"""

RETURN = r"""
servers:
  description: Addresses and ports of the servers by name.
  type: dict
  returned: success
action:
  description: What was, or would be, done with HAProxy; C(kept) if it uses these settings already.
  type: str
  returned: success
  sample: reloaded
has_tokens:
  description: Whether all servers have tokens.
  type: bool
  returned: success
out_of_rotation:
  description: The names of the servers that are out of rotation.
  type: list
  elements: str
  returned: success
"""

import contextlib
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    digest,
    directories,
    endings,
    file_set,
    shape,
    sockets,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import (
    config,
    haproxy,
    rotation,
    units,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.runtime import Runtime
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    VERSION,
    LoadBalancerError,
    Server,
    Settings,
    numbered,
    parsed,
    reachable,
)

PREVIOUS = ".previous"
VERIFY_SECONDS = 20
RELOAD_SECONDS = 5
CONNECT_SECONDS = 3
_POLL_SECONDS = 0.25
CERTIFICATE = "tls"
CA = "ca"


@dataclass(frozen=True)
class Target:
    """What the host shall have.

    `out`: the servers that are out of rotation. `record`: of these, if it differs from the present one.
    """

    settings: Settings
    text: str
    out: frozenset[str]
    certificate: str
    ca: str
    record: file_set.File | None = None

    def files(self) -> list[file_set.File]:
        """The files, in the order in which they are written. Those with a secret have mode 0600."""
        found = []
        if self.certificate:
            found.append(file_set.File(Path(self.settings.certificate), self.certificate.encode(), 0o600))
        if self.ca:
            found.append(file_set.File(Path(self.settings.ca_file), self.ca.encode()))
        return [
            *found,
            *([self.record] if self.record else []),
            *_with_previous(file_set.File(paths.LOAD_BALANCER_SETTINGS, self.settings.content())),
            *_with_previous(file_set.File(paths.HAPROXY_CONFIG, self.text.encode())),
        ]


def _with_previous(file: file_set.File) -> list[file_set.File]:
    """A file, and before it a copy of the one that it replaces."""
    present = _content(file.path)
    if present is None or file.is_current():
        return [file]
    return [file_set.File(file.path.with_name(file.path.name + PREVIOUS), present), file]


def target(
    request: Mapping[str, Any], previous: Settings | None, entries: Mapping[str, rotation.Entry]
) -> Target:
    """The settings and the configuration for a request of the control node. Raises ShapeError.

    `entries`: the hosts that are out of rotation, also those that are no servers any more.
    """
    certificate, ca = request["certificate"], request["ca"]
    known = {server.name: server.id for server in previous.servers} if previous else {}
    numbers = numbered([server["name"] for server in request["servers"]], known)
    settings = parsed(
        {
            **request["settings"],
            "version": VERSION,
            "servers": [{**server, "id": numbers[server["name"]]} for server in request["servers"]],
            "certificate": _path(CERTIFICATE, certificate),
            "ca_file": _path(CA, ca),
        }
    )
    kept = rotation.without_removed(entries, numbers)
    record = rotation.record(paths.ROTATION, kept) if kept != entries else None
    out = frozenset(kept) & numbers.keys()
    return Target(settings, config.render(settings, out), out, certificate, ca, record)


def _path(kind: str, content: str) -> str:
    """A file that is named by its content, so that the previous configuration keeps its own."""
    if not content:
        return ""
    return str(paths.LOAD_BALANCER_DIRECTORY / f"{kind}-{digest.of_text(content)[:16]}.pem")


def previous_settings(path: Path) -> Settings | None:
    """The settings that the host has; None if it has none that can be read."""
    try:
        return Settings.load(path)
    except (OSError, LoadBalancerError):
        return None


def host_problems(settings: Settings, proc: Path) -> list[str]:
    """Addresses that cannot be resolved or are not this host's, and ports that another process uses."""
    found = []
    for server in settings.servers:
        try:
            socket.getaddrinfo(server.address, server.port, type=socket.SOCK_STREAM)
        except OSError as error:
            found.append(
                f"The address of {server.name}, {server.address}, cannot be resolved on this host: {error}."
                f" Set fleet_address of {server.name} to its IP address."
            )
    own = units.processes(paths.LOAD_BALANCER_UNIT, proc)
    for field, address, port in settings.sockets():
        variable = f"load_balancer_{'metrics_address' if field == 'metrics_port' else 'listen_addresses'}"
        if problem := sockets.bind_problem(address, 0, own, proc):
            found.append(
                f"HAProxy cannot listen on {address}: {problem}. Set {variable} to"
                " addresses that this host always has; a virtual address needs 0.0.0.0 or ::."
            )
        elif problem := sockets.bind_problem(address, port, own, proc):
            found.append(
                f"HAProxy cannot listen on {address} port {port}: {problem}. Stop that process, or change"
                f" load_balancer_{field}."
            )
    return list(dict.fromkeys(found))


def server_problems(settings: Settings, out: frozenset[str]) -> list[str]:
    """Why no server can be reached from this host; [] if one can, or if all of them are out of rotation."""
    expected = [server for server in settings.servers if server.name not in out]
    with ThreadPoolExecutor(max_workers=16) as workers:
        reasons = list(workers.map(_connection_problem, expected))
    if not expected or not all(reasons):
        return []
    listed = "; ".join(
        f"{server.name} ({server.address} port {server.port}): {reason}"
        for server, reason in zip(expected, reasons, strict=True)
    )
    return [
        f"No server can be reached from this host. {listed}. Deploy and start the hosts, or correct their"
        " fleet_address, katago_mcp_port, katago_mcp_listen_address, or the firewall between them."
    ]


def _connection_problem(server: Server) -> str:
    try:
        socket.create_connection((server.address, server.port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def is_loaded(wanted: Target, haproxy: Runtime) -> bool:
    """Whether the running process uses the settings, and sends no requests to servers that are out."""
    try:
        if haproxy.digest() != config.digest(wanted.settings):
            return False
        admitted = {name for name, state in haproxy.servers().items() if not state.is_out}
    except LoadBalancerError:
        return False
    return not admitted & wanted.out


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def verify(wanted: Target, action: units.Action) -> None:
    """Wait until the running process uses the target. Raises LoadBalancerError if it does not in time."""
    now = time.monotonic()
    end, again = now + VERIFY_SECONDS, now + RELOAD_SECONDS
    while problem := running_problem(wanted, paths.PROC):
        now = time.monotonic()
        if now > end:
            raise LoadBalancerError(
                f"HAProxy was {action}, but {problem}. Last log lines: {units.log(paths.LOAD_BALANCER_UNIT)}"
            )
        # HAProxy's master process loses a signal that arrives while it finishes the reload before.
        if action == "reloaded" and now > again:
            units.reload(paths.LOAD_BALANCER_UNIT)
            again = now + RELOAD_SECONDS
        time.sleep(_POLL_SECONDS)


def running_problem(wanted: Target, proc: Path) -> str:
    """Why the running HAProxy does not use the target yet; empty if it does."""
    try:
        loaded = Runtime(paths.HAPROXY_SOCKET).digest()
    except LoadBalancerError:
        return f"it does not answer on {paths.HAPROXY_SOCKET}"
    if loaded != config.digest(wanted.settings):
        return "the running process still uses other settings"
    ports = sockets.ports_of(units.processes(paths.LOAD_BALANCER_UNIT, proc), proc)
    if missing := sorted({each.port for each in wanted.settings.sockets()} - ports):
        return f"it does not listen on port {missing[0]}"
    if wanted.certificate and served_certificate(wanted.settings) != ssl.PEM_cert_to_DER_cert(
        first_certificate(wanted.certificate)
    ):
        return "it presents another certificate"
    return ""


def served_certificate(settings: Settings) -> bytes | None:
    """The certificate that HAProxy presents, in DER; None without an answer."""
    # The certificate is compared, so it need not be verified.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    place = (reachable(settings.listen_addresses[0]), settings.https_port)
    try:
        with (
            socket.create_connection(place, timeout=5) as plain,
            context.wrap_socket(plain) as connection,
        ):
            return connection.getpeercert(binary_form=True)
    except OSError:
        return None


def first_certificate(text: str) -> str:
    """The first certificate of a PEM text."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    return text[text.index(begin) : text.index(end) + len(end)]


def _remove_unused(settings: Settings) -> None:
    """Remove certificates that neither the new configuration nor the previous one uses."""
    previous = previous_settings(
        paths.LOAD_BALANCER_SETTINGS.with_name(paths.LOAD_BALANCER_SETTINGS.name + PREVIOUS)
    )
    used = {each.certificate for each in (settings, previous) if each}
    used |= {each.ca_file for each in (settings, previous) if each}
    for kind in (CERTIFICATE, CA):
        for path in paths.LOAD_BALANCER_DIRECTORY.glob(f"{kind}-*.pem"):
            if str(path) not in used:
                path.unlink(missing_ok=True)


def refuse(module: AnsibleModule, problems: Sequence[str]) -> None:
    """End the module; nothing was changed."""
    listed = "\n".join(f"- {problem}" for problem in problems)
    module.fail_json(msg=f"Refused; nothing was changed on this host.\n{listed}", refused=True)


def configure(module: AnsibleModule, wanted: Target) -> dict[str, Any]:
    """Check the configuration and apply it; the module's result."""
    # In check mode, the package may not be installed yet.
    if paths.HAPROXY.exists() and (
        problems := haproxy.problems(
            paths.HAPROXY, wanted.settings, wanted.out, wanted.certificate, wanted.ca
        )
    ):
        refuse(module, [f"HAProxy rejects the configuration: {problem}" for problem in problems])
    sandbox = file_set.File(units.drop_in(paths.LOAD_BALANCER_UNIT), module.params["sandbox"].encode())
    plan = units.plan(
        paths.LOAD_BALANCER_UNIT,
        sandbox,
        wanted.files(),
        is_new=not paths.LOAD_BALANCER_SETTINGS.exists(),
        is_loaded=is_loaded(wanted, Runtime(paths.HAPROXY_SOCKET)),
    )
    before = _content(paths.HAPROXY_CONFIG) or b""
    if plan.changes and not module.check_mode:
        directories.make(paths.LOAD_BALANCER_DIRECTORY, own=paths.LOAD_BALANCER_DIRECTORY)
        units.apply(plan, lambda: verify(wanted, plan.action))
        _remove_unused(wanted.settings)
    return {
        "changed": plan.changes,
        "action": plan.action,
        "diff": {
            "before": before.decode(errors="replace"),
            "after": wanted.text,
            "before_header": str(paths.HAPROXY_CONFIG),
            "after_header": str(paths.HAPROXY_CONFIG),
        },
    }


def main() -> None:
    """Check, then configure HAProxy."""
    module = AnsibleModule(
        argument_spec={
            "requires_server": {"type": "bool", "default": True},
            "sandbox": {"type": "str", "required": True},
            "settings": {"type": "dict", "required": True},
            "servers": {"type": "list", "elements": "dict", "required": True},
            "certificate": {"type": "raw", "default": "", "no_log": True},
            "ca": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        # A host that leaves meanwhile must be in the configuration as one that is out.
        with contextlib.nullcontext() if module.check_mode else rotation.locked(paths.ROTATION):
            wanted = target(
                module.params,
                previous_settings(paths.LOAD_BALANCER_SETTINGS),
                rotation.read(paths.ROTATION),
            )
            problems = host_problems(wanted.settings, paths.PROC)
            if module.params["requires_server"] and not problems:
                problems = server_problems(wanted.settings, wanted.out)
            if problems:
                refuse(module, problems)
            result = configure(module, wanted)
    except shape.ShapeError as error:
        refuse(module, [f"load_balancer_{error}"])
    except LoadBalancerError as error:
        module.fail_json(msg=str(error))
    except (OSError, subprocess.SubprocessError) as error:
        module.fail_json(msg=f"HAProxy was not configured: {endings.of_error(error)}. Run again.")
    module.exit_json(
        **result,
        servers={server.name: f"{server.address} {server.port}" for server in wanted.settings.servers},
        out_of_rotation=sorted(wanted.out),
    )


if __name__ == "__main__":
    main()
