"""The example inventories load, set only variables that exist, and are refused until they are filled in."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.action import monitoring_config
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import preflight
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import alert_channels
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring import fleet as monitoring_fleet
from ansible_collections.katago.fleet.plugins.plugin_utils.run import variables

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "inventories" / "examples"
FLEETS = {
    "one": 1,
    "three/production": 3,
    "three/staging": 1,
    "fifty/production": 50,
    "fifty/staging": 2,
}
SPECS = variables.specs(ROOT / "roles")
# Variables of hosts and of the fleet, which no role owns.
OF_THE_FLEET = {"fleet_address", "fleet_environment", "fleet_min_available", "fleet_name"}


@functools.cache
def load(fleet: str) -> dict[str, Any]:
    """An inventory as ansible-inventory prints it, with templates unevaluated."""
    program = Path(sys.executable).with_name("ansible-inventory")
    done = subprocess.run(
        [program, "-i", EXAMPLES / fleet, "--list"],
        env={**os.environ, "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "WARNING" not in done.stderr
    inventory: dict[str, Any] = json.loads(done.stdout)
    return inventory


def hosts(inventory: dict[str, Any], group: str) -> set[str]:
    """The hosts of a group and of its children."""
    entry = inventory.get(group, {})
    return set(entry.get("hosts", [])).union(*(hosts(inventory, each) for each in entry.get("children", [])))


def evaluated(inventory: dict[str, Any], host: str) -> dict[str, Any]:
    """The variables of a host, with references to whole variables resolved."""
    given = inventory["_meta"]["hostvars"][host]
    return {
        name: given[match[1]]
        if isinstance(value, str) and (match := re.fullmatch(r"{{ (vault_\w+) }}", value))
        else value
        for name, value in given.items()
    }


def known(name: str) -> bool:
    """Whether a variable is one of a role, of the fleet, of Ansible or of the vault."""
    if name.startswith("load_balancer_") and not (ROOT / "roles" / "load_balancer").exists():
        return True
    return name in SPECS or name in OF_THE_FLEET or name.startswith(("ansible_", "vault_"))


def test_every_example_is_tested() -> None:
    directories = {path.parent for path in EXAMPLES.rglob("hosts.yml")}
    assert {path.relative_to(EXAMPLES).as_posix() for path in directories} == set(FLEETS)


@pytest.mark.parametrize(("fleet", "count"), FLEETS.items())
def test_example_loads_with_its_hosts(fleet: str, count: int) -> None:
    assert len(hosts(load(fleet), "katago")) == count


@pytest.mark.parametrize("fleet", FLEETS)
def test_example_sets_only_variables_that_exist(fleet: str) -> None:
    names = {name for given in load(fleet)["_meta"]["hostvars"].values() for name in given}
    assert "katago_mcp_tokens" in names
    assert {name for name in names if not known(name)} == set()


@pytest.mark.parametrize("fleet", FLEETS)
def test_variables_have_the_types_of_their_roles(fleet: str) -> None:
    inventory = load(fleet)
    for host in sorted(hosts(inventory, "katago")):
        given = {"katago_human_network": {}, **evaluated(inventory, host)}
        problems = list(variables.problems(SPECS, iter(given), given.__getitem__))
        assert [each for each in problems if "missing required" not in each] == []


@pytest.mark.parametrize("fleet", FLEETS)
def test_deployment_refuses_exactly_the_placeholders(fleet: str) -> None:
    inventory = load(fleet)
    for host in sorted(hosts(inventory, "katago")):
        given = {
            "katago_human_network": {},
            "katago_mcp_port": 8080,
            "katago_mcp_metrics_port": 9090,
            "katago_mcp_metrics_listen_address": "127.0.0.1",
            **evaluated(inventory, host),
        }
        problems = preflight.input_problems(given)
        assert sum("is a placeholder" in each for each in problems) == 3
        rest = [each for each in problems if "is a placeholder" not in each]
        assert all("sha256 is '<sha256 " in each for each in rest)
        engines = given.get("katago_gpu_engines", {})
        assert len(rest) == len(engines)


@pytest.mark.parametrize("fleet", [fleet for fleet in FLEETS if fleet != "one"])
def test_every_host_of_a_larger_fleet_has_an_address_of_its_own(fleet: str) -> None:
    given = load(fleet)["_meta"]["hostvars"]
    formula = re.compile(r"{{ 100 \+ \(inventory_hostname \| regex_search\('\[0-9\]\+'\) \| int\) }}")
    addresses = set()
    for host, variables_of_host in given.items():
        number = re.search(r"\d+", host)
        assert number
        addresses.add(formula.sub(str(100 + int(number[0])), variables_of_host["fleet_address"]))
    assert len(addresses) == len(given)
    assert all(re.fullmatch(r"10\.2[01]\.\d\.\d{1,3}", address) for address in addresses)


@pytest.mark.parametrize("fleet", ["three/production", "fifty/production"])
def test_larger_fleets_have_sites_devices_two_load_balancers_and_monitoring(fleet: str) -> None:
    inventory = load(fleet)
    assert len(hosts(inventory, "load_balancer")) == 2
    assert hosts(inventory, "monitoring")
    katago = hosts(inventory, "katago")
    assert hosts(inventory, "nvidia") | hosts(inventory, "cpu") == katago
    assert not hosts(inventory, "nvidia") & hosts(inventory, "cpu")
    sites = hosts(inventory, "amsterdam") | hosts(inventory, "frankfurt")
    assert sites == set(inventory["_meta"]["hostvars"])


@pytest.mark.parametrize("fleet", ["three", "fifty"])
def test_staging_shares_no_host_and_no_address_with_production(fleet: str) -> None:
    production, staging = (load(f"{fleet}/{name}")["_meta"]["hostvars"] for name in ("production", "staging"))
    assert not production.keys() & staging.keys()
    assert not {each["fleet_address"] for each in production.values()} & {
        each["fleet_address"] for each in staging.values()
    }


@pytest.mark.parametrize("fleet", [fleet for fleet in FLEETS if fleet != "one"])
def test_each_fleet_has_monitoring_of_its_own_that_refuses_exactly_the_placeholders(fleet: str) -> None:
    inventory = load(fleet)
    monitors = hosts(inventory, "monitoring")
    assert len(monitors) == (2 if fleet == "fifty/production" else 1)
    groups = {name: sorted(hosts(inventory, name)) for name in ("katago", "load_balancer", "monitoring")}
    given = {
        host: evaluated(inventory, host) for host in {each for found in groups.values() for each in found}
    }
    monitored = monitoring_fleet.hosts(groups, monitoring_fleet.with_defaults(groups, given))
    for monitor in sorted(monitors):
        own = given[monitor]
        channels = evaluated_channels(own)
        used = alert_channels.used(own["monitoring_channels"], channels)
        assert ["is a placeholder" in each for each in used.problems] == [True]
        (problem,) = monitoring_fleet.problems(monitored, own["monitoring_token"], monitor)
        assert problem.startswith("monitoring_token has")
        assert monitoring_config._is_placeholder(own["monitoring_heartbeat_url"])
        assert own["fleet_name"] == f"katago-{fleet.partition('/')[2]}"


def evaluated_channels(given: dict[str, Any]) -> Any:
    """The channels of incidents with the addresses of the vault."""
    text = json.dumps(given["incident_channels"])
    return json.loads(re.sub(r"{{ (vault_\w+) }}", lambda match: str(given[match[1]]), text))
