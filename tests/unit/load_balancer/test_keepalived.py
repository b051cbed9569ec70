"""The configuration of keepalived: one address for several load balancers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.keepalived import (
    Instance,
    problems,
    render,
)
from ansible_collections.katago.fleet.plugins.modules.load_balancer_address import rejection

INSTANCE = Instance("balancer-1", "10.0.0.200/24", "eth0", 51, "10.0.0.101", ("10.0.0.102",))


def lines(instance: Instance) -> list[str]:
    """The lines of the configuration without their indentation."""
    return [line.strip() for line in render(instance).splitlines()]


def test_load_balancers_have_the_same_priority_and_talk_to_each_other_only() -> None:
    one = lines(INSTANCE)
    other = lines(replace(INSTANCE, local_name="balancer-2", source="10.0.0.102", peers=("10.0.0.101",)))
    assert "priority 100" in one
    assert "priority 100" in other
    assert one[one.index("unicast_peer {") + 1] == "10.0.0.102"
    assert "unicast_src_ip 10.0.0.101" in one
    assert "10.0.0.200/24 dev eth0" in one


def test_failed_check_lowers_the_priority_and_is_no_fault() -> None:
    assert "weight 50" in lines(INSTANCE)


def test_password_is_used_if_there_is_one() -> None:
    assert "authentication {" not in lines(INSTANCE)
    assert "auth_pass abc123" in lines(replace(INSTANCE, password="abc123"))


def test_ipv6_address_needs_version_3() -> None:
    assert "vrrp_version 2" in lines(INSTANCE)
    instance = replace(INSTANCE, address="fd00::200/64", source="fd00::1", peers=("fd00::2",))
    assert "vrrp_version 3" in lines(instance)
    assert problems(instance) == []


# As version 2.3 does. Its exit status is 0 in both cases.
KEEPALIVED = """\
#!/bin/bash
program=$(sed -n 's/^  script "\\(.*\\)"$/\\1/p' "$3")
[ -x "$program" ] || echo "Disabling track script available since not found/accessible"
grep -q '^  interface eth0$' "$3" || echo "Unknown interface"
"""


def test_configuration_is_accepted_before_its_program_exists(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stub = tmp_path / "keepalived"
    stub.write_text(KEEPALIVED)
    stub.chmod(0o755)
    monkeypatch.setattr(paths, "KEEPALIVED", stub)
    assert not paths.LOAD_BALANCER_CHECK.exists()
    assert rejection(INSTANCE) == ""
    assert "Unknown interface" in rejection(replace(INSTANCE, interface="eth9"))
    assert f'script "{paths.LOAD_BALANCER_CHECK}"' in render(INSTANCE)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"address": "10.0.0.200"}, "without a prefix length"),
        ({"address": "balancer"}, "load_balancer_virtual_address is 'balancer'"),
        ({"peers": ("balancer-2",)}, "fleet_address balancer-2 is not an IPv4 address"),
        ({"source": "fd00::1"}, "fleet_address fd00::1 is not an IPv4 address"),
        ({"router_id": 256}, "load_balancer_router_id is 256; it must be 1 to 255"),
        ({"password": "longer-than-8"}, "load_balancer_vrrp_password must have 1 to 8 letters and digits"),
        ({"password": 'a" }'}, "load_balancer_vrrp_password must have"),
    ],
)
def test_wrong_variables_are_named_with_the_fix(changes: dict[str, object], problem: str) -> None:
    found = problems(replace(INSTANCE, **changes))  # type: ignore[arg-type]
    assert problem in " ".join(found)
    assert bool(found) == bool(problem)
    assert 'a" }' not in " ".join(found)
