"""What is called of an inventory: its load balancers or its hosts, and the token of the calls."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import fleet
from ansible_collections.katago.fleet.plugins.plugin_utils.run.fleet_hosts import GROUP, LOAD_BALANCERS
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic.client import Target

Through = Literal["load_balancers", "hosts"]


class TargetError(Exception):
    """The inventory has nothing to call. The message says why, and what to do."""


def of_inventory(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Any],
    *,
    through: Through | None = None,
    selected: Collection[str] | None = None,
) -> tuple[tuple[Target, ...], str]:
    """The targets, and the token of their calls, which is empty if the fleet needs none.

    Args:
        groups: the names of all hosts of the inventory, by group.
        hostvars: the variables of each of them.
        through: what is called; None for load balancers if there are any.
        selected: the names that a limit selects; None for all.

    Raises:
        TargetError: there is no target.
    """
    group = GROUP if through == "hosts" else LOAD_BALANCERS
    if through is None and not groups.get(LOAD_BALANCERS):
        group = GROUP
    variables = fleet.with_defaults(groups, hostvars)
    names = {name for name in groups.get(group) or () if selected is None or name in selected}
    targets = tuple(
        Target(
            name=each["host"],
            url=each["url"],
            host_header=each["name"],
            ca=each["certificate"],
            pinned=True,
        )
        for each in fleet.probed({group: sorted(names)}, variables)
    )
    if not targets:
        raise TargetError(_nothing(group, groups.get(group) or (), limited=selected is not None))
    return targets, fleet.token_to_analyse(variables, groups.get(GROUP) or [])


def _nothing(group: str, members: Collection[str], *, limited: bool) -> str:
    if not members:
        remedy = (
            "Call the hosts with -e through=hosts" if group == LOAD_BALANCERS else "Give another one with -i"
        )
        return f"The inventory has no host in the group {group}. {remedy}."
    other = "hosts" if group == LOAD_BALANCERS else "load_balancers"
    hint = f" Name one of {', '.join(sorted(members))}, or call others with -e through={other}."
    return f"-l selects no host of the group {group}.{hint if limited else ''}"
