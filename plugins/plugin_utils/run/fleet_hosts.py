"""The hosts of the fleet in a run's inventory: the group, the limit, and what to say when nothing is left."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader

GROUP = "katago"
"""The group of the inventory that has the hosts of the fleet."""
CONTROL_NODE = "localhost"
_BUILT_IN = frozenset({"all", "ungrouped"})
_MOST_NAMES = 10


class NoHostError(Exception):
    """No host of the fleet is left to work on. The message says why and what to do."""


def pattern(
    groups: Mapping[str, Sequence[str]], limit: str | None, sources: Sequence[str], *, contacts: bool
) -> str:
    """The host pattern of a procedure's play.

    Args:
        groups: the names of all hosts of the inventory, by group.
        limit: the value of `-l`.
        sources: the inventories of the run, as Ansible names them.
        contacts: whether the procedure contacts hosts. One that does not runs on the control node if the
            group is empty.

    Raises:
        NoHostError: if no host is left.
    """
    hosts = groups.get(GROUP) or []
    if not hosts and contacts:
        raise NoHostError(f"Refused; nothing was changed. {_empty(groups, sources)}")
    if not hosts and limit:
        raise NoHostError(
            f"Refused; nothing was changed. {_empty(groups, sources)} Without -l, this procedure runs anyway,"
            " because it contacts no host."
        )
    if not hosts:
        return CONTROL_NODE
    if limit and not _limited(groups, limit):
        raise NoHostError(
            f"Refused; nothing was changed. -l {limit} selects no host of the group {GROUP}, which has"
            f" {_names(hosts)}."
        )
    return GROUP


def _empty(groups: Mapping[str, Sequence[str]], sources: Sequence[str]) -> str:
    others = sorted(groups.keys() - _BUILT_IN - {GROUP})
    nearest = _nearest(others)
    places = " and ".join(_place(source) for source in sources)
    parts = [f"The inventory has no host in the group {GROUP}: {places or 'no inventory was given'}."]
    if others:
        parts.append(f"Its other groups: {_names(others)}.")
    if nearest:
        parts.append(f"If {nearest} is the fleet, rename it to {GROUP}.")
    if loose := [host for host in groups.get("ungrouped") or [] if host != CONTROL_NODE]:
        parts.append(f"Hosts without a group: {_names(sorted(loose))}.")
    return " ".join([*parts, f"Put the fleet's hosts into {GROUP}, or give another inventory with -i."])


def _place(source: str) -> str:
    """An inventory as a path that does not depend on the current directory; a list of hosts as it is."""
    if source.rstrip().endswith(","):
        return source
    path = Path(os.path.abspath(source))  # noqa: PTH100 (resolve follows links)
    return str(path) if path.exists() else f"{path} (there is no such file)"


def _nearest(names: Sequence[str]) -> str:
    by_folded = {name.casefold(): name for name in names}
    found = difflib.get_close_matches(GROUP, by_folded, n=1)
    return by_folded[found[0]] if found else ""


def _names(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _limited(groups: Mapping[str, Sequence[str]], limit: str) -> list[str]:
    """The hosts of the fleet that a limit selects, as Ansible evaluates it."""
    manager = InventoryManager(DataLoader(), sources=None, parse=False)
    for name, hosts in groups.items():
        manager.add_group(name)
        for host in hosts:
            manager.add_host(host, group=None if name in _BUILT_IN else name)
    manager.reconcile_inventory()
    try:
        manager.subset(limit)
    except AnsibleError:
        # Ansible has reported it, for example that a file of hosts does not exist.
        return []
    return [host.name for host in manager.get_hosts(GROUP)]
