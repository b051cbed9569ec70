#!/usr/bin/python
"""Measures the facts of a host that a deployment needs; changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Check the inputs and the host before anything is changed
description:
  - Checks the variables of a deployment against the argument specs of all roles, and reports unknown
    variables that start with a role's name. Fetches the engine and the network into the control node's cache
    and verifies them there. Measures the host.
  - Fails with one message that lists every problem, before anything on the host is changed.
  - No message contains a token or a key.
options:
  scope:
    description:
      - C(system) only checks whether the service can run on the host's system. It needs no variable. Use it
        before steps that change a host ahead of its deployment.
    type: str
    choices: [all, system]
    default: all
  engine:
    description: The source of the engine, as C(katago_engine).
    type: dict
    required: true
  gpu_engines:
    description: Engines for hosts with a GPU, by backend, as C(katago_gpu_engines).
    type: dict
    default: {}
  gpu_vendor:
    description: The vendor of the GPUs to use, as C(gpu_driver_vendor).
    type: str
    choices: [auto, none, nvidia, amd, intel]
    default: auto
  gpu_devices:
    description: GPUs to use instead of the GPUs on the PCI bus, as C(gpu_driver_devices).
    type: list
    elements: dict
    default: []
  untested_system:
    description: Whether to accept an untested system, as C(preflight_untested_system).
    type: bool
    default: false
  network:
    description: The source of the network, as C(katago_network).
    type: dict
    required: true
  human_network:
    description: The source of the network trained on human games, as C(katago_human_network).
    type: dict
    default: {}
  listen_address:
    description: The address that the service listens on.
    type: str
    required: true
  port:
    description: The port of the service.
    type: int
    required: true
  metrics_listen_address:
    description: The address that serves the metrics.
    type: str
    required: true
  metrics_port:
    description: The port of the metrics.
    type: int
    required: true
  allowed_hosts:
    description: The Host headers that the service accepts.
    type: list
    elements: str
    required: true
  allowed_clients:
    description: The addresses and networks that may connect to the service.
    type: list
    elements: str
    required: true
  trusted_proxies:
    description: The load balancers whose headers the service believes, as C(katago_mcp_trusted_proxies).
    type: list
    elements: str
    default: []
  tokens:
    description: The service's tokens, as C(katago_mcp_tokens).
    type: raw
    required: true
  session_key:
    description: The key that signs the ids of sessions, as C(katago_mcp_session_key).
    type: str
    default: ""
  asset_host:
    description: The host that serves files to the others, as C(katago_asset_host).
    type: str
    default: ""
  asset_mirror:
    description: The mirror of engines and networks, as C(katago_asset_mirror).
    type: str
    default: ""
  shared_cache:
    description:
      - The shared cache; C(url), C(password), C(ca) and C(networks), as the variables
        C(katago_mcp_shared_cache_*) have them.
    type: dict
    default: {}
  tls_certificate:
    description: The service's certificate, as C(katago_mcp_tls_certificate).
    type: str
    default: ""
  tls_key:
    description: The certificate's key, as C(katago_mcp_tls_key).
    type: raw
    default: ""
  limits:
    description: The server's limits, by variable name.
    type: dict
    default: {}
  cache_dir:
    description: The control node's cache of downloads.
    type: path
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Check the inputs and the host
  katago.fleet.preflight:
    engine: "{{ katago_engine }}"
    network: "{{ katago_network }}"
    listen_address: 127.0.0.1
    port: 8080
    metrics_listen_address: 127.0.0.1
    metrics_port: 9090
    allowed_hosts: []
    allowed_clients: [localhost]
    tokens: "{{ katago_mcp_tokens }}"
    cache_dir: ~/.cache/katago-mcp-fleet
"""

RETURN = r"""
host:
  description:
    - "The measured facts: os, architecture, python, systemd, processors, memory_mb,
      memory_available_mb, disk_free_mb, disk_obstacles, closed_directories, lacks, gpu, gpu_vendor,
      gpu_nodes, listeners, masked, weaknesses."
  type: dict
  returned: always
engine:
  description: The verified engine on the control node; path, sha256, version, backend.
  type: dict
  returned: success
network:
  description: The verified network on the control node; path, sha256, name, bytes.
  type: dict
  returned: success
human_network:
  description: Like C(network), for the network trained on human games; null if there is none.
  type: dict
  returned: success
"""

import os
import platform
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    directories,
    disk,
    os_release,
    sockets,
)
from ansible_collections.katago.fleet.plugins.module_utils.release import capacity
from ansible_collections.katago.fleet.plugins.module_utils.service import sandbox, unit

# What the service reads and writes.
OURS = (paths.CONFIG.parent, paths.COMMAND, paths.RELEASE_ROOT, paths.ASSETS, paths.STATE, paths.CACHE)


def systemd_version() -> int:
    """The version of the running systemd; 0 if it is not PID 1."""
    if not Path("/run/systemd/system").is_dir():
        return 0
    output = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=True)
    match = re.match(r"systemd (\d+)", output.stdout)
    return int(match[1]) if match else 0


def memory_mb() -> dict[str, int]:
    """Total and available memory in MB."""
    fields = dict(re.findall(r"^(\w+): +(\d+) kB$", Path("/proc/meminfo").read_text(), re.M))
    return {
        "memory_mb": int(fields["MemTotal"]) >> 10,
        "memory_available_mb": int(fields["MemAvailable"]) >> 10,
    }


def free_mb(path: str) -> int:
    """Free space for root on the file system of `path`, in MB."""
    status = os.statvfs(path)
    return status.f_bfree * status.f_frsize >> 20


def own_processes() -> list[int]:
    """The processes of the service, by its control group: its files may be damaged."""
    return [process["pid"] for process in unit.processes(unit.control_group())]


def main() -> None:
    """Measure the host and return the facts."""
    module = AnsibleModule(
        argument_spec={
            "listeners": {"type": "list", "elements": "dict", "required": True},
            "assets": {"type": "dict", "required": True},
            "gpu_vendor": {"type": "str", "required": True},
            "gpu_devices": {"type": "list", "elements": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        system = os_release.read(paths.OS_RELEASE)
    except os_release.OsReleaseError as error:
        module.fail_json(msg=f"Refused; nothing was changed on this host. {error}", refused=True)
    systemd = systemd_version()
    own = own_processes() if systemd else []
    try:
        usable = capacity.usable_gpu(module.params["gpu_vendor"], module.params["gpu_devices"])
    except ValueError as error:
        module.fail_json(msg=f"Refused; nothing was changed on this host. {error}")
    listeners: list[dict[str, Any]] = [
        {
            **listener,
            "error": sockets.bind_problem(listener["address"], listener["port"], own, paths.PROC),
        }
        for listener in module.params["listeners"]
    ]
    module.exit_json(
        changed=False,
        host={
            "os": asdict(system),
            "architecture": platform.machine(),
            "python": list(sys.version_info[:3]),
            "systemd": systemd,
            "processors": len(os.sched_getaffinity(0)),
            **memory_mb(),
            "disk_free_mb": {path: free_mb(path) for path in ("/opt", "/var")},
            "disk_obstacles": list(disk.obstacles([Path("/opt"), *disk.WRITTEN_BY_SERVICE])),
            "closed_directories": list(directories.closed(OURS)),
            "lacks": [name for name, path in module.params["assets"].items() if not Path(path).exists()],
            "gpu": usable is not None,
            "gpu_vendor": usable.vendor if usable else None,
            "gpu_nodes": usable.nodes if usable else [],
            "listeners": listeners,
            "masked": sandbox.is_masked(),
            "weaknesses": sandbox.taken_away(sandbox.drop_ins(paths.SERVICE_UNIT)),
        },
    )


if __name__ == "__main__":
    main()
