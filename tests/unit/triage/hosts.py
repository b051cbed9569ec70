"""Facts of triage for tests: a healthy host or load balancer, and the same with some keys changed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ansible_collections.katago.fleet.plugins.plugin_utils.drill import example_facts
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.example_facts import MACHINE, server

__all__ = [
    "BALANCER_UNIT",
    "MACHINE",
    "NOW",
    "Facts",
    "balancing",
    "having",
    "healthy",
    "load_balancer",
    "server",
]

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
Facts = example_facts.Entries
BALANCER_UNIT = example_facts.balancer_unit(NOW)


def healthy() -> Facts:
    """A host that is healthy, idle, and as fast as its baseline."""
    return example_facts.healthy(NOW)


def having(**changes: dict[str, Any]) -> Facts:
    """A healthy host with some keys of some facts changed."""
    facts = healthy()
    for name, change in changes.items():
        facts[name]["value"] = {**facts[name]["value"], **change}
    return facts


def load_balancer() -> Facts:
    """One of two load balancers, which has the virtual address and sends requests to two hosts."""
    return example_facts.load_balancer(NOW, ("katago-1", "katago-2"), ("lb-1", "lb-2"))


def balancing(**changes: dict[str, Any]) -> Facts:
    """A healthy load balancer with some keys of some facts changed."""
    facts = load_balancer()
    for name, change in changes.items():
        facts[name]["value"] = {**facts[name]["value"], **change}
    return facts
