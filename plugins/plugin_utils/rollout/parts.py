"""The parts of a planned rollout as plays need them: patterns of hosts, and sizes of batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_hosts


def part(
    name: str, plan: Mapping[str, Any] | None, verdict: Mapping[str, Any] | None, *, check: bool
) -> str | list[int]:
    """A part of a plan. Without a plan, as for `--list-hosts`, it has no hosts.

    In check mode there is no soak, and one batch. Without a verdict that lets the rollout continue, no batch
    follows a soak. Raises ValueError for an unknown name.
    """
    sizes = list(plan["sizes"]) if plan else []
    hosts: dict[str, list[str]] = {"skipped": [], "canary": [], "soak": [], "failed": [], "batches": []}
    if plan:
        hosts["skipped"] = list(plan["skipped"])
        hosts["canary"] = [plan["canary"]] if plan["canary"] else []
        hosts["batches"] = [host for batch in plan["batches"] for host in batch]
        if plan["soaking"] and not check:
            hosts["soak"] = [plan["soaking"], *plan["references"]]
            state = verdict["state"] if verdict else None
            hosts["failed"] = hosts["soak"][:1] if state == "failed" else []
            if state not in ("passed", "undecided"):
                hosts["batches"] = []
    if name == "sizes":
        return [sum(sizes)] if check and sizes else sizes or [1]
    if name not in hosts:
        raise ValueError(f"{name!r} is no part of a rollout. Parts: {', '.join([*hosts, 'sizes'])}.")
    return ",".join(hosts[name]) or fleet_hosts.NOBODY
