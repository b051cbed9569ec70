"""The control node's part of `katago.fleet.monitoring_config`: what the inventory has, and the files made"
" from it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from ansible.plugins.action import ActionBase

from ansible_collections.katago.fleet.plugins.module_utils.incident import wording
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import (
    alert_channels,
    configuration,
    fleet,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.run import arguments as validation
from ansible_collections.katago.fleet.plugins.plugin_utils.run.fleet_hosts import GROUP, MONITORING

_PROBE_DEADLINE = 20.0


class ActionModule(ActionBase):
    """Renders the configuration, and has the module check and install it."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the inventory, render, install."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = validation.validated(self)
        known = task_vars or {}
        groups, monitor = known["groups"], known["inventory_hostname"]
        variables = fleet.with_defaults(groups, known["hostvars"])
        hosts = fleet.hosts(groups, variables)
        token = str(arguments["token"])
        receivers, problems = parsed(arguments["receivers"])
        channels = alert_channels.used(arguments["channels"], arguments["incident_channels"])
        problems += [*channels.problems, *fleet.problems(hosts, token, monitor)]
        if _is_placeholder(arguments["heartbeat_url"]):
            problems.append("monitoring_heartbeat_url is a placeholder. Set a real address, or an empty one.")
        if problems:
            listed = "\n".join(f"- {problem}" for problem in problems)
            msg = f"Refused; nothing was changed on this host.\n{listed}"
            return {**result, "failed": True, "refused": True, "msg": msg}
        ports = configuration.Ports(
            *(arguments[f"{name}_port"] for name in ("prometheus", "alertmanager", "blackbox", "prober"))
        )
        order = {
            "prober": monitor,
            "port": ports.prober,
            "interval": float(arguments["probe_interval"]),
            "deadline": _PROBE_DEADLINE,
            "targets": fleet.probed(groups, variables),
        }
        done: dict[str, Any] = self._execute_module(
            module_name="katago.fleet.monitoring_config",
            module_args={
                "files": {
                    **configuration.files(
                        hosts,
                        monitor=monitor,
                        ports=ports,
                        receivers=[*receivers, *channels.receivers],
                        heartbeat=arguments["heartbeat_url"],
                        reference=arguments["reference"],
                        name=arguments["fleet"],
                        healing=(
                            configuration.Healing(arguments["healing_port"], str(arguments["healing_token"]))
                            if arguments["healing_port"]
                            else None
                        ),
                    ),
                    **{f"{alert_channels.SECRETS}/{name}": text for name, text in channels.secrets.items()},
                },
                "hosts": [host.name for host in hosts],
                "monitors": list(groups[MONITORING]),
                "certificates": {
                    host.name: known["hostvars"][host.name].get("monitoring_certificate") or ""
                    for host in hosts
                },
                "token": token,
                "probe_token": fleet.token_to_analyse(variables, groups.get(GROUP) or []),
                "order": json.dumps(order, indent=1) + "\n",
                "inventory": fleet.inventory_metrics(hosts, monitor),
            },
            task_vars=task_vars,
        )
        return {**result, **done}


def _is_placeholder(url: str) -> bool:
    parts = urlsplit(url)
    return bool(url) and wording.is_placeholder_url(parts.hostname or "", parts.path)


def parsed(value: Any) -> tuple[list[configuration.Receiver], list[str]]:
    """The receivers of the inventory, and the problems with them. Their channels are checked by amtool."""
    receivers, problems = [], []
    for number, each in enumerate(value or [], 1):
        content = dict(each) if isinstance(each, dict) else {}
        name, severities = content.pop("name", None), content.pop("severities", None)
        if not name or not severities or not content:
            problems.append(
                f"monitoring_receivers: entry {number} needs `name`, `severities` such as [P0, P1], and a"
                f" channel"
                " in Alertmanager's format, such as `webhook_configs`."
            )
        else:
            receivers.append(configuration.Receiver(str(name), tuple(map(str, severities)), content))
    return receivers, problems
