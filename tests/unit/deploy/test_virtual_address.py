"""Which load balancers share an address, and whether their variables agree."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import virtual_address
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy.virtual_address import Member

ONE = Member("balancer-1", "10.0.0.101", "10.0.0.200/24", "51", "secret1")
TWO = replace(ONE, name="balancer-2", source="10.0.0.102")
ELSEWHERE = Member("balancer-3", "10.9.0.101", "10.9.0.200/24", "51", "")
ADDRESSES = {"balancer-1": "10.0.0.101", "katago-1": "10.0.0.21", "katago-2": "katago-2.example.org"}


def test_peers_are_those_with_the_same_address() -> None:
    none = replace(TWO, name="balancer-4", address="")
    assert virtual_address.peers(ONE, [TWO, ELSEWHERE, none]) == [TWO]


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (TWO, ""),
        (ELSEWHERE, ""),
        (replace(TWO, address="not an address"), ""),
        (
            replace(TWO, router_id="52"),
            "load_balancer_router_id is 51 for balancer-1, but 52 for balancer-2, and both share",
        ),
        (
            replace(TWO, password="secret2"),
            "load_balancer_vrrp_password of balancer-1 is not that of balancer-2",
        ),
        (
            replace(TWO, address="10.0.0.201/24"),
            "load_balancer_router_id is 51, which balancer-2 has too, for its virtual address 10.0.0.201/24",
        ),
    ],
)
def test_variables_that_do_not_agree_are_named_without_the_password(other: Member, problem: str) -> None:
    found = virtual_address.problems(ONE, [other], ADDRESSES)
    assert problem in " ".join(found)
    assert len(found) == bool(problem)
    assert "secret" not in " ".join(found)


def test_address_of_a_host_is_refused_in_every_form() -> None:
    (problem,) = virtual_address.problems(replace(ONE, address="10.0.0.21/24"), [], ADDRESSES)
    assert "load_balancer_virtual_address is 10.0.0.21/24, but katago-1 has the address 10.0.0.21" in problem
    one = replace(ONE, address="fd00::21/64")
    (problem,) = virtual_address.problems(one, [], {"katago-1": "fd00:0:0::0021"})
    assert "katago-1" in problem


def test_member_has_the_defaults_of_the_role() -> None:
    given = {"fleet_address": "10.0.0.102", "load_balancer_virtual_address": "10.0.0.200/24"}
    expected = Member("balancer-2", "10.0.0.102", "10.0.0.200/24", "51", "")
    assert virtual_address.member("balancer-2", given) == expected
