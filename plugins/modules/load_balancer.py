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
  relay_port:
    description: The loopback port by which a process that a reload replaced passes on late requests.
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
    relay_port: 8406
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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import endings, shape, sockets
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import (
    in_force,
    rotation,
    target,
    units,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    LoadBalancerError,
    Server,
    Settings,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.target import Target

CONNECT_SECONDS = 3


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


def server_problems(wanted: Target, previous: Settings | None) -> list[str]:
    """Servers that are not deployed yet as HAProxy would call them; or why none can be reached.

    [] if that is right, or if all servers are out of rotation. `previous`: the settings in force.
    """
    expected = [server for server in wanted.settings.servers if server.name not in wanted.out]
    would = calls(wanted.settings, wanted.ca)
    does = calls(previous, target.pem_of(previous.ca_file)) if previous else {}
    with ThreadPoolExecutor(max_workers=16) as workers:
        reasons = list(workers.map(_connection_problem, expected))
        names = [server.name for server in expected]
        problems = workers.map(lambda name: _deployment_problem(name, would[name], does.get(name)), names)
        undeployed = [problem for problem in problems if problem]
    if undeployed or not expected or not all(reasons):
        return undeployed
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


@dataclass(frozen=True)
class _Call:
    """How HAProxy calls a server. `name`: that its certificate must have; empty for any."""

    address: str
    port: int
    tls: bool
    name: str
    ca: str

    def __str__(self) -> str:
        if not self.tls:
            return f"without TLS at {self.address} port {self.port}"
        name = f" for {self.name}" if self.name else ""
        return (
            f"with TLS at {self.address} port {self.port} and a certificate{name} by load_balancer_server_ca"
        )

    def is_answered(self) -> bool:
        """Whether a server answers as HAProxy expects."""
        try:
            with socket.create_connection((self.address, self.port), timeout=CONNECT_SECONDS) as plain:
                if self.tls:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                    context.load_verify_locations(cadata=self.ca)
                    context.check_hostname = bool(self.name)
                    # HAProxy trusts a certificate that is in its file, whoever signed it.
                    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
                    context.wrap_socket(plain, server_hostname=self.name or None).close()
                    return True
                plain.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                return plain.recv(5) == b"HTTP/"
        except (OSError, ValueError):
            return False


def calls(settings: Settings, ca: str) -> dict[str, _Call]:
    """How HAProxy calls each server, by its name. `ca`: the CA in PEM."""
    return {
        server.name: _Call(
            server.address,
            server.port,
            server.tls,
            (settings.server_tls_name or server.tls_name) if server.tls else "",
            ca if server.tls else "",
        )
        for server in settings.servers
    }


def _deployment_problem(name: str, would: _Call, does: _Call | None) -> str:
    """That a server is not deployed yet as HAProxy would call it; empty if it is, or if nothing is known."""
    if does in (None, would) or would.is_answered() or not does.is_answered():
        return ""
    if replace(does, ca=would.ca) == would:
        still, wanted = "has a certificate by the previous load_balancer_server_ca", "one by the new one"
    else:
        still, wanted = f"serves {does}", f"{would}, as its variables say"
    return (
        f"{name} still {still}, and not {wanted}. HAProxy would get no answer from it. Deploy it first:"
        " ansible-playbook playbooks/deploy.yml. The deployment changes the load balancers too."
    )


def refuse(module: AnsibleModule, problems: Sequence[str]) -> None:
    """End the module; nothing was changed."""
    listed = "\n".join(f"- {problem}" for problem in problems)
    module.fail_json(msg=f"Refused; nothing was changed on this host.\n{listed}", refused=True)


def configure(module: AnsibleModule, wanted: Target) -> dict[str, Any]:
    """Check the configuration and apply it; the module's result."""
    # In check mode, the package may not be installed yet.
    if problems := in_force.rejections(wanted):
        refuse(module, problems)
    plan = in_force.plan(wanted, module.params["sandbox"].encode())
    before = target.present(paths.HAPROXY_CONFIG) or b""
    if plan.changes and not module.check_mode:
        in_force.apply(wanted, plan)
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
            previous = target.previous_settings(paths.LOAD_BALANCER_SETTINGS)
            wanted = target.requested(module.params, previous, rotation.read(paths.ROTATION))
            problems = host_problems(wanted.settings, paths.PROC)
            if module.params["requires_server"] and not problems:
                problems = server_problems(wanted, previous)
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
