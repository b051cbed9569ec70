"""The control node's part of `katago.fleet.load_balancer_address`: who shares the address."""

from __future__ import annotations

from typing import Any

from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import virtual_address
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy.load_balancer_action import (
    Arguments,
    LoadBalancerAction,
    Variables,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.run.fleet_hosts import (
    GROUP,
    LOAD_BALANCERS,
    address,
)


class ActionModule(LoadBalancerAction):
    """Finds the load balancers that share the address, and has the module configure keepalived."""

    module = "load_balancer_address"

    def problems(self, arguments: Arguments, variables: Variables) -> list[str]:
        """What does not agree with the other load balancers, or belongs to another host."""
        own, others = _members(arguments, variables)
        names = dict.fromkeys(
            name for group in (LOAD_BALANCERS, GROUP) for name in variables["groups"].get(group) or []
        )
        addresses = {name: address(name, variables["hostvars"][name]) for name in names}
        return virtual_address.problems(own, others, addresses)

    def parameters(self, arguments: Arguments, variables: Variables) -> dict[str, Any]:
        """The module's own options, this host and its peers."""
        own, others = _members(arguments, variables)
        return {
            **{name: value for name, value in arguments.items() if name != "sandbox"},
            "name": own.name,
            "source": own.source,
            "peers": [other.source for other in virtual_address.peers(own, others)],
        }


def _members(
    arguments: Arguments, variables: Variables
) -> tuple[virtual_address.Member, list[virtual_address.Member]]:
    """This load balancer, and the other ones."""
    own = variables["inventory_hostname"]
    names = variables["groups"].get(LOAD_BALANCERS) or []
    others = [virtual_address.member(name, variables["hostvars"][name]) for name in names if name != own]
    member = virtual_address.Member(
        own,
        address(own, variables["hostvars"][own]),
        arguments["address"],
        str(arguments["router_id"]),
        arguments["password"],
    )
    return member, others
