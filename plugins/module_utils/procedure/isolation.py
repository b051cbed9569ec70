"""The firewall table that isolates a host in security mode from clients, and the ports that it blocks."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import sockets
from ansible_collections.katago.fleet.plugins.module_utils.procedure import security_mode
from ansible_collections.katago.fleet.plugins.module_utils.release import layout
from ansible_collections.katago.fleet.plugins.module_utils.service import admin, endpoints
from ansible_collections.katago.fleet.plugins.module_utils.service import unit as service_unit

TABLE = "katago_security"
_SSH_PORT = 22


def ruleset(ports: Collection[int], ssh: Collection[int], user: int | None) -> str:
    """The table for nft, which replaces an earlier one in one transaction.

    Drops traffic of other hosts to `ports`, also on open connections. The host itself keeps access. The
    ports `ssh`, which must not be among `ports`, stay open for all. `user`: a numeric id, whose outgoing
    traffic to other hosts is dropped. Everything else is left to the host's own firewall.
    """
    blocked, open_ = (", ".join(map(str, sorted(each))) for each in (ports, ssh))
    egress = "" if user is None else f"\t\tmeta skuid {user} drop\n"
    return f"""\
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
	chain input {{
		type filter hook input priority -10; policy accept;
		iifname "lo" accept
		tcp dport {{ {open_} }} accept
		tcp dport {{ {blocked} }} drop
	}}

	chain output {{
		type filter hook output priority -10; policy accept;
		oifname "lo" accept
		tcp sport {{ {open_} }} accept
		tcp sport {{ {blocked} }} drop
{egress}\t}}
}}
"""


def unit() -> str:
    """The unit that loads the table at every boot, before the network, while the host is in the mode."""
    return f"""\
[Unit]
Description=Isolation of the KataGo MCP server in security mode
DefaultDependencies=no
ConditionPathExists={paths.SECURITY_MODE_LASTING}
RequiresMountsFor={paths.SECURITY_DIRECTORY}
Wants=network-pre.target
# nftables.service flushes all tables when it starts.
After=nftables.service
Before=network-pre.target {paths.SERVICE_UNIT} shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
ExecStart={paths.NFT} -f {paths.ISOLATION_RULES}

[Install]
WantedBy=sysinit.target
"""


def listed() -> str | None:
    """The table as nft lists it; None if it does not exist.

    Raises:
        OSError: if nft cannot be run.
    """
    done = subprocess.run(
        [paths.NFT, "list", "table", "inet", TABLE], capture_output=True, text=True, timeout=10, check=False
    )
    return done.stdout if done.returncode == 0 else None


def look() -> dict[str, Any]:
    """The state of isolation as plain values.

    `mode`: the mode, None if the host is not in security mode. `isolated`: whether the table is in force
    and unchanged, None if the host need not be isolated.
    """
    mode = security_mode.standing(*paths.SECURITY_MODE)
    if mode is None or not mode.isolated:
        return {"mode": mode and asdict(mode), "isolated": None}
    try:
        table = listed()
    except (OSError, subprocess.SubprocessError):
        table = None
    return {"mode": asdict(mode), "isolated": bool(mode.rules) and table == mode.rules}


def service_ports() -> set[int]:
    """Every port of the service, from the configurations of release and process, and from its sockets."""
    ports = set[int]()
    configurations = [_current_config(), admin.running_config()]
    for config in configurations:
        try:
            bound = endpoints.Endpoints.of(config) if config else endpoints.Endpoints()
        except ValueError:
            bound = endpoints.Endpoints()
        ports |= {bound.port, bound.metrics_port}
    members = service_unit.processes(service_unit.control_group())
    return ports | sockets.ports_of((each["pid"] for each in members), paths.PROC)


def ssh_ports(environment: Mapping[str, str], proc: Path) -> set[int]:
    """The ports that operators need: the port of this connection, and those on which sshd listens."""
    ports = set[int]()
    # Client address and port, server address and port [ssh(1), Environment].
    connection = environment.get("SSH_CONNECTION", "").split()
    if len(connection) == 4 and connection[3].isdigit():
        ports.add(int(connection[3]))
    for directory in proc.glob("[0-9]*"):
        try:
            is_sshd = (directory / "comm").read_text().strip() == "sshd"
        except OSError:
            continue
        if is_sshd:
            ports |= sockets.ports_of([int(directory.name)], proc)
    return ports or {_SSH_PORT}


def _current_config() -> dict[str, Any] | None:
    try:
        return admin.read_config(layout.Layout(paths.RELEASE_ROOT).current)
    except (OSError, ValueError):
        return None
