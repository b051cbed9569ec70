"""What is called of an inventory, and which fleet is not called without a flag."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import targets
from tests import mcp_service

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "t" * 32
GROUPS = {"katago": ["katago-1", "katago-2"], "load_balancer": ["lb-1"]}
HOSTVARS: dict[str, dict[str, Any]] = {
    "katago-1": {
        "fleet_address": "10.0.0.1",
        "katago_mcp_tokens": [{"name": "a", "scopes": ["analyze"], "token": TOKEN}],
        "katago_mcp_allowed_hosts": ["go.example.org:*"],
    },
    "katago-2": {"ansible_host": "fd00::2"},
    "lb-1": {"fleet_address": "10.0.0.3", "load_balancer_names": ["go.example.org"]},
}


def test_load_balancers_are_called_if_there_are_any() -> None:
    found, token = targets.of_inventory(GROUPS, HOSTVARS)
    assert [(target.name, target.host_header) for target in found] == [("lb-1", "go.example.org:80")]
    assert token == TOKEN


def test_hosts_are_called_without_load_balancers_or_on_request() -> None:
    without = {"katago": GROUPS["katago"]}
    for found, _ in (
        targets.of_inventory(without, HOSTVARS),
        targets.of_inventory(GROUPS, HOSTVARS, through="hosts"),
    ):
        assert [target.url for target in found] == ["http://10.0.0.1:8080/mcp", "http://[fd00::2]:8080/mcp"]


def test_limit_selects_targets() -> None:
    found, _ = targets.of_inventory(GROUPS, HOSTVARS, through="hosts", selected=["katago-2"])
    assert [target.name for target in found] == ["katago-2"]


def test_limit_without_a_target_names_those_that_there_are() -> None:
    with pytest.raises(targets.TargetError, match="Name one of lb-1, or call others with -e through=hosts"):
        targets.of_inventory(GROUPS, HOSTVARS, selected=["katago-2"])
    with pytest.raises(targets.TargetError, match="no host in the group load_balancer"):
        targets.of_inventory({"katago": GROUPS["katago"]}, HOSTVARS, through="load_balancers")


def play(inventory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "bin" / "fleet"), "load", "-i", str(inventory), *arguments],
        cwd=ROOT,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(inventory.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_production_fleet_is_not_called_without_a_flag(tmp_path: Path) -> None:
    with mcp_service.serving() as service:
        host = {"ansible_connection": "local", "fleet_address": "127.0.0.1"}
        fleet = {"hosts": {"katago-1": host}, "vars": {"katago_mcp_port": service.server_port}}
        inventory = tmp_path / "hosts.json"
        inventory.write_text(json.dumps({"katago": fleet}))
        refused = play(inventory, "--seconds", "1")
        assert refused.returncode == 2
        assert "This is a production fleet: katago-1" in refused.stdout
        assert service.requests == []
        report = tmp_path / "report.json"
        done = play(inventory, "--seconds", "1", "--allow-production", "--load-json", str(report))
        assert done.returncode == 0, done.stdout
        assert "CALLS/S" in done.stdout
        assert json.loads(report.read_text())["total"]["calls"] == len(service.calls)
