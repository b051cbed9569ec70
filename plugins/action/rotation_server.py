"""The control node's part of `katago.fleet.rotation_server`: the certificate's name, and the CAs."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import certificates, load_balancer
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.run.fleet_hosts import LOAD_BALANCERS


class ActionModule(ActionBase):
    """Changes nothing."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Have the host report its port and certificate, and complete the answer."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation.validated(self)
        variables = task_vars or {}
        seen = self._execute_module(module_name="katago.fleet.rotation_server", task_vars=task_vars)
        server = seen.get("server")
        if not server or not server["tls"]:
            return {**result, **seen}
        try:
            cas = {
                name: certificates.pem(variables["hostvars"][name].get("load_balancer_server_ca", ""))
                for name in variables["groups"].get(LOAD_BALANCERS) or []
            }
        except OSError as error:
            warning = f"load_balancer_server_ca cannot be read: {error}. Set it to a file, or to PEM text."
            return {**result, **seen, "server": None, "warnings": [warning]}
        named = {**server, "tls_name": load_balancer.tls_name(seen["certificate"])}
        return {**result, **seen, "server": named, "cas": cas}
