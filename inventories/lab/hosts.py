#!/usr/bin/env python3
"""The lab's inventory: the hosts that `bin/lab` created, how to reach them, and where assets come from."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lab import assets, paths
from lab.hosts import FLEET, LOAD_BALANCER, Host, Lab


def inventory() -> dict[str, Any]:
    """Return the inventory in the form that Ansible's script plugin reads.

    With LAB_MONITORING, the last host of the fleet is also a monitoring host.
    """
    lab = Lab(paths.lab_name())
    hostvars = {host.name: _variables(lab, host) for host in lab.hosts()}
    load_balancers = [host.name for host in lab.of_group(LOAD_BALANCER)]
    shared = assets.may_use_shared()
    variables = {
        # Not beside this inventory, because all labs and Molecule share it.
        "katago_records_dir": str(lab.directory / "records"),
        "katago_mcp_tokens": lab.tokens(),
        "katago_mcp_session_key": lab.session_key.read_text() if lab.session_key.exists() else "",
        "katago_network": assets.network(shared=shared),
        "katago_opencl_tuner_file": "" if lab.tunes() else str(assets.tuner_file(shared=shared)),
    }
    groups = {"katago": {"hosts": [host.name for host in lab.of_group(FLEET)], "vars": variables}}
    everywhere: dict[str, Any] = {}
    if load_balancers:
        groups["load_balancer"] = {"hosts": load_balancers, "vars": _of_load_balancers(lab)}
        everywhere["lab_load_balancer_names"] = _names_of_load_balancers(lab)
    if os.environ.get("LAB_MONITORING"):
        groups["monitoring"] = {"hosts": [host.name for host in lab.of_group(FLEET)[-1:]]}
        everywhere["monitoring_token"] = lab.monitoring_token.read_text().strip()
    groups["all"] = {"vars": everywhere}
    return {"_meta": {"hostvars": hostvars}, **groups}


def _variables(lab: Lab, host: Host) -> dict[str, Any]:
    variables = {
        "ansible_host": "127.0.0.1",
        "ansible_port": host.ports["ssh"],
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(lab.key),
        "ansible_ssh_common_args": lab.ssh_arguments(),
        "lab_ports": host.ports,
        "lab_container": host.container,
    }
    if host.group == FLEET:
        variables["triage_client_address"] = f"127.0.0.1:{host.ports['mcp']}"
    if host.address:
        variables["fleet_address"] = host.address
    return variables


def _of_load_balancers(lab: Lab) -> dict[str, Any]:
    variables: dict[str, Any] = {"katago_records_dir": str(lab.directory / "records")}
    if address := lab.virtual_address():
        variables["load_balancer_virtual_address"] = address
    return variables


def _names_of_load_balancers(lab: Lab) -> list[str]:
    """The names and addresses by which clients of the lab call the load balancers."""
    hosts = lab.of_group(LOAD_BALANCER)
    virtual = lab.virtual_address().partition("/")[0]
    return [*(name for host in hosts for name in (host.name, host.address)), *([virtual] if virtual else [])]


if __name__ == "__main__":
    json.dump(inventory(), sys.stdout, indent=2)
