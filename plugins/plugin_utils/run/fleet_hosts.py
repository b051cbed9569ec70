"""The hosts of a procedure in a run's inventory: group, limit, and what to say when nothing is left."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible import context
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.parsing.dataloader import DataLoader

GROUP = "katago"
"""The group of the inventory that has the hosts of the fleet."""
LOAD_BALANCERS = "load_balancer"
"""The group of the inventory that has the load balancers."""
MONITORING = "monitoring"
"""The group of the inventory that has the monitoring hosts."""
CONTROL_NODE = "localhost"
NOBODY = f"{GROUP}:!{GROUP}"
"""A pattern that selects no host, and of which Ansible does not warn."""
_ONLY_READS = ("syntax", "listhosts", "listtags", "listtasks")
_BUILT_IN = frozenset({"all", "ungrouped"})
_MOST_NAMES = 10
# What each group is, and who belongs to it, in messages.
_PURPOSES = {
    GROUP: "is the fleet",
    LOAD_BALANCERS: "has the load balancers",
    MONITORING: "has the monitoring hosts",
}
_MEMBERS = {
    GROUP: "the fleet's hosts",
    LOAD_BALANCERS: "the hosts of the load balancers",
    MONITORING: "the monitoring hosts",
}


class NoHostError(Exception):
    """No host of the fleet is left to work on. The message says why and what to do."""


def pattern(
    groups: Mapping[str, Sequence[str]],
    limit: str | None,
    sources: Sequence[str],
    *,
    contacts: bool,
    group: str = GROUP,
    also: Sequence[str] = (),
    alone: bool = True,
    later: Sequence[str] = (),
) -> str:
    """The host pattern of a procedure's play.

    Args:
        groups: the names of all hosts of the inventory, by group.
        limit: the value of `-l`.
        sources: the inventories of the run, as Ansible names them.
        contacts: whether the procedure contacts hosts. One that does not runs on the control node if the
            group is empty.
        group: the group of the procedure's hosts.
        also: more groups of its hosts, which the inventory need not have.
        alone: whether `limit` may select only hosts of those.
        later: groups whose hosts only a later play works on. `limit` may select only hosts of those too.

    Raises:
        NoHostError: if no host is left.
    """
    hosts = groups.get(group) or []
    if not hosts and contacts:
        raise NoHostError(f"Refused; nothing was changed. {_empty(groups, sources, group)}")
    if not hosts and limit:
        raise NoHostError(
            f"Refused; nothing was changed. {_empty(groups, sources, group)} Without -l, this procedure runs"
            " anyway, because it contacts no host."
        )
    if not hosts:
        return CONTROL_NODE
    every = [group, *(each for each in also if groups.get(each))]
    needed = [*(every if alone else [group]), *(each for each in later if groups.get(each))]
    if limit and not any(_limited(groups, limit, each) for each in needed):
        which = "".join(f"the group {each}, which has {_names(groups[each])}, or of " for each in needed[1:])
        raise NoHostError(
            f"Refused; nothing was changed. -l {limit} selects no host of {which}the group {group}, which has"
            f" {_names(hosts)}."
        )
    return ":".join(every)


def address(host: str, variables: Mapping[str, Any]) -> str:
    """The address at which other hosts reach a host: `fleet_address`, else `ansible_host`, else its name."""
    return str(variables.get("fleet_address") or variables.get("ansible_host") or host)


def only_load_balancers(groups: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """The load balancers that are not hosts of the fleet too."""
    return frozenset(groups.get(LOAD_BALANCERS) or ()) - frozenset(groups.get(GROUP) or ())


def only_reads() -> bool:
    """Whether this command only lists or checks a playbook."""
    return any(context.CLIARGS.get(option) for option in _ONLY_READS)


def having(variable: str, groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any]) -> str:
    """The pattern of the fleet's hosts for which a variable is not empty; `NOBODY` without one."""
    hosts = [host for host in groups.get(GROUP) or [] if hostvars[host].get(variable)]
    return ",".join(hosts) or NOBODY


def healing(which: str, groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any]) -> str:
    """The pattern of a play of fleet healing; `NOBODY` if it is skipped. `which`: as in the lookup.

    The first monitoring host repairs the fleet, if its variable `fleet_healing_enabled` is true. If the
    variable is false, that is removed.
    """
    monitoring = groups.get(MONITORING) or []
    if not monitoring:
        return NOBODY
    if which == "pause":
        return monitoring[0]
    value = hostvars[monitoring[0]].get("fleet_healing_enabled")
    if value is None or (which == "enabled" and not boolean(value, strict=False)):
        return NOBODY
    if which == "all":
        return ":".join(each for each in (GROUP, LOAD_BALANCERS, MONITORING) if groups.get(each))
    return monitoring[0]


def _empty(groups: Mapping[str, Sequence[str]], sources: Sequence[str], group: str) -> str:
    others = sorted(groups.keys() - _BUILT_IN - {group})
    # The name of the other group of this collection is not a mistake.
    nearest = _nearest([name for name in others if name not in _PURPOSES], group)
    places = " and ".join(_place(source) for source in sources)
    hosts = _PURPOSES[group]
    parts = [f"The inventory has no host in the group {group}: {places or 'no inventory was given'}."]
    if others:
        parts.append(f"Its other groups: {_names(others)}.")
    if nearest:
        parts.append(f"If {nearest} {hosts}, rename it to {group}.")
    if loose := [host for host in groups.get("ungrouped") or [] if host != CONTROL_NODE]:
        parts.append(f"Hosts without a group: {_names(sorted(loose))}.")
    return " ".join([*parts, f"Put {_MEMBERS[group]} into {group}, or give another inventory with -i."])


def _place(source: str) -> str:
    """An inventory as a path that does not depend on the current directory; a list of hosts as it is."""
    if source.rstrip().endswith(","):
        return source
    path = Path(os.path.abspath(source))  # noqa: PTH100 (resolve follows links)
    return str(path) if path.exists() else f"{path} (there is no such file)"


def _nearest(names: Sequence[str], group: str) -> str:
    by_folded = {name.casefold(): name for name in names}
    found = difflib.get_close_matches(group, by_folded, n=1)
    return by_folded[found[0]] if found else ""


def _names(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _limited(groups: Mapping[str, Sequence[str]], limit: str, group: str) -> list[str]:
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
    return [host.name for host in manager.get_hosts(group)]
