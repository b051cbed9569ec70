#!/usr/bin/python
"""Measures what a deployment needs to know of a host; changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Check the inputs and the host before anything is touched
description:
  - Checks the variables of a deployment against the argument specs of all roles and finds unknown
    ones that begin with a role's name. Fetches engine and network into the control node's cache
    and verifies them there, and measures the host.
  - Fails with one message for every problem found, before anything on the host was changed.
  - No message contains a token or a key.
options:
  scope:
    description:
      - C(system) checks whether the service runs on the host's system at all. It needs no variable, and
        is for what changes a host before it is deployed to.
    type: str
    choices: [all, system]
    default: all
  engine:
    description: Where the engine comes from, as C(katago_engine).
    type: dict
    required: true
  gpu_engines:
    description: Engines for hosts with a GPU, by backend, as C(katago_gpu_engines).
    type: dict
    default: {}
  gpu_vendor:
    description: Whose GPUs are used, as C(gpu_driver_vendor).
    type: str
    choices: [auto, none, nvidia, amd, intel]
    default: auto
  gpu_devices:
    description: GPUs in place of those on the PCI bus, as C(gpu_driver_devices).
    type: list
    elements: dict
    default: []
  untested_system:
    description: Whether a system that was not tested is accepted, as C(preflight_untested_system).
    type: bool
    default: false
  network:
    description: Where the network comes from, as C(katago_network).
    type: dict
    required: true
  human_network:
    description: Where the network trained on human games comes from, as C(katago_human_network).
    type: dict
    default: {}
  listen_address:
    description: The address that the service will bind.
    type: str
    required: true
  port:
    description: The port of the service.
    type: int
    required: true
  metrics_listen_address:
    description: The address that the metrics will be bound to.
    type: str
    required: true
  metrics_port:
    description: The port of the metrics.
    type: int
    required: true
  allowed_hosts:
    description: Host headers that the service will accept.
    type: list
    elements: str
    required: true
  allowed_clients:
    description: Addresses and networks that may talk to the service.
    type: list
    elements: str
    required: true
  tokens:
    description: The service's tokens, as C(katago_mcp_tokens).
    type: raw
    required: true
  tls_certificate:
    description: The service's certificate, as C(katago_mcp_tls_certificate).
    type: str
    default: ""
  tls_key:
    description: The certificate's key, as C(katago_mcp_tls_key).
    type: raw
    default: ""
  limits:
    description: The server's limits, by the names of their variables.
    type: dict
    default: {}
  cache_dir:
    description: The control node's cache of downloads.
    type: path
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Inputs and host are fit for the deployment
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
    - "What was measured: os, architecture, python, systemd, processors, memory_mb,
      memory_available_mb, disk_free_mb, disk_obstacles, lacks, gpu, gpu_vendor, gpu_nodes, listeners."
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
  description: As C(network), of the network trained on human games; null when there is none.
  type: dict
  returned: success
"""

import errno
import json
import os
import platform
import re
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import disk, os_release
from ansible_collections.katago.fleet.plugins.module_utils.release import capacity
from ansible_collections.katago.fleet.plugins.module_utils.service import unit


def systemd_version() -> int:
    """The version of the running systemd, 0 where it is not PID 1."""
    if not Path("/run/systemd/system").is_dir():
        return 0
    output = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=True)
    found = re.match(r"systemd (\d+)", output.stdout)
    return int(found[1]) if found else 0


def memory_mb() -> dict[str, int]:
    """Total and available memory in MB."""
    fields = dict(re.findall(r"^(\w+): +(\d+) kB$", Path("/proc/meminfo").read_text(), re.M))
    return {
        "memory_mb": int(fields["MemTotal"]) >> 10,
        "memory_available_mb": int(fields["MemAvailable"]) >> 10,
    }


def free_mb(path: str) -> int:
    """Space in MB that is free for root on the file system of `path`."""
    status = os.statvfs(path)
    return status.f_bfree * status.f_frsize >> 20


def own_sockets() -> set[int]:
    """The ports that the running service holds, by its own configuration."""
    try:
        # The configuration that it was started with, whatever is the current one.
        config = json.loads(Path(f"/proc/{unit.state().pid}/cwd/config.json").read_text())
        return {config["server"]["port"], config["metrics"]["port"]}
    except (OSError, ValueError, KeyError):
        return set()


def bind_error(address: str, port: int, own: set[int]) -> str | None:
    """Why a TCP socket cannot be bound there, None when it can or when the service itself has it."""
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE and port in own:
            return None
        return os.strerror(error.errno) if error.errno else str(error)
    return None


def main() -> None:
    """Measure and return."""
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
    own = own_sockets() if systemd else set()
    try:
        usable = capacity.usable_gpu(module.params["gpu_vendor"], module.params["gpu_devices"])
    except ValueError as error:
        module.fail_json(msg=f"Refused; nothing was changed on this host. {error}")
    listeners: list[dict[str, Any]] = [
        {**listener, "error": bind_error(listener["address"], listener["port"], own)}
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
            "lacks": [name for name, path in module.params["assets"].items() if not Path(path).exists()],
            "gpu": usable is not None,
            "gpu_vendor": usable.vendor if usable else None,
            "gpu_nodes": usable.nodes if usable else [],
            "listeners": listeners,
        },
    )


if __name__ == "__main__":
    main()
