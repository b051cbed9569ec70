#!/usr/bin/python
"""Serves engines and networks from one host to the others while a deployment runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: asset_share
short_description: Share the files of a deployment from one host of the fleet
description:
  - Sends the engines and networks that several hosts lack once to one host, the asset host. That host serves
    them to the others until the state is C(stopped).
  - Run it once for all hosts, after the role C(preflight), and delegate it to the host that the lookup
    C(katago.fleet.asset_host) names.
  - The files are served over HTTP, read-only, at an address with a random token, to the C(fleet_address) of
    the hosts that lack them. Each host verifies the sha256.
  - The server is a transient unit in a sandbox, under a user of its own. It ends at its time limit if the
    control node does not stop it. Nothing stays on the disk.
  - Does not fail if the files cannot be shared. It warns, and the control node sends them to each host.
  - Shares nothing from a host in security mode.
options:
  state:
    description: Whether the files are shared, or no longer.
    type: str
    choices: [started, stopped]
    required: true
  host:
    description:
      - The asset host. It shares whatever another host lacks.
      - If empty, the first host of the group C(katago) that the run reaches, and only the files that more
        than C(direct_hosts) hosts lack.
    type: str
    default: ""
  direct_hosts:
    description: The number of hosts to which the control node sends a file itself.
    type: int
    default: 2
  port:
    description: The TCP port on the asset host. 0 is a free port.
    type: int
    default: 0
  time_limit:
    description: The maximum duration of a share, in seconds.
    type: int
    default: 3600
  mirror:
    description: The mirror of the fleet. If there is one, no host shares files.
    type: str
    default: ""
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Share the files that hosts lack
  katago.fleet.asset_share:
    state: started
  delegate_to: "{{ lookup('katago.fleet.asset_host') }}"
  run_once: true
"""

RETURN = r"""
shared:
  description: The files that are shared, or would be in check mode.
  type: list
  elements: str
  returned: always
"""

import inspect
import json
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    digest,
    endings,
    sockets,
    systemd_run,
    transient_unit,
)
from ansible_collections.katago.fleet.plugins.module_utils.procedure import security_mode
from ansible_collections.katago.fleet.plugins.module_utils.transfer import asset_server

START_SECONDS = 30
_SANDBOX: systemd_run.Directives = {
    "Description": "Share engines and networks with the fleet",
    "DynamicUser": True,
    "ProtectSystem": "strict",
    "ProtectHome": True,
    "PrivateTmp": True,
    "PrivateDevices": True,
    "PrivateUsers": True,
    "ProtectHostname": True,
    "ProtectClock": True,
    "ProtectKernelTunables": True,
    "ProtectKernelModules": True,
    "ProtectKernelLogs": True,
    "ProtectControlGroups": True,
    "ProtectProc": "invisible",
    "RestrictAddressFamilies": "AF_INET AF_INET6",
    "RestrictNamespaces": True,
    "RestrictRealtime": True,
    "RestrictSUIDSGID": True,
    "LockPersonality": True,
    "MemoryDenyWriteExecute": True,
    "NoNewPrivileges": True,
    "CapabilityBoundingSet": "",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": ["@system-service", "~@privileged @resources"],
    "UMask": "0077",
    "IPAddressDeny": "any",
}


class ShareError(Exception):
    """The files cannot be shared; the message has the cause."""


def resolved(names: list[str]) -> tuple[set[str], list[str]]:
    """The IP addresses of hosts, and the names that have none."""
    addresses: set[str] = set()
    unknown = []
    for name in names:
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            unknown.append(name)
            continue
        addresses.update(asset_server.plain(str(place[0])) for *_, place in found)
    return addresses, unknown


def bundle(sources: dict[str, Path], target: Path) -> dict[str, tuple[int, int]]:
    """Write files one after the other into one; return the offset and the size of each.

    Raises:
        ShareError: a file has another sha256 than the one by which it is named.
    """
    parts = {}
    with target.open("wb") as bundled:
        for sha256, source in sources.items():
            offset = bundled.tell()
            with source.open("rb") as file:
                shutil.copyfileobj(file, bundled, 1 << 20)
            parts[sha256] = (offset, bundled.tell() - offset)
            if (actual := digest.of_file(source)) != sha256:
                raise ShareError(f"the sha256 of {source} is {actual}, not {sha256}")
    return parts


def directives(source: Path, clients: set[str], time_limit: int) -> dict[str, Any]:
    """The sandbox of the server. systemd opens `source` as its standard input."""
    return {
        **_SANDBOX,
        "StandardInput": f"file:{source}",
        "IPAddressAllow": sorted(clients),
        "RuntimeMaxSec": str(time_limit),
    }


def start(parameters: dict[str, Any]) -> dict[str, Any]:
    """Start the server; return its port and the hosts that it does not know."""
    clients, unknown = resolved(parameters["clients"])
    if not clients:
        raise ShareError(f"no host has an IP address: {', '.join(unknown)}")
    address = "::" if any(":" in each for each in clients) else "0.0.0.0"  # noqa: S104 (IPAddressAllow limits it)
    port = int(parameters["port"])
    if port and (problem := sockets.bind_problem(address, port, (), paths.PROC)):
        raise ShareError(f"port {port} cannot be used: {problem}")
    sources = {sha256: Path(path) for sha256, path in parameters["sources"].items()}
    bundled = Path(parameters["bundle"])
    unit = parameters["unit"]
    try:
        order = asset_server.Order(
            parameters["token_sha256"], bundle(sources, bundled), frozenset(clients), address, port
        )
        text = json.dumps({**asdict(order), "clients": sorted(clients)})
        argv = [sys.executable, "-I", "-c", inspect.getsource(asset_server), text]
        command = systemd_run.command(
            directives(bundled, clients, parameters["time_limit"]), argv, unit=unit, wait=False
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ShareError(
                f"systemd did not start {unit}: {endings.describe(done.stderr, status=done.returncode)}"
            )
        return {"port": listening(unit), "unknown": unknown}
    except BaseException:
        transient_unit.clear(unit)
        raise
    finally:
        # The server has the file open, so nothing stays on the disk, however it ends.
        bundled.unlink(missing_ok=True)


def listening(unit: str) -> int:
    """The port of the unit, as soon as it listens."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if ports := sockets.ports_of(transient_unit.processes(unit), paths.PROC):
            return ports.pop()
        time.sleep(0.1)
    raise ShareError(f"{unit} did not listen within {START_SECONDS} s (see `journalctl -u {unit}`)")


def main() -> None:
    """Run one step for the action plugin."""
    module = AnsibleModule(
        argument_spec={
            "step": {"choices": ["probe", "start", "stop"], "required": True},
            "unit": {"type": "str"},
            "installed": {"type": "dict", "default": {}},
            "sources": {"type": "dict", "default": {}},
            "bundle": {"type": "path"},
            "clients": {"type": "list", "elements": "str", "default": []},
            "token_sha256": {"type": "str", "no_log": False},
            "port": {"type": "int", "default": 0},
            "time_limit": {"type": "int", "default": 3600},
        },
    )
    parameters = module.params
    if parameters["step"] == "stop":
        transient_unit.clear(parameters["unit"])
        module.exit_json(changed=True)
    if mode := security_mode.standing(*paths.SECURITY_MODE):
        module.exit_json(changed=False, refused=f"it is in security mode {mode}")
    try:
        if parameters["step"] == "probe":
            intact = [
                sha256
                for sha256, path in parameters["installed"].items()
                if Path(path).is_file() and digest.of_file(path) == sha256
            ]
            module.exit_json(changed=False, intact=intact)
        module.exit_json(changed=True, **start(parameters))
    except (ShareError, OSError) as error:
        module.exit_json(changed=False, refused=str(error))


if __name__ == "__main__":
    main()
