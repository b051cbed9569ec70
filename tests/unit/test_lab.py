"""The lab's inventory works for any number of hosts, and its tuning results fit its networks."""

from __future__ import annotations

import ipaddress
import json
import os
import runpy
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from lab import assets, hosts, paths


def test_every_host_of_a_larger_lab_accepts_its_name(tmp_path: Path) -> None:
    names = [f"katago-{number}" for number in range(1, 5)]
    (tmp_path / "group_vars").symlink_to(paths.ROOT / "inventories" / "lab" / "group_vars")
    (tmp_path / "hosts.yml").write_text(json.dumps({"katago": {"hosts": dict.fromkeys(names)}}))
    command = ["ansible", "katago-4", f"--inventory={tmp_path}", "--connection=local"]
    command += ["--module-name=ansible.builtin.debug", "--args=var=katago_mcp_allowed_hosts"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    for name in names:
        assert f"{name}:*" in done.stdout


@pytest.mark.parametrize(("file", "channels"), [(assets.SMALL_TUNING, 96), (assets.PACKAGED_TUNING, 192)])
def test_tuning_result_fits_the_engine_and_the_network(file: Path, channels: int) -> None:
    assert file.name.startswith("tune13_gpu")
    assert file.name.endswith(f"_x19_y19_c{channels}_mv8.txt")
    assert file.read_text().startswith("VERSION=13\n")


def test_lab_tunes_only_when_enabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "STATE", tmp_path)
    lab = hosts.Lab("some")
    assert not lab.tunes()
    lab.set_tuning(True)
    assert hosts.Lab("some").tunes()
    lab.set_tuning(False)
    assert not lab.tunes()


def host(name: str, number: int, group: str) -> dict[str, object]:
    ports = dict.fromkeys(hosts.GROUPS[group].ports, 2000 + number)
    return asdict(hosts.Host(name, "trixie", f"some-{name}", ports, group, f"10.89.0.{number}"))


def test_inventory_has_load_balancers_with_a_shared_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = [
        host("katago-1", 11, hosts.FLEET),
        host("balancer-1", 101, hosts.LOAD_BALANCER),
        host("balancer-2", 102, hosts.LOAD_BALANCER),
    ]
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "hosts.json").write_text(json.dumps(created))
    monkeypatch.setenv("LAB_NAME", "some")
    monkeypatch.setattr(paths, "STATE", tmp_path)
    monkeypatch.setattr(hosts.Lab, "_subnet", lambda _: ipaddress.ip_network("10.89.0.0/24"))
    inventory = runpy.run_path(str(paths.ROOT / "inventories" / "lab" / "hosts.py"))["inventory"]()
    assert inventory["katago"]["hosts"] == ["katago-1"]
    assert inventory["load_balancer"]["hosts"] == ["balancer-1", "balancer-2"]
    assert inventory["load_balancer"]["vars"]["load_balancer_virtual_address"] == "10.89.0.200/24"
    assert inventory["_meta"]["hostvars"]["balancer-2"]["fleet_address"] == "10.89.0.102"
    assert "10.89.0.200" in inventory["all"]["vars"]["lab_load_balancer_names"]


def test_host_of_an_earlier_version_has_no_fixed_address() -> None:
    earlier: dict[str, Any] = {
        "name": "katago-1",
        "suite": "bookworm",
        "container": "lab-katago-1",
        "ports": {"ssh": 1},
    }
    assert (hosts.Host(**earlier).address, hosts.Host(**earlier).group) == ("", "katago")
