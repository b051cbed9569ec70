"""Filters of the roles: thin names for functions of `module_utils`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.katago.fleet.plugins.module_utils.backup import restic
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, systemd_run
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import is_ip_address
from ansible_collections.katago.fleet.plugins.module_utils.release import sizing
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import certificates, shared_cache
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import alert_channels
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import fleet as monitoring_fleet
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import rotation_table as table
from ansible_collections.katago.fleet.plugins.plugin_utils.run import (
    commands,
    fleet_hosts,
    outcome,
    variables,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing import allowed, inventory

_ROLES = Path(__file__).resolve().parents[2] / "roles"


def hashed_tokens(tokens: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tokens as the service is given them: name, scopes and sha256, in the order of their names."""
    return [
        {
            "name": token["name"],
            "scopes": list(token["scopes"]),
            "sha256": digest.of_text(token["token"]),
        }
        for token in sorted(tokens, key=lambda token: str(token["name"]))
    ]


def engine_sizing(host: dict[str, Any]) -> dict[str, int]:
    """The engine's sizes for a host as `katago.fleet.preflight` measured it."""
    return asdict(sizing.size(processors=host["processors"], memory_mb=host["memory_mb"], gpu=host["gpu"]))


def explanation(
    failure: Mapping[str, Any] | None,
    state: Mapping[str, Any],
    next_step: str,
    sources: Sequence[str],
    rotation: str = "",
) -> str:
    """The message of a failed procedure; its commands have the inventory of the run, `sources`."""
    return commands.as_run_here(outcome.explanation(failure, state, next_step, rotation), sources)


def rotation_table(answers: Sequence[Mapping[str, Any]], hosts: Sequence[str], sources: Sequence[str]) -> str:
    """The rotation in lines; their commands have the inventory of the run, `sources`."""
    return commands.as_run_here("\n".join(table.lines(answers, hosts)), sources)


def fleet_addresses(names: Sequence[str], hosts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The IP addresses at which other hosts reach these hosts; without hosts that are known by name only."""
    addresses = [fleet_hosts.address(name, hosts[name]) for name in names]
    return [address for address in addresses if is_ip_address(address)]


def healing_inventory(
    groups: Mapping[str, Sequence[str]],
    hosts: Mapping[str, Mapping[str, Any]],
    actions: Sequence[str],
    records: str,
) -> str:
    """The inventory of fleet healing as JSON. Raises AnsibleFilterError for a list that is not allowed."""
    try:
        allowed.parse(actions)
    except allowed.NotAllowedError as error:
        raise AnsibleFilterError(f"fleet_healing_actions: {error}.") from error
    options = {
        role: tuple(variables.options_of(_ROLES, role)) for role in (*inventory.ROLES, inventory.OF_BACKUP)
    }
    return inventory.rendered(groups, hosts, options, actions=actions, records=records)


def alertmanager_cluster(
    names: Sequence[str], hosts: Mapping[str, Mapping[str, Any]], monitor: str, port: int
) -> list[str]:
    """The options with which the Alertmanager of `monitor` finds those of the other monitoring hosts."""
    addresses = {name: fleet_hosts.address(name, hosts[name]) for name in names}
    return monitoring_fleet.cluster_options(addresses, monitor, port)


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them."""
        return {
            "alertmanager_cluster": alertmanager_cluster,
            "alertmanager_credentials": alert_channels.credentials,
            "engine_sizing": engine_sizing,
            "explanation": explanation,
            "fleet_addresses": fleet_addresses,
            "healing_inventory": healing_inventory,
            "healing_known_hosts": inventory.known_hosts,
            "hashed_tokens": hashed_tokens,
            "pem": certificates.pem,
            "shown_repository": restic.redacted_address,
            "memory_needed_mb": sizing.memory_needed_mb,
            "result_of": outcome.result,
            "rotation_table": rotation_table,
            "shared_cache_addresses": shared_cache.addresses,
            "unit_lines": systemd_run.properties,
        }
