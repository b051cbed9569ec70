#!/usr/bin/env python3
"""The lab's inventory: the hosts that `bin/lab` created, how to reach them, and where assets come from."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lab import assets, paths
from lab.hosts import Lab


def inventory() -> dict[str, Any]:
    """Return the inventory in the form that Ansible's script plugin reads."""
    lab = Lab(paths.lab_name())
    hostvars = {
        host.name: {
            "ansible_host": "127.0.0.1",
            "ansible_port": host.ports["ssh"],
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(lab.key),
            "ansible_ssh_common_args": lab.ssh_arguments(),
            "triage_client_address": f"127.0.0.1:{host.ports['mcp']}",
            "lab_ports": host.ports,
            "lab_container": host.container,
        }
        for host in lab.hosts()
    }
    shared = assets.may_use_shared()
    variables = {
        # Not beside this inventory, because all labs and Molecule share it.
        "katago_records_dir": str(lab.directory / "records"),
        "katago_mcp_tokens": lab.tokens(),
        "katago_mcp_session_key": lab.session_key.read_text() if lab.session_key.exists() else "",
        "katago_network": assets.network(shared=shared),
        "katago_opencl_tuner_file": "" if lab.tunes() else str(assets.tuner_file(shared=shared)),
    }
    return {
        "_meta": {"hostvars": hostvars},
        "katago": {"hosts": sorted(hostvars), "vars": variables},
    }


if __name__ == "__main__":
    json.dump(inventory(), sys.stdout, indent=2)
