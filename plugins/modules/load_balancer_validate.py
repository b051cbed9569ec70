#!/usr/bin/python
"""Validates a load balancer by requests through its own ports."""

from __future__ import annotations

DOCUMENTATION = r"""
module: load_balancer_validate
short_description: Validate a load balancer by requests through its own ports
description:
  - Waits until at least one server is up. Then C(/ready) through the port of clients must answer 200.
    C(/mcp) without a token must be refused with 401 for each of the names that clients use, if the servers
    have tokens. C(/admin) and C(/metrics) must not be reachable.
  - With a virtual address, C(/ready) at this address must answer 200 too if this load balancer has it.
    Otherwise another one must have it. Its port and scheme may still be the previous ones.
  - If no server is up, the message has the reason for each of them.
options:
  has_tokens:
    description: Whether the servers have tokens.
    type: bool
    required: true
  virtual_address:
    description: The address that the load balancers share, as C(load_balancer_virtual_address).
    type: str
    default: ""
  deadline:
    description: Seconds until all checks must have passed.
    type: int
    default: 30
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Validate the load balancer
  katago.fleet.load_balancer_validate:
    has_tokens: true
"""

RETURN = r"""
message:
  description: Which servers are up, and why the others are not.
  type: str
  returned: success
"""

import socket
import time
from collections.abc import Sequence

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import (
    interfaces,
    requests,
    server_state,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.runtime import Runtime
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    LoadBalancerError,
    Settings,
    reachable,
)

POLL_SECONDS = 0.5


def problem(settings: Settings, *, has_tokens: bool, virtual_address: str) -> str:
    """Why the load balancer does not serve its clients now; empty if it does."""
    try:
        states = list(Runtime(paths.HAPROXY_SOCKET).servers().values())
    except LoadBalancerError as error:
        return str(error)
    if not any(state.is_up for state in states):
        return f"no server is up. {'. '.join(server_state.down_sentences(states))}"
    return requests.problem(
        settings, reachable(settings.listen_addresses[0]), has_tokens=has_tokens
    ) or _address_problem(settings, virtual_address.partition("/")[0])


def _address_problem(settings: Settings, address: str) -> str:
    if not address:
        return ""
    try:
        is_own = interfaces.with_address(address, interfaces.read("address"))
    except LoadBalancerError as error:
        return str(error)
    return _problem_here(settings, address) if is_own else _problem_elsewhere(settings, address)


def _problem_here(settings: Settings, address: str) -> str:
    answer = requests.send(settings, address, "/ready")
    if answer is not None and answer.status == 200:
        return ""
    got = "no answer" if answer is None else f"HTTP {answer.status}"
    every = "::" if ":" in address else "0.0.0.0"  # noqa: S104 (compared and named, not bound)
    remedy = (
        f"See `journalctl -u {paths.LOAD_BALANCER_UNIT}` here"
        if every in settings.listen_addresses
        else f"HAProxy does not listen there: load_balancer_listen_addresses is"
        f" {list(settings.listen_addresses)}. Set it to {[every]}"
    )
    return (
        f"this load balancer has the virtual address {address}, but /ready at its port {settings.port} gets"
        f" {got}. {remedy}"
    )


def _problem_elsewhere(settings: Settings, address: str) -> str:
    """Why no other load balancer has the address. Its HAProxy may still have the previous port and scheme."""
    try:
        socket.create_connection((address, settings.port), timeout=requests.SECONDS).close()
    except ConnectionRefusedError:
        return ""
    except OSError as error:
        return (
            f"no load balancer has the virtual address {address}: a connection to port {settings.port} fails"
            f" ({error.strerror or error}). See `journalctl -u {paths.KEEPALIVED_UNIT}` on each of them."
            " The network must let protocol 112 (VRRP) pass between them"
        )
    return ""


def success(settings: Settings, states: Sequence[server_state.ServerState]) -> str:
    """What works, and which servers get no requests."""
    up = sum(state.is_up for state in states)
    scheme = "HTTPS" if settings.certificate else "HTTP"
    down = server_state.down_sentences(states)
    text = f"{up} of {len(states)} servers are up; clients use {scheme} port {settings.port}."
    return text + (f" {'. '.join(down)}." if down else "")


def main() -> None:
    """Wait until all checks pass."""
    module = AnsibleModule(
        argument_spec={
            "has_tokens": {"type": "bool", "required": True},
            "virtual_address": {"type": "str", "default": ""},
            "deadline": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        settings = Settings.load(paths.LOAD_BALANCER_SETTINGS)
    except (OSError, LoadBalancerError) as error:
        module.fail_json(msg=f"The load balancer has no settings: {error}")
    end = time.monotonic() + module.params["deadline"]
    while found := problem(
        settings,
        has_tokens=module.params["has_tokens"],
        virtual_address=module.params["virtual_address"],
    ):
        if time.monotonic() > end:
            module.fail_json(msg=f"The load balancer does not serve its clients: {found}.")
        time.sleep(POLL_SECONDS)
    try:
        states = list(Runtime(paths.HAPROXY_SOCKET).servers().values())
    except LoadBalancerError as error:
        module.fail_json(msg=f"The load balancer does not serve its clients: {error}.")
    module.exit_json(changed=False, message=success(settings, states))


if __name__ == "__main__":
    main()
