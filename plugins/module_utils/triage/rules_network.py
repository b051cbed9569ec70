"""Rules for the network: the ports of the service, and the way from its clients to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import (
    Answer,
    Clients,
    Intruder,
    Security,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason

VARIABLES = {"server.port": "katago_mcp_port", "metrics.port": "katago_mcp_metrics_port"}


def ports(ports: Sequence[Intruder]) -> Iterator[Reason]:
    """Report a port of the service that another process uses."""
    for each in ports:
        unit = f" of {each['unit']}" if each["unit"] else ""
        yield Reason(
            "P0",
            "ports",
            f"port {each['port']} ({each['setting']}) is used by {each['name']} (PID {each['pid']}{unit})",
            f"katago-mcp; stop {each['name']} and restart, or set {VARIABLES[each['setting']]} and deploy",
        )


def clients(clients: Clients, health: Answer | None, security: Security | None) -> Iterator[Reason]:
    """Report that clients cannot connect to a service that answers on its host.

    Not while security mode cuts them off on purpose.
    """
    answers = health is not None and health["status"] is not None
    isolated = bool(security and security["isolated"])
    if clients["error"] and answers and not isolated:
        yield Reason(
            "P0",
            "clients",
            f"clients cannot connect to {clients['address']}: {clients['error']}",
            "a connection; check the firewall (`nft list ruleset`), the listen address and the network",
        )
