"""The control node's part of `katago.fleet.load_balancer`: the servers, the certificate, the checks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import certificates, load_balancer
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy.load_balancer_action import (
    Arguments,
    LoadBalancerAction,
    Variables,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.run.fleet_hosts import GROUP

_NO_SETTINGS = ("sandbox", "tls_certificate", "tls_key", "server_ca")


class ActionModule(LoadBalancerAction):
    """Checks the variables, and has the module configure HAProxy on the host."""

    module = "load_balancer"

    def problems(self, arguments: Arguments, variables: Variables) -> list[str]:
        """What is wrong with the variables of the load balancer and of the fleet's hosts."""
        own = str(variables["inventory_hostname"])
        return load_balancer.problems(own, arguments, _hosts(variables), now=datetime.now(UTC))

    def parameters(self, arguments: Arguments, variables: Variables) -> dict[str, Any]:
        """The settings, the servers and the certificates."""
        return {
            "settings": {
                "local_name": variables["inventory_hostname"],
                **{name: value for name, value in arguments.items() if name not in _NO_SETTINGS},
            },
            "servers": load_balancer.servers(_hosts(variables)),
            "certificate": load_balancer.bundle(arguments["tls_certificate"], arguments["tls_key"]),
            "ca": certificates.pem(arguments["server_ca"]),
            # In check mode of the whole run, the hosts may not be deployed yet.
            "requires_server": not variables.get("ansible_check_mode"),
        }

    def additions(self, variables: Variables) -> dict[str, Any]:
        """Whether the servers have tokens, and what could be better."""
        hosts = _hosts(variables)
        warnings = load_balancer.warnings(hosts)
        return {
            "has_tokens": all(host["katago_mcp_tokens"] for host in hosts.values()),
            **({"warnings": warnings} if warnings else {}),
        }


def _hosts(variables: Variables) -> dict[str, dict[str, Any]]:
    names = variables["groups"].get(GROUP) or []
    return {name: load_balancer.with_defaults(variables["hostvars"][name]) for name in names}
