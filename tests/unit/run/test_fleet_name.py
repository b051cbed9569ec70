"""The name of a fleet comes from its inventory."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_name


def name(**variables: Any) -> str:
    return fleet_name.of_task(variables, lambda value: value)


def test_name_is_that_of_the_inventory_or_of_its_directory() -> None:
    assert name(fleet_name="go", inventory_dir="/srv/inventories/production") == "go"
    assert name(inventory_dir="/srv/inventories/production") == "production"
    assert name(inventory_dir="/srv/inventories/production/.") == "production"


def test_name_is_rendered() -> None:
    assert fleet_name.of_task({"fleet_name": "{{ site }}"}, lambda _: "go") == "go"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "its inventory is not a file. Set fleet_name"),
        ({"fleet_name": "a,b"}, "fleet_name is 'a,b', which cannot name a fleet"),
        ({"fleet_name": 7}, "fleet_name is 7, which"),
        ({"inventory_dir": "/srv/my fleet"}, "directory of the inventory is called 'my fleet', which"),
        ({"inventory_dir": "/"}, "directory of the inventory is called '', which"),
    ],
)
def test_name_that_no_backup_can_carry_is_refused(variables: dict[str, Any], message: str) -> None:
    with pytest.raises(fleet_name.FleetNameError, match=message):
        name(**variables)
